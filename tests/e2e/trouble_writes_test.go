//go:build e2e

package e2e

import (
	"context"
	"testing"
	"time"

	"k8s.io/apimachinery/pkg/util/wait"

	"velero-plugin-for-kubevirt/tests/cluster"
	"velero-plugin-for-kubevirt/tests/story"
)

// writing returns a VM whose guest writes to two disks in turn, all the time.
func writing(namespace string) *troubleVM {
	return &troubleVM{namespace: namespace, name: "writing", disks: 2, annotations: cluster.WritesAnnotation + ": 2ms"}
}

// troubleRecords waits until the guest writes, more than it had, and returns what each disk holds.
func (w *testCluster) troubleRecords(t *testing.T, vm *troubleVM) [][]int64 {
	t.Helper()
	records := make([][]int64, vm.disks)
	for n := range vm.disks {
		path, err := w.Bytes(t.Context(), vm.namespace, vm.disk(n))
		if err != nil {
			t.Fatal(err)
		}
		before, err := cluster.Records(path)
		if err != nil {
			t.Fatal(err)
		}
		err = wait.PollUntilContextTimeout(t.Context(), 50*time.Millisecond, 20*time.Second, true, func(context.Context) (bool, error) {
			records[n], err = cluster.Records(path)
			return len(records[n]) > len(before)+10, err
		})
		if err != nil {
			t.Fatalf("the guest does not write to %s: %v", vm.disk(n), err)
		}
	}
	return records
}

// torn says whether one of two disks misses records. A restored guest goes on after the highest number that it finds. If the
// other disk's copy is older, that disk's numbers jump there, by more than the two of a guest that takes turns.
func torn(records [][]int64) bool {
	for _, numbers := range records {
		for n := 1; n < len(numbers); n++ {
			if numbers[n]-numbers[n-1] > 2 {
				return true
			}
		}
	}
	return false
}

// troubleCut backs up a VM that writes, loses and restores it, and says whether its disks were copied at different moments.
func (w *testCluster) troubleCut(t *testing.T, vm *troubleVM, backup *story.BackupReport) bool {
	t.Helper()
	w.disaster(t, vm.namespace)
	restored, err := w.Restore(t.Context(), backup.Name, backup.Name, "--include-namespaces", vm.namespace)
	if err != nil {
		t.Fatal(err)
	}
	wentWell(t, *restored)
	if w.troubleRuns(t, vm) == vm.uid {
		t.Error("the VM was never lost")
	}
	return torn(w.troubleRecords(t, vm))
}

// troubleWriting makes a VM and waits until its guest writes.
func (w *testCluster) troubleWriting(t *testing.T, vm *troubleVM) {
	t.Helper()
	w.troubleMake(t, vm)
	vm.uid = w.troubleRuns(t, vm)
	if torn(w.troubleRecords(t, vm)) {
		t.Error("the guest does not write to its disks in turn")
	}
}

// troubleUnhooked waits until KubeVirt took the hooks, with which each pod is born, from a VM's pod.
func (w *testCluster) troubleUnhooked(t *testing.T, vm *troubleVM) {
	t.Helper()
	err := wait.PollUntilContextTimeout(t.Context(), 100*time.Millisecond, 20*time.Second, true, func(context.Context) (bool, error) {
		return w.launcher(t, vm).GetAnnotations()["pre.hook.backup.velero.io/command"] == "", nil
	})
	if err != nil {
		t.Fatalf("the VM keeps its hooks: %v", err)
	}
}
