//go:build e2e

package e2e

import (
	"fmt"
	"maps"
	"slices"
	"strings"
	"testing"
	"time"

	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"

	"velero-plugin-for-kubevirt/tests/story"
)

const snapshotAPI = "snapshot.kubevirt.io/v1beta1"

// TestASnapshotOfBeforeTheDisasterRestoresItsVMAfterIt takes two snapshots of a VM. The storage keeps the data of one when the namespace is lost.
func TestASnapshotOfBeforeTheDisasterRestoresItsVMAfterIt(t *testing.T) {
	w := kubevirtCluster(t)
	w.create(t, "darkroom", "darkroom.yaml")
	w.writeDisk(t, "darkroom", "film", "written before the snapshot")
	kept := w.photograph(t, "kept", "Retain")
	lost := w.photograph(t, "lost", "Delete")
	w.writeDisk(t, "darkroom", "film", "written after the snapshot")
	report := w.backup(t, "--include-namespaces", "darkroom")
	for name, was := range map[string]*unstructured.Unstructured{"kept": kept, "lost": lost} {
		if is := w.find(t, snapshotAPI, "VirtualMachineSnapshot", "darkroom")[name]; !sameSnapshot(was, is) {
			t.Errorf("after the backup VirtualMachineSnapshot %s is %v", name, is)
		}
	}
	w.loseMachines(t, "darkroom")
	restored := w.restore(t, report.Name, "--include-namespaces", "darkroom")
	w.settle(t, "darkroom")
	w.readDisk(t, "darkroom", "film", "written after the snapshot")

	time.Sleep(10 * time.Second) // that nothing is taken again takes its time
	snapshots := w.find(t, snapshotAPI, "VirtualMachineSnapshot", "darkroom")
	if len(snapshots) != 1 || !sameSnapshot(kept, snapshots["kept"]) {
		t.Errorf("VirtualMachineSnapshots are %v, want kept as it was: %v", snapshots, kept)
	}
	content := text(kept, "status", "virtualMachineSnapshotContentName")
	if contents := slices.Collect(maps.Keys(w.find(t, snapshotAPI, "VirtualMachineSnapshotContent", "darkroom"))); !slices.Equal(contents, []string{content}) {
		t.Errorf("VirtualMachineSnapshotContents are %q, want %s", contents, content)
	}
	volumes := w.volumeSnapshots(t)
	if want := []string{"vmsnapshot-" + string(kept.GetUID()) + "-volume-film"}; !slices.Equal(volumes, want) {
		t.Errorf("VolumeSnapshots of VMs are %q, want %q", volumes, want)
	}
	if !slices.ContainsFunc(restored.LeftOut(), func(l story.Line) bool {
		return l.Level() == "warning" && strings.HasSuffix(l.Item(), text(lost, "status", "virtualMachineSnapshotContentName")) && l["error"] != ""
	}) {
		t.Error("nothing says that the storage has lost the other snapshot")
	}

	w.carryOut(t, `
apiVersion: snapshot.kubevirt.io/v1beta1
kind: VirtualMachineRestore
metadata: {namespace: darkroom, name: rewind}
spec: {target: {apiGroup: kubevirt.io, kind: VirtualMachine, name: camera}, virtualMachineSnapshotName: kept}
`, isTrue("status", "complete"))
	vm := w.find(t, vmAPI, "VirtualMachine", "darkroom")["camera"]
	disks, _, _ := unstructured.NestedSlice(vm.Object, "spec", "template", "spec", "volumes")
	disk, _, _ := unstructured.NestedString(disks[0].(map[string]any), "dataVolume", "name")
	if disk == "film" {
		t.Error("the VM still has the disk that the backup brought")
	}
	w.readDisk(t, "darkroom", disk, "written before the snapshot")

	if err := w.Delete(t.Context(), snapshots["kept"]); err != nil {
		t.Fatal(err)
	}
	w.await(t, 20*time.Second, func() string {
		if left := w.volumeSnapshots(t); len(left) > 0 {
			return fmt.Sprintf("%q outlive their VirtualMachineSnapshot", left)
		}
		return ""
	})
}

// photograph takes a snapshot of the VM, and says what becomes of its data on the storage when it is deleted.
func (w *testCluster) photograph(t *testing.T, name, deletionPolicy string) *unstructured.Unstructured {
	t.Helper()
	w.carryOut(t, fmt.Sprintf(`
apiVersion: snapshot.kubevirt.io/v1beta1
kind: VirtualMachineSnapshot
metadata: {namespace: darkroom, name: %s}
spec: {source: {apiGroup: kubevirt.io, kind: VirtualMachine, name: camera}}
`, name), isTrue("status", "readyToUse"))
	taken := w.find(t, snapshotAPI, "VirtualMachineSnapshot", "darkroom")[name]
	volume := w.find(t, "snapshot.storage.k8s.io/v1", "VolumeSnapshot", "darkroom")["vmsnapshot-"+string(taken.GetUID())+"-volume-film"]
	content := w.find(t, "snapshot.storage.k8s.io/v1", "VolumeSnapshotContent", "")[text(volume, "status", "boundVolumeSnapshotContentName")]
	w.patch(t, content, map[string]any{"spec": map[string]any{"deletionPolicy": deletionPolicy}})
	return taken
}

// volumeSnapshots returns those that are not Velero's.
func (w *testCluster) volumeSnapshots(t *testing.T) []string {
	t.Helper()
	return slices.DeleteFunc(slices.Sorted(maps.Keys(w.find(t, "snapshot.storage.k8s.io/v1", "VolumeSnapshot", "darkroom"))), func(name string) bool {
		return !strings.HasPrefix(name, "vmsnapshot-")
	})
}

// sameSnapshot tells whether a snapshot is ready, and was taken when the other was.
func sameSnapshot(was, is *unstructured.Unstructured) bool {
	return is != nil && isTrue("status", "readyToUse")(is) && phase("Succeeded")(is) &&
		text(is, "status", "creationTime") == text(was, "status", "creationTime") &&
		text(is, "status", "virtualMachineSnapshotContentName") == text(was, "status", "virtualMachineSnapshotContentName")
}
