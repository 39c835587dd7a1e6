//go:build e2e

package e2e

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"

	"velero-plugin-for-kubevirt/tests/cluster"
	"velero-plugin-for-kubevirt/tests/story"
)

// TestAFilesystemConsistentBackupIsNeverTorn backs up a guest that writes to two disks in turn, again and again. What its snapshots
// hold is compared with what the backup says of it.
func TestAFilesystemConsistentBackupIsNeverTorn(t *testing.T) {
	w := living(t)
	const runs = 10
	for _, selected := range [][]string{{"--include-namespaces", "office"}, {"--selector", "app=busy"}} {
		t.Run(strings.TrimLeft(selected[0], "-"), func(t *testing.T) {
			w.troubleBusy(t, busy("office"))
			for range runs {
				report := w.again(t, selected...)
				w.checkVerdicts(t, report, map[string]verdict{"busy": {"filesystem", "", "info"}})
				if numbers := w.lastRecords(t, report); differs(numbers) {
					t.Errorf("the disks end with records %v", numbers)
				}
			}
		})
	}
	t.Run("without hooks", func(t *testing.T) {
		vm := busy("office")
		vm.marks = `kubevirt.io/skip-backup-hooks: "true"`
		w.troubleBusy(t, vm)
		w.troubleUnhooked(t, vm)
		const unhooked = 4
		found := 0
		for range unhooked {
			report := w.again(t, "--include-namespaces", "office")
			w.checkVerdicts(t, report, map[string]verdict{"busy": {"crash", "HooksDisabled", "warning"}})
			if differs(w.lastRecords(t, report)) {
				found++
			}
		}
		if found == 0 {
			t.Error("no disk was older than the other: the test cannot see it")
		}
		t.Logf("%d of %d backups without hooks were torn", found, unhooked)
	})
}

// again makes a backup with a name of its own.
func (w *world) again(t *testing.T, args ...string) *story.BackupReport {
	t.Helper()
	report, err := w.Backup(t.Context(), fmt.Sprintf("again-%d", time.Now().UnixNano()), args...)
	if err != nil {
		t.Fatal(err)
	}
	return report
}

// lastRecords returns the number of the last record in each snapshot of a backup.
func (w *world) lastRecords(t *testing.T, report *story.BackupReport) []int64 {
	t.Helper()
	var last []int64
	for _, item := range report.Items {
		if item.GetKind() != "VolumeSnapshotContent" {
			continue
		}
		handle, _, _ := unstructured.NestedString(item.Object, "status", "snapshotHandle")
		records, err := cluster.Records(w.SnapshotBytes(handle))
		if err != nil || len(records) == 0 {
			t.Fatalf("snapshot %q holds %d records: %v", handle, len(records), err)
		}
		last = append(last, records[len(records)-1])
	}
	if len(last) != 2 {
		t.Fatalf("there are snapshots of %d disks", len(last))
	}
	return last
}

// differs tells whether two disks were copied at different moments: the guest writes to one and then to the other.
func differs(last []int64) bool { return max(last[0]-last[1], last[1]-last[0]) > 1 }
