//go:build e2e

package e2e

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"slices"
	"strings"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"velero-plugin-for-kubevirt/tests/cluster"
	"velero-plugin-for-kubevirt/tests/story"
)

// policy makes the ConfigMap that the plugin prints for a story, or the same for another snapshotter.
func (w *testCluster) policy(t *testing.T, snapshotter string) {
	t.Helper()
	printed, err := exec.CommandContext(t.Context(), binary, "policy").Output()
	if err != nil {
		t.Fatal(err)
	}
	w.loadPolicy(t, strings.Replace(string(printed), "snapshotter: kubevirt", "snapshotter: "+snapshotter, 1))
}

// loadPolicy makes the ConfigMap of a volume policy until the story ends.
func (w *testCluster) loadPolicy(t *testing.T, text string) {
	t.Helper()
	w.load(t, "%s", text)
	t.Cleanup(func() {
		policy := &corev1.ConfigMap{ObjectMeta: metav1.ObjectMeta{Namespace: cluster.VeleroNamespace, Name: "one-cut"}}
		if err := w.Delete(context.WithoutCancel(t.Context()), policy); err != nil {
			t.Error(err)
		}
	})
}

// frozenFor returns how long the guests of a namespace were frozen, one after the other.
func (w *testCluster) frozenFor(namespace string) []time.Duration {
	var windows []time.Duration
	since := map[string]time.Time{}
	for _, event := range w.Guest.Events() {
		switch {
		case event.VMI.Namespace != namespace:
		case event.Action == cluster.Frozen:
			since[event.VMI.Name] = event.Time
		case event.Action == cluster.Thawed:
			windows = append(windows, event.Time.Sub(since[event.VMI.Name]))
		}
	}
	return windows
}

// TestAllDisksAreSnapshottedAtOnce backs up VMs whose volumes a policy gives to the plugin: a guest is frozen for as long as the storage needs. Velero restores and
// deletes the snapshots as if they were its own.
func TestAllDisksAreSnapshottedAtOnce(t *testing.T) {
	w := kubevirtCluster(t)
	vm, stopped := writing("one-cut"), &troubleVM{namespace: "one-cut", name: "stopped", disks: 1}
	w.policy(t, "kubevirt")
	w.troubleWriting(t, vm)
	w.troubleMake(t, stopped)
	w.troubleRuns(t, stopped)
	w.stop(t, stopped)

	report := w.again(t, "--include-namespaces", vm.namespace, "--resource-policies-configmap", "one-cut")
	wentWell(t, report.Report)
	troubleHooks(t, report, 2, 0)
	w.checkVerdicts(t, report, map[string]verdict{"writing": {"filesystem", "", "info"}, "stopped": {"offline", "", "info"}})
	if numbers := w.lastRecords(t, report, vm); differs(numbers) {
		t.Errorf("the disks end with records %v", numbers)
	}
	windows := w.frozenFor(vm.namespace)
	t.Logf("frozen for %v", windows)
	if len(windows) != 1 || windows[0] > 2*time.Second {
		t.Errorf("the guest was frozen for %v", windows)
	}
	cuts := slices.DeleteFunc(slices.Clone(report.Log), func(line story.Line) bool { return line.Message() != "the disks were snapshotted at once" })
	if len(cuts) != 2 || !slices.ContainsFunc(cuts, func(line story.Line) bool {
		return line["claims"] == "one-cut/writing-0, one-cut/writing-1" && line["frozen"] != "" && line["storage"] != ""
	}) {
		t.Errorf("the log tells of the snapshots: %v", cuts)
	}
	if w.troubleCut(t, vm, report) {
		t.Error("the restored disks are of different moments")
	}
	w.deleteBackup(t, report)
}

// deleteBackup deletes a backup and checks that none of its snapshots is left in the driver.
func (w *testCluster) deleteBackup(t *testing.T, report *story.BackupReport) {
	t.Helper()
	handles, err := report.SnapshotHandles()
	if err != nil || len(handles) == 0 {
		t.Fatalf("snapshots %v: %v", handles, err)
	}
	if _, err := w.Velero(t.Context(), "backup", "delete", report.Name, "--confirm"); err != nil {
		t.Fatal(err)
	}
	w.await(t, time.Minute, func() string {
		for claim, handle := range handles {
			if _, err := os.Stat(w.SnapshotBytes(handle)); !errors.Is(err, fs.ErrNotExist) {
				return fmt.Sprintf("the driver has a snapshot of %s: %v", claim, err)
			}
		}
		return ""
	})
}

// TestASnapshotThatIsRefusedIsAnError has the driver refuse the snapshot of one disk: the other is in the backup, the guest is thawed at once, and the refused one is an error.
func TestASnapshotThatIsRefusedIsAnError(t *testing.T) {
	w := kubevirtCluster(t)
	vm := writing("refused")
	w.policy(t, "kubevirt")
	w.troubleWriting(t, vm)
	faults := cluster.CSIFaults{Fail: map[string]string{"CreateSnapshot": "the array is full"}, Snapshots: "velero-writing-1-"}
	if err := w.FailCSI(faults); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { w.failSnapshots(t, "") })
	report := w.again(t, "--include-namespaces", vm.namespace, "--resource-policies-configmap", "one-cut", "--csi-snapshot-timeout", "15s")
	if report.Phase != "PartiallyFailed" {
		t.Errorf("the backup is %s", report.Phase)
	}
	w.checkUnforeseen(t, report, map[string]verdict{"writing": {"crash", "DiskNotSnapshotted", "warning"}})
	if windows := w.frozenFor(vm.namespace); len(windows) != 1 || windows[0] > 5*time.Second {
		t.Errorf("the guest was frozen for %v", windows)
	}
	said := strings.Join(report.Trouble(), "\n")
	for _, want := range []string{"PersistentVolumeClaim refused/writing-1", "VolumeSnapshotClass", "the array is full"} {
		if !strings.Contains(said, want) {
			t.Errorf("the backup does not say %q: %s", want, said)
		}
	}
	if handles, err := report.SnapshotHandles(); err != nil || len(handles) != 1 || handles["writing-0"] == "" {
		t.Errorf("snapshots: %v, %v", handles, err)
	}
	for name, snapshot := range w.find(t, "snapshot.storage.k8s.io/v1", "VolumeSnapshot", vm.namespace) {
		if strings.HasPrefix(name, "velero-writing-1-") && snapshot.GetDeletionTimestamp() == nil {
			t.Errorf("VolumeSnapshot %s is left", name)
		}
	}
	w.failSnapshots(t, "")
	w.deleteBackup(t, report)
}

// TestAPolicyForAnotherSnapshotterIsNotSilent: a volume that nobody takes is said to be in no snapshot.
func TestAPolicyForAnotherSnapshotterIsNotSilent(t *testing.T) {
	w := kubevirtCluster(t)
	vm := healthy("another-snapshotter")
	w.policy(t, "somebody-else")
	w.troubleRun(t, vm)
	report := w.again(t, "--include-namespaces", vm.namespace, "--resource-policies-configmap", "one-cut")
	w.checkVerdicts(t, report, map[string]verdict{"healthy": {"crash", "DiskNotSnapshotted", "warning"}})
}
