//go:build e2e

package e2e

import (
	"encoding/json"
	"fmt"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/types"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"velero-plugin-for-kubevirt/tests/cluster"
	"velero-plugin-for-kubevirt/tests/story"
)

// A verdict is what a backup says of a VM.
type verdict struct {
	level, reason string
	log           string // the level of the line in Velero's log
}

func (w *world) checkVerdicts(t *testing.T, report *story.BackupReport, want map[string]verdict) {
	t.Helper()
	for name, want := range want {
		if got := verdictOn(report, name); got != want {
			t.Errorf("of %s the backup says %+v, want %+v; its log: %s", name, got, want, strings.Join(report.Trouble(), "\n"))
		}
	}
}

func verdictOn(report *story.BackupReport, name string) verdict {
	var got verdict
	for _, item := range report.Items {
		if item.GetKind() == "VirtualMachine" && item.GetName() == name {
			annotations := item.GetAnnotations()
			got.level, got.reason = annotations["velero.kubevirt.io/consistency"], annotations["velero.kubevirt.io/consistency-reason"]
		}
	}
	for _, line := range report.Log {
		if line["consistency"] != "" && line["name"] == name {
			got.log = line.Level()
		}
	}
	return got
}

// alone returns a VM that has a namespace for itself and those like it.
func alone(name, annotations string) *troubleVM {
	return &troubleVM{namespace: "verdicts", name: name, disks: 1, annotations: annotations}
}

// TestEveryVMHasItsVerdict has, in one namespace, a VM for each state that the cluster can bring a guest into.
func TestEveryVMHasItsVerdict(t *testing.T) {
	w := living(t)
	good, stopped, mute := alone("good", ""), alone("stopped", ""), alone("mute", cluster.AgentAnnotation+`: "false"`)
	paused, rigid := alone("paused", ""), alone("rigid", cluster.AgentAnnotation+": no-fsfreeze")
	failing, bare := alone("failing", cluster.FreezeErrorAnnotation+": the guest refuses"), alone("bare", "")
	bare.marks = `kubevirt.io/skip-backup-hooks: "true"`
	nomad := alone("nomad", cluster.MigrationAnnotation+": hold")
	nomad.storage = "source: {blank: {}}, storage: {accessModes: [ReadWriteMany], resources: {requests: {storage: 8Mi}}}"
	booting := alone("booting", cluster.HoldAnnotation+`: "true"`)

	w.troubleMake(t, good, stopped, mute, paused, rigid, failing, bare, nomad, booting)
	for _, vm := range []*troubleVM{good, stopped, mute, paused, rigid, failing, bare, nomad} {
		w.troubleRuns(t, vm)
	}
	w.troubleAsk(t, paused, "pause")
	w.troubleStatus(t, paused, "Paused")
	w.stop(t, stopped)
	w.troubleUnhooked(t, bare)
	w.troubleMigrate(t, nomad)
	w.troubleStatus(t, booting, "Starting")

	running := map[string]string{
		"mute": "NoGuestAgent", "paused": "Paused", "rigid": "FreezeUnsupported", "failing": "HookFailed", "bare": "HooksDisabled",
		"nomad": "Migrating", "booting": "Starting",
	}
	t.Run("BestEffort", func(t *testing.T) {
		report := w.troubleBackup(t, hookFailed, "--include-namespaces", "verdicts")
		want := map[string]verdict{"good": {"filesystem", "", "info"}, "stopped": {"offline", "", "info"}}
		for name, reason := range running {
			want[name] = verdict{"crash", reason, "warning"}
		}
		w.checkVerdicts(t, report, want)
	})
	t.Run("Required", func(t *testing.T) {
		report, err := w.Backup(t.Context(), name(t), "--include-namespaces", "verdicts", "--labels", "velero.kubevirt.io/consistency=required")
		if err != nil {
			t.Fatal(err)
		}
		want := map[string]verdict{"good": {"filesystem", "", "info"}, "stopped": {"offline", "", "info"}}
		for name, reason := range running {
			want[name] = verdict{"crash", reason, "error"}
		}
		w.checkVerdicts(t, report, want)
		if report.Phase != "PartiallyFailed" {
			t.Errorf("the backup is %s", report.Phase)
		}
		w.describes(t, report.Name, "mute", "NoGuestAgent")
	})
	t.Run("SnapshotDisabled", func(t *testing.T) {
		report := w.troubleBackup(t, hookFailed, "--include-namespaces", "verdicts", "--snapshot-volumes=false")
		w.checkVerdicts(t, report, map[string]verdict{"good": {"crash", "SnapshotDisabled", "info"}, "stopped": {"offline", "SnapshotDisabled", "info"}})
	})
	t.Run("PodNotInBackup", func(t *testing.T) {
		report := w.troubleBackup(t, "", "--include-namespaces", "verdicts", "--exclude-resources", "pods")
		w.checkVerdicts(t, report, map[string]verdict{"good": {"crash", "PodNotInBackup", "warning"}, "stopped": {"offline", "", "info"}})
		troubleHooks(t, report, 0, 0)
	})
	t.Run("DiskNotSnapshotted", func(t *testing.T) {
		for _, vm := range []*troubleVM{good, stopped} {
			w.label(t, w.find(t, "v1", "PersistentVolumeClaim", vm.namespace)[vm.disk(0)], "velero.io/exclude-from-backup", "true")
		}
		report := w.troubleBackup(t, "", "--selector", "app in (good, stopped)")
		w.checkVerdicts(t, report, map[string]verdict{"good": {"crash", "DiskNotSnapshotted", "warning"}, "stopped": {"offline", "DiskNotSnapshotted", "warning"}})
	})
	t.Run("FileSystemBackup", func(t *testing.T) {
		w.label(t, w.find(t, "v1", "PersistentVolumeClaim", good.namespace)[good.disk(0)], "velero.io/exclude-from-backup", "false")
		report, err := w.Backup(t.Context(), name(t), "--selector", "app=good", "--default-volumes-to-fs-backup")
		if err != nil {
			t.Fatal(err)
		}
		w.checkVerdicts(t, report, map[string]verdict{"good": {"crash", "FileSystemBackup", "warning"}})
	})
}

// describes checks that "velero backup describe" shows a person what is wrong.
func (w *world) describes(t *testing.T, backup string, words ...string) {
	t.Helper()
	text, err := w.Site.Velero(t.Context(), "backup", "describe", backup, "--details")
	if err != nil {
		t.Fatal(err)
	}
	for _, word := range words {
		if !strings.Contains(text, word) {
			t.Errorf("velero backup describe does not say %q:\n%s", word, text)
		}
	}
}

// TestTheVerdictSeesWhatHappensMeanwhile has VMs that change while their disks are being snapshotted.
func TestTheVerdictSeesWhatHappensMeanwhile(t *testing.T) {
	w := living(t)
	for what, c := range map[string]struct {
		meanwhile func(t *testing.T, vm *troubleVM)
		reason    string
	}{
		"Stopping": {w.stop, "Stopping"},
		"Paused": {func(t *testing.T, vm *troubleVM) {
			w.troubleAsk(t, vm, "pause")
			w.troubleStatus(t, vm, "Paused")
			w.troubleAsk(t, vm, "unpause")
			w.troubleStatus(t, vm, "Running")
		}, "Paused"},
		"PluginKilled": {w.killPlugin, "NotObserved"},
	} {
		t.Run(what, func(t *testing.T) {
			vm := &troubleVM{namespace: "meanwhile", name: "changing", disks: 2}
			w.troubleRun(t, vm)
			w.failSnapshots(t, "not yet")
			done := make(chan *story.BackupReport, 1)
			go func() {
				report, err := w.Backup(t.Context(), name(t), "--include-namespaces", vm.namespace)
				if err != nil {
					t.Error(err)
				}
				done <- report
			}()
			w.await(t, 30*time.Second, func() string {
				if !w.Guest.IsFrozen(vm.namespace, vm.name) {
					return "the guest is not frozen"
				}
				return ""
			})
			c.meanwhile(t, vm)
			w.failSnapshots(t, "")
			report := <-done
			if report == nil {
				return
			}
			w.checkVerdicts(t, report, map[string]verdict{"changing": {"crash", c.reason, "warning"}})
			if w.Guest.IsFrozen(vm.namespace, vm.name) {
				t.Error("the guest is still frozen")
			}
		})
	}
	t.Run("WindowTooLong", func(t *testing.T) {
		// Each snapshot takes a second or more; Windows waits for 10.
		vm := &troubleVM{namespace: "meanwhile", name: "changing", disks: 11, annotations: cluster.AgentAnnotation + ": windows"}
		w.troubleRun(t, vm)
		report := w.troubleBackup(t, "", "--include-namespaces", vm.namespace)
		w.checkVerdicts(t, report, map[string]verdict{"changing": {"crash", "WindowTooLong", "warning"}})
	})
	t.Run("DiskOutsideWindow", func(t *testing.T) {
		vm := &troubleVM{namespace: "meanwhile", name: "changing", disks: 1}
		w.troubleRun(t, vm)
		// A DataVolume that waits to be a clone of the VM's disk brings the disk into the backup, before the VM.
		w.troubleLoad(t, `
apiVersion: cdi.kubevirt.io/v1beta1
kind: DataVolume
metadata: {namespace: meanwhile, name: copy, labels: {pick: this}}
spec:
  source: {pvc: {namespace: meanwhile, name: changing-0}}
  storage: {storageClassName: `+cluster.StorageClassOnDemand+`, resources: {requests: {storage: 8Mi}}}
`)
		w.await(t, 20*time.Second, func() string {
			if w.find(t, "v1", "PersistentVolumeClaim", vm.namespace)["copy"] == nil {
				return "there is no claim for the copy yet"
			}
			return ""
		})
		w.label(t, w.find(t, "v1", "PersistentVolumeClaim", vm.namespace)["copy"], "velero.io/exclude-from-backup", "true") // it is not bound
		w.label(t, w.find(t, vmAPI, "VirtualMachine", vm.namespace)[vm.name], "pick", "this")
		report := w.troubleBackup(t, "", "--selector", "pick=this")
		w.checkVerdicts(t, report, map[string]verdict{"changing": {"crash", "DiskOutsideWindow", "warning"}})
	})
}

// failSnapshots makes the CSI driver fail every snapshot with an error, or succeed again if there is none.
func (w *world) failSnapshots(t *testing.T, message string) {
	t.Helper()
	faults := cluster.CSIFaults{}
	if message != "" {
		faults.Fail = map[string]string{"CreateSnapshot": message}
	}
	if err := w.FailCSI(faults); err != nil {
		t.Error(err)
	}
}

// launcher returns the pod that a VM runs in.
func (w *world) launcher(t *testing.T, vm *troubleVM) *unstructured.Unstructured {
	t.Helper()
	for name, pod := range w.find(t, "v1", "Pod", vm.namespace) {
		if strings.HasPrefix(name, "virt-launcher-"+vm.name+"-") {
			return pod
		}
	}
	t.Fatalf("VM %s/%s has no launcher", vm.namespace, vm.name)
	return nil
}

// label sets a label, as kubectl does.
func (w *world) label(t *testing.T, obj *unstructured.Unstructured, key, value string) {
	t.Helper()
	w.patch(t, obj, map[string]any{"metadata": map[string]any{"labels": map[string]any{key: value}}})
}

func (w *world) patch(t *testing.T, obj *unstructured.Unstructured, change map[string]any) {
	t.Helper()
	content, err := json.Marshal(change)
	if err != nil {
		t.Fatal(err)
	}
	if err := w.Patch(t.Context(), obj, client.RawPatch(types.MergePatchType, content)); err != nil {
		t.Fatal(err)
	}
}

// stop stops a VM.
func (w *world) stop(t *testing.T, vm *troubleVM) {
	t.Helper()
	w.patch(t, w.find(t, vmAPI, "VirtualMachine", vm.namespace)[vm.name], map[string]any{"spec": map[string]any{"runStrategy": "Halted"}})
	w.troubleStatus(t, vm, "Stopped")
}

// killPlugin kills the plugin's process in the middle of a backup.
func (w *world) killPlugin(t *testing.T, _ *troubleVM) {
	t.Helper()
	if killed, err := w.KillPlugin(filepath.Base(binary)); err != nil || killed == 0 {
		t.Errorf("%d plugins were killed: %v", killed, err)
	}
}

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
