//go:build e2e

package e2e

import (
	"context"
	"fmt"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	storagev1 "k8s.io/api/storage/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"velero-plugin-for-kubevirt/tests/cluster"
)

// TestAVMMovesToOtherStorageAndWithoutItsImages restores a VM where its storage class has another name, and where one of the
// DataSources that its disks were made from is missing.
func TestAVMMovesToOtherStorageAndWithoutItsImages(t *testing.T) {
	w := kubevirtCluster(t)
	w.makeForTest(t, storageClass("atelier-old"))
	w.create(t, "gallery", "gallery.yaml")
	w.create(t, "atelier", "easel.yaml")
	t.Cleanup(func() { w.loseCopies(t, "atelier") })
	w.writeDisks(t, "atelier")
	before := w.inventory(t, "atelier")
	report := w.backup(t, "--include-namespaces", "atelier")
	w.loseCopies(t, "atelier")
	w.loseMachines(t, "atelier")
	w.lose(t, "gallery")
	if err := w.Delete(t.Context(), storageClass("atelier-old")); err != nil {
		t.Fatal(err)
	}
	w.makeForTest(t, storageClass("atelier-new"))
	w.makeForTest(t, &corev1.ConfigMap{
		ObjectMeta: metav1.ObjectMeta{
			Namespace: cluster.VeleroNamespace, Name: "atelier-classes",
			Labels: map[string]string{"velero.io/plugin-config": "", "velero.io/change-storage-class": "RestoreItemAction"},
		},
		Data: map[string]string{"atelier-old": "atelier-new"},
	})
	w.restore(t, report.Name, "--include-namespaces", "atelier")
	w.settle(t, "atelier")
	w.sameAgain(t, "atelier", before)

	volumes := w.find(t, "cdi.kubevirt.io/v1beta1", "DataVolume", "atelier")
	templates, _, _ := unstructured.NestedSlice(w.find(t, vmAPI, "VirtualMachine", "atelier")["easel"].Object, "spec", "dataVolumeTemplates")
	for what, got := range map[string]string{
		"claim":      text(w.find(t, "v1", "PersistentVolumeClaim", "atelier")["canvas"], "spec", "storageClassName"),
		"DataVolume": text(volumes["canvas"], "spec", "pvc", "storageClassName"),
		"template":   text(&unstructured.Unstructured{Object: templates[0].(map[string]any)}, "spec", "pvc", "storageClassName"),
	} {
		if got != "atelier-new" {
			t.Errorf("the %s is of class %q", what, got)
		}
	}
	// CDI adds to a source what it needs itself.
	if spec := volumes["copy-of-famous"].Object["spec"].(map[string]any); spec["sourceRef"] != nil || text(volumes["copy-of-famous"], "spec", "source", "pvc", "name") != "picture" {
		t.Errorf("the DataVolume whose DataSource is missing is %v", spec)
	}
	if name := text(volumes["copy-of-known"], "spec", "sourceRef", "name"); name != "known" {
		t.Errorf("the DataVolume whose DataSource came along names %q", name)
	}
}

// loseCopies deletes the copies of a namespace before their DataSources: CDI 1.65.0 never lets go of a DataVolume whose DataSource is gone
// ("DataSource … not found" in every run of its datavolume-pvc-clone-controller), and a namespace is deleted in any order.
func (w *anyCluster) loseCopies(t *testing.T, namespace string) {
	t.Helper()
	ctx := context.WithoutCancel(t.Context())
	for _, name := range []string{"copy-of-famous", "copy-of-known"} {
		volume := &unstructured.Unstructured{}
		volume.SetAPIVersion("cdi.kubevirt.io/v1beta1")
		volume.SetKind("DataVolume")
		volume.SetNamespace(namespace)
		volume.SetName(name)
		if err := w.Delete(ctx, volume); client.IgnoreNotFound(err) != nil {
			t.Error(err)
		}
		w.await(t, 20*time.Second, func() string {
			err := w.Get(ctx, client.ObjectKeyFromObject(volume), volume)
			if !apierrors.IsNotFound(err) {
				return fmt.Sprintf("DataVolume %s is left: %v", name, err)
			}
			return ""
		})
	}
}

func storageClass(name string) *storagev1.StorageClass {
	return &storagev1.StorageClass{ObjectMeta: metav1.ObjectMeta{Name: name}, Provisioner: cluster.CSIDriver}
}

// makeForTest creates an object outside of the namespaces of the test, which takes it away at its end.
func (w *anyCluster) makeForTest(t *testing.T, obj client.Object) {
	t.Helper()
	if err := w.Create(t.Context(), obj); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := w.Delete(context.WithoutCancel(t.Context()), obj); client.IgnoreNotFound(err) != nil {
			t.Error(fmt.Errorf("deleting %s: %w", obj.GetName(), err))
		}
	})
}
