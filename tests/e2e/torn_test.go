//go:build e2e

package e2e

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"velero-plugin-for-kubevirt/tests/cluster"
	"velero-plugin-for-kubevirt/tests/story"
)

// TestAFilesystemConsistentBackupIsNeverTorn backs up guests that write to two disks in turn, again and again. What the snapshots
// hold, and what the guests find in the end, is compared with what the backup says of them. Every other backup has one cut. One guest has no
// hooks: its snapshots show that the story can fail. BACKUPS=20 makes as many of each kind.
func TestAFilesystemConsistentBackupIsNeverTorn(t *testing.T) {
	w := kubevirtCluster(t)
	vm, unhooked, other := writing("office"), writing("office"), healthy("office")
	unhooked.name, unhooked.marks = "unhooked", `kubevirt.io/skip-backup-hooks: "true"`
	w.policy(t, "kubevirt")
	w.troubleRun(t, other)
	w.troubleWriting(t, vm)
	w.troubleWriting(t, unhooked)
	w.troubleUnhooked(t, unhooked)
	runs, err := story.Backups(usually)
	if err != nil {
		t.Fatal(err)
	}

	var older *story.BackupReport // of which one guest's disks are of different moments
	found := 0
	for n := 0; n < runs || older == nil && n < runs+5; n++ {
		report := w.again(t, append([]string{"--include-namespaces", "office"}, everyOther(n)...)...)
		wentWell(t, report.Report)
		troubleHooks(t, report, 4, 0)
		w.checkVerdicts(t, report, map[string]verdict{
			"writing": {"filesystem", "", "info"}, "healthy": {"filesystem", "", "info"}, "unhooked": {"crash", "HooksDisabled", "warning"},
		})
		if numbers := w.lastRecords(t, report, vm); differs(numbers) {
			t.Errorf("the disks end with records %v", numbers)
		}
		if differs(w.lastRecords(t, report, unhooked)) {
			found++
			older = report
		}
	}
	if older == nil {
		t.Fatal("without hooks no disk was older than the other: the story cannot see it")
	}
	t.Logf("%d backups without hooks were torn", found)
	if w.troubleCut(t, vm, older) {
		t.Error("the disks were copied at different moments")
	}
	w.troubleOver(t, other)
	w.troubleRuns(t, unhooked)
	if !torn(w.troubleRecords(t, unhooked)) {
		t.Error("the disks of the guest without hooks are of one moment, unlike their snapshots")
	}
}

// TestAFilesystemConsistentBackupByLabelIsNeverTorn does the same with a guest that is selected by its label.
func TestAFilesystemConsistentBackupByLabelIsNeverTorn(t *testing.T) {
	w := kubevirtCluster(t)
	vm := writing("bureau")
	w.policy(t, "kubevirt")
	w.troubleWriting(t, vm)
	runs, err := story.Backups(usually)
	if err != nil {
		t.Fatal(err)
	}
	var report *story.BackupReport
	for n := range runs {
		report = w.again(t, append([]string{"--selector", "app=writing"}, everyOther(n)...)...)
		wentWell(t, report.Report)
		troubleHooks(t, report, 2, 0)
		w.checkVerdicts(t, report, map[string]verdict{"writing": {"filesystem", "", "info"}})
		if numbers := w.lastRecords(t, report, vm); differs(numbers) {
			t.Errorf("the disks end with records %v", numbers)
		}
	}
	if w.troubleCut(t, vm, report) {
		t.Error("the disks were copied at different moments")
	}
}

// everyOther asks for one cut in every other backup.
func everyOther(n int) []string {
	if n%2 == 0 {
		return nil
	}
	return oneCut
}

// usually is how many backups of a kind are made when BACKUPS does not ask for others.
const usually = 3

// again makes a backup with a name of its own.
func (w *testCluster) again(t *testing.T, args ...string) *story.BackupReport {
	t.Helper()
	report, err := w.Backup(t.Context(), fmt.Sprintf("again-%d", time.Now().UnixNano()), args...)
	if err != nil {
		t.Fatal(err)
	}
	return report
}

// lastRecords returns the number of the last record in the snapshot of each disk of a VM in a backup.
func (w *testCluster) lastRecords(t *testing.T, report *story.BackupReport, vm *troubleVM) []int64 {
	t.Helper()
	handles, err := report.SnapshotHandles()
	if err != nil {
		t.Fatal(err)
	}
	var last []int64
	for claim, handle := range handles {
		if !strings.HasPrefix(claim, vm.name+"-") {
			continue
		}
		records, err := cluster.Records(w.SnapshotBytes(handle))
		if err != nil || len(records) == 0 {
			t.Fatalf("snapshot %q holds %d records: %v", handle, len(records), err)
		}
		last = append(last, records[len(records)-1])
	}
	if len(last) != vm.disks {
		t.Fatalf("there are snapshots of %d disks of %s", len(last), vm.name)
	}
	return last
}

// differs tells whether disks were copied at different moments: each is written to only when the next one, and the last when the first, has the record before.
func differs(last []int64) bool {
	for n := range last {
		if last[n]-last[(n+1)%len(last)] > 1 {
			return true
		}
	}
	return false
}
