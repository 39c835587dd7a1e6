//go:build e2e

package e2e

import (
	"fmt"
	"slices"
	"testing"
	"time"

	velerov1 "github.com/vmware-tanzu/velero/pkg/apis/velero/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"velero-plugin-for-kubevirt/tests/cluster"
	"velero-plugin-for-kubevirt/tests/story"
)

// TestTheDisksOfAVMAreOneVolumeGroup has all disks of a VM labelled as a volume group, by their templates: CDI gives the labels
// to the claims, and Velero snapshots those with one call.
func TestTheDisksOfAVMAreOneVolumeGroup(t *testing.T) {
	w := kubevirtCluster(t)
	vm := writing("grouped")
	vm.diskLabels = "velero.io/volume-group: writing, example.com/machine: writing"
	w.troubleWriting(t, vm)
	t.Run("WithAKeyOfTheBackup", func(t *testing.T) {
		report := w.backupGrouped(t, "example.com/machine", vm.namespace)
		w.checkVerdicts(t, report, map[string]verdict{"writing": {"filesystem", "", "info"}})
		oneGroup(t, report)
	})
	t.Run("WithTheDefaultKey", func(t *testing.T) {
		report := w.backup(t, "--include-namespaces", vm.namespace)
		w.checkVerdicts(t, report, map[string]verdict{"writing": {"filesystem", "", "info"}})
		oneGroup(t, report)
		if numbers := w.lastRecords(t, report, vm); differs(numbers) {
			t.Errorf("the disks end with records %v", numbers)
		}
		if w.troubleCut(t, vm, report) {
			t.Error("the restored disks are of different moments")
		}
	})
}

// backupGrouped makes a backup that groups the claims of a namespace by a label. The velero command has no flag for it.
func (w *testCluster) backupGrouped(t *testing.T, key, namespace string) *story.BackupReport {
	t.Helper()
	w.begin(t, velerov1.BackupSpec{IncludedNamespaces: []string{namespace}, VolumeGroupSnapshotLabelKey: key})
	w.awaitBackup(t, velerov1.BackupPhaseCompleted)
	report, err := w.BackupReport(t.Context(), name(t))
	if err != nil {
		t.Fatal(err)
	}
	wentWell(t, report.Report)
	return report
}

// begin begins a backup that the velero command cannot ask for.
func (w *testCluster) begin(t *testing.T, spec velerov1.BackupSpec) {
	t.Helper()
	spec.StorageLocation = "default"
	backup := &velerov1.Backup{ObjectMeta: metav1.ObjectMeta{Namespace: cluster.VeleroNamespace, Name: name(t)}, Spec: spec}
	if err := w.Create(t.Context(), backup); err != nil {
		t.Fatal(err)
	}
}

// awaitBackup waits until the test's backup is in one of some phases.
func (w *testCluster) awaitBackup(t *testing.T, phases ...velerov1.BackupPhase) {
	t.Helper()
	w.await(t, 2*time.Minute, func() string {
		backup := &velerov1.Backup{}
		err := w.Get(t.Context(), client.ObjectKey{Namespace: cluster.VeleroNamespace, Name: name(t)}, backup)
		if err != nil || !slices.Contains(phases, backup.Status.Phase) {
			return fmt.Sprintf("the backup is %q: %v", backup.Status.Phase, err)
		}
		return ""
	})
}

// oneGroup checks that the snapshots of a backup were taken together.
func oneGroup(t *testing.T, report *story.BackupReport) {
	t.Helper()
	snapshots, groups := 0, map[string]bool{}
	for _, item := range report.Items {
		if item.GetKind() == "VolumeSnapshotContent" {
			group, _, _ := unstructured.NestedString(item.Object, "status", "volumeGroupSnapshotHandle")
			groups[group] = true
			snapshots++
		}
	}
	if snapshots != 2 || len(groups) != 1 || groups[""] {
		t.Errorf("the backup has %d snapshots, of the groups %v", snapshots, groups)
	}
}
