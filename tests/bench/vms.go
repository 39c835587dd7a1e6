package main

import (
	"bytes"
	"context"
	_ "embed"
	"fmt"
	"strings"
	"text/template"
	"time"

	"golang.org/x/sync/errgroup"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"sigs.k8s.io/controller-runtime/pkg/client"

	vms "velero-plugin-for-kubevirt/pkg/cluster"
	"velero-plugin-for-kubevirt/tests/cluster"
	"velero-plugin-for-kubevirt/tests/story"
)

// vmTemplate is one running VM: VM, VMI, launcher pod, DataVolume, PVC, PersistentVolume and Secret. The pod has none of KubeVirt's hook
// annotations: a freeze takes the guest's time, the same with every plugin, and would hide what the plugin costs.
//
//go:embed vm.yaml
var vmTemplate string

var vmYAML = template.Must(template.New("vm").Parse(vmTemplate))

// mark is the label of everything that a bench makes.
const mark = "bench"

// vmsPerNamespace is how many VMs share a namespace when they are spread.
const vmsPerNamespace = 20

// namespaces returns the names of those that n VMs live in.
func namespaces(n int, spread bool) []string {
	if !spread {
		return []string{mark}
	}
	var names []string
	for i := 0; i < n; i += vmsPerNamespace {
		names = append(names, fmt.Sprintf("%s-%04d", mark, i/vmsPerNamespace))
	}
	return names
}

// load makes n running VMs.
func load(ctx context.Context, c *cluster.Cluster, n int, in []string) error {
	group, ctx := errgroup.WithContext(ctx)
	group.SetLimit(8)
	for i := range n {
		group.Go(func() error {
			var text bytes.Buffer
			values := map[string]any{"Namespace": in[i*len(in)/n], "Name": fmt.Sprintf("vm-%05d", i), "MAC": fmt.Sprintf("02:00:00:%02x:%02x:%02x", i>>16&0xff, i>>8&0xff, i&0xff), "Number": fmt.Sprintf("%012d", i)}
			if err := vmYAML.Execute(&text, values); err != nil {
				return err
			}
			objects, err := vms.ReadObjects(&text)
			if err != nil {
				return err
			}
			return c.Load(ctx, objects)
		})
	}
	return group.Wait()
}

// kinds are those that a VM is made of, owners first.
var kinds = []string{
	"kubevirt.io/v1 VirtualMachine", "kubevirt.io/v1 VirtualMachineInstance", "v1 Pod", "cdi.kubevirt.io/v1beta1 DataVolume",
	"v1 PersistentVolumeClaim", "v1 Secret", "v1 PersistentVolume",
}

func ofKind(text string) *unstructured.Unstructured {
	apiVersion, kind, _ := strings.Cut(text, " ")
	obj := &unstructured.Unstructured{}
	obj.SetAPIVersion(apiVersion)
	obj.SetKind(kind)
	return obj
}

// lose deletes all VMs and what they are made of. The namespaces stay: their controller would take longer than everything else.
func lose(ctx context.Context, site *story.Site, from []string) error {
	for _, kind := range kinds {
		for _, namespace := range from {
			options := []client.DeleteAllOfOption{client.MatchingLabels{mark: "vm"}, client.GracePeriodSeconds(0)}
			if kind != "v1 PersistentVolume" {
				options = append(options, client.InNamespace(namespace))
			}
			if err := site.DeleteAllOf(ctx, ofKind(kind), options...); err != nil {
				return fmt.Errorf("deleting what is in namespace %s: %w", namespace, err)
			}
		}
	}
	for {
		left := ""
		for _, kind := range kinds {
			list := &unstructured.UnstructuredList{Object: ofKind(kind + "List").Object}
			if err := site.List(ctx, list, client.MatchingLabels{mark: "vm"}, client.Limit(1)); err != nil {
				return fmt.Errorf("looking whether every %s is gone: %w", kind, err)
			}
			if len(list.Items) > 0 {
				left = kind
			}
		}
		if left == "" {
			return nil
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("waiting for every %s to go: %w", left, ctx.Err())
		case <-time.After(200 * time.Millisecond):
		}
	}
}

// count returns how many VMs there are.
func count(ctx context.Context, site *story.Site) (int, error) {
	list := &unstructured.UnstructuredList{Object: ofKind("kubevirt.io/v1 VirtualMachineList").Object}
	err := site.List(ctx, list, client.MatchingLabels{mark: "vm"})
	return len(list.Items), err
}
