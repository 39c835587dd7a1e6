//go:build e2e

package e2e

import (
	"fmt"
	"testing"
	"time"

	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/util/yaml"

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
metadata: {name: %[1]s-cargo, labels: {velero.io/dynamic-pv-restore: %[1]s.cargo.x1y2z}}
spec:
  storageClassName: files
  accessModes: [ReadWriteOnce]
  capacity: {storage: 8Mi}
  claimRef: {namespace: %[1]s, name: cargo}
  hostPath: {path: /nowhere}
`
)

func (w *world) load(t *testing.T, text string, args ...any) {
	t.Helper()
	obj := &unstructured.Unstructured{}
	if err := yaml.Unmarshal(fmt.Appendf(nil, text, args...), &obj.Object); err != nil {
		t.Fatal(err)
	}
	if err := w.Load(t.Context(), []*unstructured.Unstructured{obj}); err != nil {
		t.Fatal(err)
	}
}

// restoreBeforeTheData backs up a VM, loses it, and begins to restore it while the data of its disk is on its way. It
// returns where the restore's report comes.
func (w *world) restoreBeforeTheData(t *testing.T, namespace string, args ...string) <-chan *story.Report {
	t.Helper()
	w.create(t, namespace, "moved.yaml")
	report := w.backup(t, "--include-namespaces", namespace)
	w.loseMachines(t, namespace)
	w.load(t, waitingClaim, namespace)
	done := make(chan *story.Report, 1)
	go func() {
		restored, err := w.Restore(t.Context(), name(t), report.Name, append([]string{"--include-resources", "virtualmachines.kubevirt.io"}, args...)...)
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
func (w *world) released(t *testing.T, namespace string) {
	t.Helper()
	vm := w.find(t, vmAPI, "VirtualMachine", namespace)["truck"]
	if strategy, held := text(vm, "spec", "runStrategy"), vm.GetAnnotations()["velero.kubevirt.io/held-run-strategy"]; strategy != "Always" || held != "" {
		t.Errorf("the VM is %s, held from being %q", strategy, held)
	}
}

func TestAVMIsHeldUntilItsDataIsThere(t *testing.T) {
	w := living(t)
	done := w.restoreBeforeTheData(t, "harbour")
	time.Sleep(12 * time.Second) // Velero asks every ten seconds
	if text(w.find(t, vmAPI, "VirtualMachine", "harbour")["truck"], "spec", "runStrategy") != "Halted" {
		t.Error("the VM was released before its data is there")
	}
	w.load(t, arrivedVolume, "harbour")
	restored := <-done
	if restored == nil || restored.Phase != "Completed" {
		t.Fatalf("the restore is %+v", restored)
	}
	w.released(t, "harbour")
	w.settle(t, "harbour")
}

func TestAVMIsNotHeldForEver(t *testing.T) {
	w := living(t)
	restored := <-w.restoreBeforeTheData(t, "desert", "--item-operation-timeout", "1s")
	if restored == nil || restored.Phase != "PartiallyFailed" {
		t.Fatalf("the restore is %+v", restored)
	}
	w.released(t, "desert")
}
