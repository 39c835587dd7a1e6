//go:build e2e

package e2e

import (
	"context"
	"fmt"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"sigs.k8s.io/controller-runtime/pkg/client"
)

const (
	goldenURL = "http://images.test/golden.img"
	golden    = "GOLDEN-IMAGE"
	userData  = "USER-DATA"
)

// writeToDisk imports an image into the DataVolume disk of a new namespace, and then writes to it as a guest would.
func (w *testCluster) writeToDisk(t *testing.T, namespace string) {
	t.Helper()
	w.Importer.Serve(goldenURL, []byte(golden))
	volume := &unstructured.Unstructured{Object: map[string]any{
		"apiVersion": "cdi.kubevirt.io/v1beta1", "kind": "DataVolume",
		"metadata": map[string]any{"namespace": namespace, "name": "disk"},
		"spec": map[string]any{
			"source":  map[string]any{"http": map[string]any{"url": goldenURL}},
			"storage": map[string]any{"resources": map[string]any{"requests": map[string]any{"storage": "8Mi"}}},
		},
	}}
	if err := w.Load(t.Context(), []*unstructured.Unstructured{volume}); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { w.lose(t, namespace) })
	w.awaitSucceeded(t, namespace)
	if got := w.diskText(t, namespace); got != golden {
		t.Fatalf("%q was imported", got)
	}
	if err := w.WriteText(t.Context(), namespace, "disk", userData); err != nil {
		t.Fatal(err)
	}
}

// awaitSucceeded waits until CDI says that the DataVolume disk has its bytes.
func (w *testCluster) awaitSucceeded(t *testing.T, namespace string) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	defer cancel()
	volume := &unstructured.Unstructured{}
	volume.SetAPIVersion("cdi.kubevirt.io/v1beta1")
	volume.SetKind("DataVolume")
	for {
		err := w.Get(ctx, client.ObjectKey{Namespace: namespace, Name: "disk"}, volume)
		phase, _, _ := unstructured.NestedString(volume.Object, "status", "phase")
		if err == nil && phase == "Succeeded" {
			return
		}
		select {
		case <-ctx.Done():
			t.Fatalf("the DataVolume is %q: %v", phase, err)
		case <-time.After(100 * time.Millisecond):
		}
	}
}

// diskText returns the text that the disk begins with.
func (w *testCluster) diskText(t *testing.T, namespace string) string {
	t.Helper()
	text, err := w.ReadText(t.Context(), namespace, "disk")
	if err != nil {
		t.Fatal(err)
	}
	return text
}

func TestADataVolumeComesBackWithItsBytes(t *testing.T) {
	w := kubevirtCluster(t)
	w.writeToDisk(t, "media")
	report := w.backup(t, "--include-namespaces", "media")
	w.lose(t, "media")
	w.restore(t, report.Name, "--include-namespaces", "media")
	w.awaitSucceeded(t, "media")
	if got := w.diskText(t, "media"); got != userData {
		t.Errorf("the disk has %q", got)
	}
	claim := w.find(t, "v1", "PersistentVolumeClaim", "media")["disk"]
	if owners := claim.GetOwnerReferences(); len(owners) != 1 || owners[0].Kind != "DataVolume" {
		t.Errorf("the claim's owners are %v", owners)
	}
	if pods := w.find(t, "v1", "Pod", "media"); len(pods) != 0 {
		t.Errorf("CDI imports again: %v", pods)
	}
}

func TestWithoutThePluginADataVolumeIsLost(t *testing.T) {
	w := kubevirtCluster(t)
	if err := w.RemovePlugin(t.Context(), filepath.Base(binary)); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := w.InstallPlugin(context.WithoutCancel(t.Context()), binary); err != nil {
			t.Error(err)
		}
	})
	w.writeToDisk(t, "media")
	report := w.backup(t, "--include-namespaces", "media")
	w.lose(t, "media")
	restored, err := w.Restore(t.Context(), name(t), report.Name, "--include-namespaces", "media")
	if err != nil {
		t.Fatal(err)
	}
	if trouble := fmt.Sprint(restored.Trouble()); !strings.Contains(trouble, "Destination PVC media/disk already exists") {
		t.Errorf("the restore is %s: %s", restored.Phase, trouble)
	}
	if volumes := w.find(t, "cdi.kubevirt.io/v1beta1", "DataVolume", "media"); len(volumes) != 0 {
		t.Errorf("the DataVolume came back: %v", volumes)
	}
	// The bytes did, in a claim that nobody owns.
	if got := w.diskText(t, "media"); got != userData {
		t.Errorf("the disk has %q", got)
	}
}
