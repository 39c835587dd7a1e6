//go:build e2e

package e2e

import (
	"fmt"
	"testing"
	"time"

	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/client-go/util/retry"
)

func TestAHotpluggedDiskComesBack(t *testing.T) {
	w := anywhere(t)
	w.needsGate(t, "DeclarativeHotplugVolumes")
	w.create(t, "yard", "hotplug.yaml")
	w.update(t, "yard", "garage", func(spec map[string]any) {
		volumes, _, _ := unstructured.NestedSlice(spec, "template", "spec", "volumes")
		disks, _, _ := unstructured.NestedSlice(spec, "template", "spec", "domain", "devices", "disks")
		volumes = append(volumes, map[string]any{"name": "spare", "dataVolume": map[string]any{"name": "spare", "hotpluggable": true}})
		disks = append(disks, map[string]any{"name": "spare", "disk": map[string]any{"bus": "scsi"}})
		_ = unstructured.SetNestedSlice(spec, volumes, "template", "spec", "volumes")
		_ = unstructured.SetNestedSlice(spec, disks, "template", "spec", "domain", "devices", "disks")
	})
	w.awaitPlugged(t, "yard", "garage", "spare")
	report := w.backUpLoseRestore(t, "yard", "--selector", "app=garage")
	// VM, VMI, 2 pods, 2 DataVolumes, 2 claims and their volumes.
	oneBlockHeldEveryDisk(t, report, 10)
	w.awaitPlugged(t, "yard", "garage", "spare")
}

// update edits a VM's spec.
func (w *anyCluster) update(t *testing.T, namespace, name string, change func(spec map[string]any)) {
	t.Helper()
	err := retry.RetryOnConflict(retry.DefaultBackoff, func() error {
		vm := w.find(t, vmAPI, "VirtualMachine", namespace)[name]
		change(vm.Object["spec"].(map[string]any))
		return w.Update(t.Context(), vm)
	})
	if err != nil {
		t.Fatal(err)
	}
}

// awaitPlugged waits until a running guest has a hotplugged volume.
func (w *anyCluster) awaitPlugged(t *testing.T, namespace, name, volume string) {
	t.Helper()
	w.await(t, 20*time.Second, func() string {
		if status := w.volumeStatus(t, namespace, name, volume); status["phase"] != "Ready" || status["hotplugVolume"] == nil {
			return fmt.Sprintf("volume %s is %v", volume, status)
		}
		return ""
	})
}
