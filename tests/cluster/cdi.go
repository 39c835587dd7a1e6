package cluster

import (
	"context"
	"crypto/tls"
	"fmt"
	"net/http"
	"os"
	"time"

	"golang.org/x/sync/errgroup"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
)

// cdi is CDI's controllers and webhooks, and a stand-in for what its pods do.
var cdi = part{
	name: "CDI",
	programs: []Program{
		{Name: "cdi-manifests", Module: "cdi", Package: "./manifests"},
		{Name: "cdi-apiserver", Module: "cdi", Package: "./cdi-apiserver"},
		{Name: "cdi-controller", Module: "cdi", Package: "./cdi-controller"},
	},
	start: startCDI,
}

func startCDI(ctx context.Context, c *Cluster) error {
	webhooks, err := c.port()
	if err != nil {
		return err
	}
	if _, err := runProgram(ctx, c.binaries["cdi-manifests"], c.supervisor.environment(),
		"--out", c.path("cdi"), "--webhook-url", "https://"+loopback(webhooks)); err != nil {
		return err
	}
	// The definitions are there already. The upload API is left out: nobody uploads, and an aggregated API without a server
	// keeps namespaces from being deleted.
	if err := c.applyManifests(ctx, "10-rbac.yaml", "20-certificates.yaml", "cdi.yaml"); err != nil {
		return err
	}
	if err := c.clients.createAll(ctx, storageProfile(StorageClass), storageProfile(StorageClassOnDemand)); err != nil {
		return err
	}
	if err := startCDIProcesses(ctx, c, webhooks); err != nil {
		return err
	}
	c.Importer, err = startImporter(c)
	if err != nil {
		return err
	}
	return c.applyManifests(ctx, "50-webhooks.yaml") // last: they refuse everything while nobody serves them
}

// applyManifests creates the objects in files of CDI's manifests, in order of the files.
func (c *Cluster) applyManifests(ctx context.Context, files ...string) error {
	for _, file := range files {
		content, err := os.ReadFile(c.path("cdi", file))
		if err != nil {
			return fmt.Errorf("reading CDI's manifests: %w", err)
		}
		objects, err := decode(content)
		if err != nil {
			return err
		}
		for _, obj := range objects {
			if _, err := c.clients.create(ctx, obj); err != nil {
				return err
			}
		}
	}
	return nil
}

// storageProfile tells CDI what volumes a class has. It knows many drivers, but not ours, and would ask every DataVolume
// to say it itself.
func storageProfile(class string) map[string]any {
	set := func(volume, access string) map[string]any {
		return map[string]any{"volumeMode": volume, "accessModes": []any{access}}
	}
	return map[string]any{
		"apiVersion": "cdi.kubevirt.io/v1beta1", "kind": "StorageProfile", "metadata": map[string]any{"name": class},
		"spec": map[string]any{"claimPropertySets": []any{
			// The first is what a DataVolume gets that says nothing.
			set("Filesystem", "ReadWriteOnce"), set("Block", "ReadWriteMany"), set("Block", "ReadWriteOnce"),
		}},
	}
}

func startCDIProcesses(ctx context.Context, c *Cluster, webhooks int) error {
	readiness, err := c.port()
	if err != nil {
		return err
	}
	// Its certificate is of a CA that CDI's manifests bring along.
	webhookClient := &http.Client{Transport: &http.Transport{
		TLSClientConfig: &tls.Config{InsecureSkipVerify: true}, DisableKeepAlives: true,
	}}
	certificate := c.path("cdi", "certs", "cdi-apiserver-server-cert")
	group, groupCtx := errgroup.WithContext(ctx)
	for _, command := range []command{
		{
			name: "cdi-apiserver", binary: c.binaries["cdi-apiserver"],
			args: []string{
				"--kubeconfig", c.Kubeconfig, "--host", "127.0.0.1", "--port", fmt.Sprint(webhooks),
				"--tls-cert-file", certificate + "/tls.crt", "--tls-private-key-file", certificate + "/tls.key",
			},
			ready: func(ctx context.Context) error {
				return answersOK(ctx, webhookClient, "https://"+loopback(webhooks)+"/healthz", "")
			},
		},
		{
			name: "cdi-controller", binary: c.binaries["cdi-controller"],
			args: []string{
				"--kubeconfig", c.Kubeconfig, "--key-dir", c.path("cdi", "keys"), "--cert-dir", c.path("cdi", "certs"),
				"--health-probe-bind-address", loopback(readiness),
			},
			ready: func(ctx context.Context) error {
				return answersOK(ctx, http.DefaultClient, "http://"+loopback(readiness)+"/readyz", "")
			},
		},
	} {
		group.Go(func() error {
			_, err := c.supervisor.start(groupCtx, command)
			return err
		})
	}
	if err := group.Wait(); err != nil {
		return err
	}
	// The controllers read it for every pod they start, and the first thing they do is to write it.
	config := object("cdi.kubevirt.io/v1beta1", "CDIConfig", "", "config")
	return c.clients.await(ctx, config, "there", 30*time.Second, func(*unstructured.Unstructured) bool { return true })
}
