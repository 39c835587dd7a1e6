package cluster

import (
	"context"
	"fmt"
	"time"

	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
)

// Images of Velero on a Machine. One with a tag that is not latest is not asked for elsewhere if the node has it (Velero v1.18.1,
// pkg/install/deployment.go).
const (
	pluginName       = "velero-plugin-for-kubevirt"
	veleroImage      = "docker.io/velero/velero:test"
	storePluginImage = "docker.io/velero/velero-plugin-for-aws:test"
	pluginImage      = "docker.io/library/velero-plugin-for-kubevirt:test"
)

// installVelero does what people do: velero install, with the plugins as images. The server is a pod, and so are the node agent and the
// data mover.
func (c *Cluster) installVelero(ctx context.Context) error {
	for _, image := range c.veleroImages() {
		if err := c.loadProgramImage(ctx, image); err != nil {
			return err
		}
	}
	if err := c.loadImage(ctx, c.options.Machine.Plugin); err != nil {
		return err
	}
	manifests, err := c.Velero(ctx, "install", "--dry-run", "-o", "yaml",
		"--image", veleroImage, "--plugins", storePluginImage+","+pluginImage, "--features", "EnableCSI",
		"--provider", "aws", "--bucket", bucket, "--secret-file", c.path("credentials"), "--use-volume-snapshots=false",
		"--backup-location-config", "region="+region+",s3ForcePathStyle=true,s3Url="+c.store.url+",checksumAlgorithm=",
		"--use-node-agent", "--privileged-node-agent", // it moves block devices, too
		"--csi-snapshot-early-frequent-polling", // or every snapshot takes 5 s
	)
	if err != nil {
		return err
	}
	objects, err := decode([]byte(manifests))
	if err != nil {
		return err
	}
	for _, obj := range objects {
		if obj.GetKind() == "CustomResourceDefinition" {
			continue // there are all, see definitions
		}
		if _, err := c.clients.create(ctx, obj); err != nil {
			return err
		}
		if obj.GetKind() == "Namespace" {
			if err := c.PublishRootCA(ctx, VeleroNamespace); err != nil {
				return err
			}
		}
	}
	err = c.clients.await(ctx, object("apps/v1", "DaemonSet", VeleroNamespace, "node-agent"), "ready", time.Minute,
		func(live *unstructured.Unstructured) bool {
			ready, _, _ := unstructured.NestedInt64(live.Object, "status", "numberReady")
			return ready == 1
		})
	if err != nil {
		return err
	}
	return poll(ctx, "the Velero server to answer", c.veleroAnswers)
}

// killVeleroInPod kills the server with its plugins. The kubelet starts it again.
func (c *Cluster) killVeleroInPod(ctx context.Context) error {
	killed, err := KillCommands(func(args []string) bool { return len(args) > 1 && args[0] == "/velero" && args[1] == "server" })
	if err == nil && killed != 1 {
		err = fmt.Errorf("there were %d", killed)
	}
	if err != nil {
		return fmt.Errorf("killing the Velero server: %w", err)
	}
	return poll(ctx, "the Velero server to answer again", c.veleroAnswers)
}
