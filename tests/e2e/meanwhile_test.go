//go:build e2e

package e2e

import (
	"fmt"
	"path/filepath"
	"testing"
	"time"

	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"

	"velero-plugin-for-kubevirt/tests/cluster"
	"velero-plugin-for-kubevirt/tests/story"
)

// TestTheVerdictSeesWhatHappensMeanwhile has VMs that change while Velero waits for the first snapshot, that of another VM.
func TestTheVerdictSeesWhatHappensMeanwhile(t *testing.T) {
	w := kubevirtCluster(t)
	const namespace = "meanwhile"
	vm := func(name string) *troubleVM { return &troubleVM{namespace: namespace, name: name, disks: 1} }
	first, halted, unpaused, pictured := vm("a-first"), vm("halted"), vm("unpaused"), vm("pictured")
	first.disks = 3 // with frequent polling Velero 1.18.1 waits for each for 10 s
	all := []*troubleVM{first, halted, strict(halted), unpaused, strict(unpaused), pictured, strict(pictured)}
	w.troubleMake(t, all...)
	for _, vm := range all {
		w.troubleRuns(t, vm)
	}
	report := w.backupMeanwhile(t, first, func() {
		for _, vm := range []*troubleVM{unpaused, strict(unpaused)} {
			w.troubleAsk(t, vm, "pause")
			w.troubleStatus(t, vm, "Paused")
			w.troubleAsk(t, vm, "unpause")
			w.troubleStatus(t, vm, "Running")
		}
		w.stop(t, halted)
		w.stop(t, strict(halted))
		w.picture(t, pictured)
		w.picture(t, strict(pictured))
	})
	want := map[string]verdict{}
	both(want, "halted", "Stopping")
	both(want, "unpaused", "Paused")
	both(want, "pictured", "SnapshotInProgress")
	w.checkUnforeseen(t, report, want)
	checkHooks(t, report, map[string]int{"unpaused": 2, "strict-unpaused": 2, "pictured": 2, "strict-pictured": 2})
	w.noneIsFrozen(t, namespace)
}

// TestTheVerdictAdmitsWhatWasNotSeen kills the plugin while guests are frozen.
func TestTheVerdictAdmitsWhatWasNotSeen(t *testing.T) {
	w := kubevirtCluster(t)
	one := &troubleVM{namespace: "unwatched", name: "forgotten", disks: 2}
	w.troubleMake(t, one, strict(one))
	w.troubleRuns(t, one)
	w.troubleRuns(t, strict(one))
	report := w.backupMeanwhile(t, one, func() { w.killPlugin(t) })
	want := map[string]verdict{}
	both(want, "forgotten", "NotObserved")
	w.checkUnforeseen(t, report, want)
	checkHooks(t, report, map[string]int{"forgotten": 2, "strict-forgotten": 2})
	w.noneIsFrozen(t, one.namespace)
}

// backupMeanwhile backs up the namespace of a VM, and lets something happen while its guest is frozen and its first snapshot is
// not taken.
func (w *testCluster) backupMeanwhile(t *testing.T, first *troubleVM, meanwhile func()) *story.BackupReport {
	t.Helper()
	w.failSnapshots(t, "not yet")
	t.Cleanup(func() { w.failSnapshots(t, "") })
	done := make(chan *story.BackupReport, 1)
	go func() {
		report, err := w.Backup(t.Context(), name(t), "--include-namespaces", first.namespace)
		if err != nil {
			t.Error(err)
		}
		done <- report
	}()
	w.await(t, time.Minute, func() string {
		if !w.Guest.IsFrozen(first.namespace, first.name) {
			return "the guest is not frozen"
		}
		return ""
	})
	meanwhile()
	// Those that KubeVirt takes go on to fail.
	if err := w.FailCSI(cluster.CSIFaults{Fail: map[string]string{"CreateSnapshot": "not at all"}, Snapshots: "vmsnapshot-"}); err != nil {
		t.Fatal(err)
	}
	report := <-done
	if report == nil {
		t.FailNow()
	}
	return report
}

// picture lets KubeVirt begin a snapshot of a VM.
func (w *testCluster) picture(t *testing.T, vm *troubleVM) {
	t.Helper()
	w.troubleLoad(t, fmt.Sprintf(`
apiVersion: snapshot.kubevirt.io/v1beta1
kind: VirtualMachineSnapshot
metadata: {namespace: %[1]s, name: of-%[2]s}
spec: {source: {apiGroup: kubevirt.io, kind: VirtualMachine, name: %[2]s}}
`, vm.namespace, vm.name))
	w.await(t, 30*time.Second, func() string {
		live := w.find(t, vmAPI, "VirtualMachine", vm.namespace)[vm.name]
		if of, _, _ := unstructured.NestedString(live.Object, "status", "snapshotInProgress"); of == "" {
			return "no snapshot of VM " + vm.name + " is in progress"
		}
		return ""
	})
}

func (w *testCluster) noneIsFrozen(t *testing.T, namespace string) {
	t.Helper()
	for name := range w.find(t, vmAPI, "VirtualMachineInstance", namespace) {
		if w.Guest.IsFrozen(namespace, name) {
			t.Errorf("the guest of %s is still frozen", name)
		}
	}
}

// killPlugin kills the plugin's process in the middle of a backup.
func (w *testCluster) killPlugin(t *testing.T) {
	t.Helper()
	if killed, err := w.KillPlugin(filepath.Base(binary)); err != nil || killed == 0 {
		t.Errorf("%d plugins were killed: %v", killed, err)
	}
}
