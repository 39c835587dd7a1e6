//go:build e2e

package e2e

import (
	"fmt"
	"testing"
	"time"

	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/util/yaml"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"velero-plugin-for-kubevirt/tests/cluster"
	"velero-plugin-for-kubevirt/tests/story"
)

// waitingClaim is a claim as Velero's data mover leaves it until the data is there, and arrivedVolume the volume that it
// makes then.
const (
	waitingClaim = `
apiVersion: v1
kind: PersistentVolumeClaim
metadata: {namespace: %[1]s, name: cargo}
spec:
  storageClassName: files
  accessModes: [ReadWriteOnce]
  resources: {requests: {storage: 8Mi}}
  selector: {matchLabels: {velero.io/dynamic-pv-restore: %[1]s.cargo.x1y2z}}
`
	arrivedVolume = `
apiVersion: v1
kind: PersistentVolume
metadata: {name: %[1]s-cargo, labels: {velero.io/dynamic-pv-restore: %[2]s}}
spec:
  storageClassName: files
  accessModes: [ReadWriteOnce]
  capacity: {storage: 8Mi}
  claimRef: {namespace: %[1]s, name: cargo}
  hostPath: {path: /nowhere}
`
)

func (w *testCluster) load(t *testing.T, text string, args ...any) {
	t.Helper()
	obj := &unstructured.Unstructured{}
	if err := yaml.Unmarshal(fmt.Appendf(nil, text, args...), &obj.Object); err != nil {
		t.Fatal(err)
	}
	if err := w.Load(t.Context(), []*unstructured.Unstructured{obj}); err != nil {
		t.Fatal(err)
	}
}

// beginRestore begins to restore the VM, which must be held. It returns where the restore's report comes.
func (w *testCluster) beginRestore(t *testing.T, namespace, backup string, args ...string) <-chan *story.Report {
	t.Helper()
	done := make(chan *story.Report, 1)
	go func() {
		restored, err := w.Restore(t.Context(), name(t), backup, append([]string{"--include-namespaces", namespace}, args...)...)
		if err != nil {
			t.Error(err)
		}
		done <- restored
	}()
	w.await(t, time.Minute, func() string {
		if w.find(t, vmAPI, "VirtualMachine", namespace)["truck"] == nil {
			return "the VM is not there"
		}
		return ""
	})
	vm := w.find(t, vmAPI, "VirtualMachine", namespace)["truck"]
	if strategy, held := text(vm, "spec", "runStrategy"), vm.GetAnnotations()["velero.kubevirt.io/held-run-strategy"]; strategy != "Halted" || held != "Always" {
		t.Errorf("the VM is %s, held from being %q", strategy, held)
	}
	return done
}

// released checks that a VM has the run strategy that it was backed up with, and no trace of having been held.
func (w *testCluster) released(t *testing.T, namespace string) {
	t.Helper()
	vm := w.find(t, vmAPI, "VirtualMachine", namespace)["truck"]
	if strategy, held := text(vm, "spec", "runStrategy"), vm.GetAnnotations()["velero.kubevirt.io/held-run-strategy"]; strategy != "Always" || held != "" {
		t.Errorf("the VM is %s, held from being %q", strategy, held)
	}
}

// moved says, as Velero's node agent would, that the data of a namespace's one disk has been moved: a DataUpload's when it is
// backed up, a DataDownload's when it is restored.
func (w *testCluster) moved(t *testing.T, kind, namespace string) {
	t.Helper()
	w.await(t, time.Minute, func() string {
		for _, move := range w.find(t, "velero.io/v2alpha1", kind, cluster.VeleroNamespace) {
			if text(move, "spec", "sourceNamespace") != namespace || text(move, "status", "phase") == "Completed" {
				continue
			}
			if err := w.Patch(t.Context(), move, client.RawPatch(types.MergePatchType, []byte(`{"status": {"phase": "Completed"}}`))); err != nil {
				return err.Error()
			}
			return ""
		}
		return "nobody asks for the data to be moved"
	})
}

// backupByDataMover makes a backup of a namespace whose data is moved.
func (w *testCluster) backupByDataMover(t *testing.T, namespace string, args ...string) *story.BackupReport {
	t.Helper()
	done := make(chan *story.BackupReport, 1)
	go func() {
		report, err := w.Backup(t.Context(), name(t), append([]string{"--include-namespaces", namespace, "--snapshot-move-data"}, args...)...)
		if err != nil {
			t.Error(err)
		}
		done <- report
	}()
	w.moved(t, "DataUpload", namespace)
	report := <-done
	if report == nil || report.Phase != "Completed" {
		t.Fatalf("the backup is %+v", report)
	}
	return report
}

// TestAVMIsHeldUntilItsDataIsThere asks for the VM by its label, so that Velero restores its disk after the plugin has seen it. The plugin has taken the snapshot, and
// asked Velero's data mover to move it.
func TestAVMIsHeldUntilItsDataIsThere(t *testing.T) {
	w := kubevirtCluster(t)
	w.policy(t, "kubevirt")
	w.create(t, "canal", "moved.yaml")
	report := w.backupByDataMover(t, "canal", oneCut...)
	if cuts := countLines(report, "the disks were snapshotted at once", func(story.Line) bool { return true }); cuts != 1 {
		t.Errorf("the plugin took the snapshots of %d ItemBlocks", cuts)
	}
	w.loseMachines(t, "canal")
	done := w.beginRestore(t, "canal", report.Name, "--selector", "app=truck")
	time.Sleep(5 * time.Second) // Velero asks every two seconds
	if text(w.find(t, vmAPI, "VirtualMachine", "canal")["truck"], "spec", "runStrategy") != "Halted" {
		t.Error("the VM was released before its data is there")
	}
	claim := w.find(t, "v1", "PersistentVolumeClaim", "canal")["cargo"]
	w.load(t, arrivedVolume, "canal", text(claim, "spec", "selector", "matchLabels", "velero.io/dynamic-pv-restore"))
	w.moved(t, "DataDownload", "canal")
	restored := <-done
	if restored == nil || restored.Phase != "Completed" {
		t.Fatalf("the restore is %+v", restored)
	}
	w.released(t, "canal")
	w.settle(t, "canal")
}

func TestAVMIsNotHeldForEver(t *testing.T) {
	w := kubevirtCluster(t)
	w.create(t, "desert", "moved.yaml")
	report := w.backupByDataMover(t, "desert")
	w.loseMachines(t, "desert")
	w.load(t, waitingClaim, "desert")
	restored := <-w.beginRestore(t, "desert", report.Name, "--include-resources", "virtualmachines.kubevirt.io", "--item-operation-timeout", "1s")
	if restored == nil || restored.Phase != "PartiallyFailed" {
		t.Fatalf("the restore is %+v", restored)
	}
	w.released(t, "desert")
}
