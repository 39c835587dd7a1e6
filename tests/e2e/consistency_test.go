//go:build e2e

package e2e

import (
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"strings"
	"testing"

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

// checkVerdicts checks what a backup says of VMs, and that "check" foresees the same of the next one.
func (w *testCluster) checkVerdicts(t *testing.T, report *story.BackupReport, want map[string]verdict) {
	t.Helper()
	w.checkUnforeseen(t, report, want)
	w.checkForeseen(t, report, want)
}

// checkUnforeseen checks what a backup says of VMs when what decides it happens during the backup, where "check" cannot see it.
func (w *testCluster) checkUnforeseen(t *testing.T, report *story.BackupReport, want map[string]verdict) {
	t.Helper()
	for name, want := range want {
		if got := verdictOn(report, name); got != want {
			t.Errorf("of %s the backup says %+v, want %+v; its log: %s", name, got, want, strings.Join(report.Trouble(), "\n"))
		}
	}
}

// checkForeseen checks what "check" foresees of VMs in a backup like one that was made.
func (w *testCluster) checkForeseen(t *testing.T, report *story.BackupReport, want map[string]verdict) {
	t.Helper()
	code, said, stderr := w.plugin(t, "check", "backup", report.Name, "-o", "json")
	var foreseen struct {
		VMs []struct {
			Name, WouldBe, Reason string
			Why                   []string
		}
	}
	if err := json.Unmarshal([]byte(said), &foreseen); err != nil {
		t.Fatalf("check exits with %d and says %s: %s", code, stderr, said)
	}
	got := map[string]string{}
	for _, vm := range foreseen.VMs {
		got[vm.Name] = vm.WouldBe + " " + vm.Reason
	}
	for name, want := range want {
		if got[name] != want.level+" "+want.reason {
			t.Errorf("of %s check foresees %q, and the backup says %+v: %s%s", name, got[name], want, stderr, said)
		}
	}
}

// plugin runs the built binary as a person does.
func (w *testCluster) plugin(t *testing.T, args ...string) (code int, stdout, stderr string) {
	t.Helper()
	var out, errs strings.Builder
	command := exec.CommandContext(t.Context(), binary, args...)
	command.Env = append(os.Environ(), "KUBECONFIG="+w.Kubeconfig)
	command.Stdout, command.Stderr = &out, &errs
	if err := command.Run(); err != nil && command.ProcessState == nil {
		t.Fatal(err)
	}
	return command.ProcessState.ExitCode(), out.String(), errs.String()
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

// asked asks for consistency on a VM.
const asked = "velero.kubevirt.io/consistency: required"

// strict returns another VM like one, of which consistency is required.
func strict(vm *troubleVM) *troubleVM {
	other := *vm
	other.name, other.marks = "strict-"+vm.name, asked
	return &other
}

// both are the verdicts on a running VM that is not consistent, and on the one like it that is required to be.
func both(verdicts map[string]verdict, name, reason string) {
	verdicts[name] = verdict{"crash", reason, "warning"}
	verdicts["strict-"+name] = verdict{"crash", reason, "error"}
}

// checkHooks checks how many hooks of a VM's pods Velero tried to run.
func checkHooks(t *testing.T, report *story.BackupReport, want map[string]int) {
	t.Helper()
	for name, count := range want {
		got := countLines(report, "running exec hook", func(line story.Line) bool {
			return strings.Contains(line["hookCommand"], " --name "+name+" ")
		})
		if got != count {
			t.Errorf("%d hooks of %s were tried, want %d", got, name, count)
		}
	}
}

// checkCalls checks how many calls Velero made for a VM and for its VMI when it backed them up.
func checkCalls(t *testing.T, report *story.BackupReport, name string, forVM, forVMI int) {
	t.Helper()
	for resource, want := range map[string]int{"virtualmachines.kubevirt.io": forVM, "virtualmachineinstances.kubevirt.io": forVMI} {
		got := countLines(report, "Executing custom action", func(line story.Line) bool {
			return line["resource"] == resource && line["name"] == name
		})
		if got != want {
			t.Errorf("%d calls for %s %s, want %d", got, resource, name, want)
		}
	}
}

// countLines counts the lines in a backup's log with a message that are wanted.
func countLines(report *story.BackupReport, message string, want func(story.Line) bool) int {
	count := 0
	for _, line := range report.Log {
		if line.Message() == message && want(line) {
			count++
		}
	}
	return count
}

// TestEveryVMHasItsVerdict has, in one namespace, a VM for each state that the cluster can bring a guest into.
func TestEveryVMHasItsVerdict(t *testing.T) {
	w := kubevirtCluster(t)
	good, stopped, noAgent := alone("good", ""), alone("stopped", ""), alone("no-agent", cluster.AgentAnnotation+`: "false"`)
	goodStrict := strict(good)
	paused, noFreeze := alone("paused", ""), alone("no-fsfreeze", cluster.AgentAnnotation+": no-fsfreeze")
	failing, noHooks := alone("failing", cluster.FreezeErrorAnnotation+": the guest refuses"), alone("no-hooks", "")
	noHooks.marks = `kubevirt.io/skip-backup-hooks: "true"`
	migrating := alone("migrating", cluster.MigrationAnnotation+": hold")
	migrating.storage = "source: {blank: {}}, storage: {accessModes: [ReadWriteMany], resources: {requests: {storage: 8Mi}}}"
	booting := alone("booting", cluster.HoldAnnotation+`: "true"`)

	w.troubleMake(t, good, goodStrict, stopped, noAgent, paused, noFreeze, failing, noHooks, migrating, booting)
	for _, vm := range []*troubleVM{good, goodStrict, stopped, noAgent, paused, noFreeze, failing, noHooks, migrating} {
		w.troubleRuns(t, vm)
	}
	w.troubleAsk(t, paused, "pause")
	w.troubleStatus(t, paused, "Paused")
	w.stop(t, stopped)
	w.troubleUnhooked(t, noHooks)
	w.troubleMigrate(t, migrating)
	w.troubleStatus(t, booting, "Starting")

	running := map[string]string{
		"no-agent": "NoGuestAgent", "paused": "Paused", "no-fsfreeze": "FreezeUnsupported", "failing": "HookFailed", "no-hooks": "HooksDisabled",
		"migrating": "Migrating", "booting": "Starting",
	}
	// A hook that fails does not keep Velero from the other one: KubeVirt's do not ask for it.
	hooks := map[string]int{"good": 2, "stopped": 0, "no-agent": 2, "paused": 2, "no-fsfreeze": 2, "failing": 2, "no-hooks": 0}
	for mode, c := range map[string]struct{ args, log string }{
		"BestEffort": {"velero.kubevirt.io/consistency=best-effort", "warning"}, "Required": {"velero.kubevirt.io/consistency=required", "error"},
	} {
		t.Run(mode, func(t *testing.T) {
			report := w.verdictsOf(t, "--include-namespaces", "verdicts", "--labels", c.args)
			want := map[string]verdict{"good": {"filesystem", "", "info"}, "strict-good": {"filesystem", "", "info"}, "stopped": {"offline", "", "info"}}
			for name, reason := range running {
				want[name] = verdict{"crash", reason, c.log}
			}
			w.checkUnforeseen(t, report, map[string]verdict{"failing": want["failing"]}) // that a hook will fail nobody knows
			delete(want, "failing")
			w.checkVerdicts(t, report, want)
			checkHooks(t, report, hooks)
			checkCalls(t, report, "good", 2, 2)
			w.describes(t, report.Name, "no-agent", "NoGuestAgent")
		})
	}
	t.Run("SnapshotDisabled", func(t *testing.T) {
		report := w.verdictsOf(t, "--include-namespaces", "verdicts", "--snapshot-volumes=false")
		w.checkVerdicts(t, report, map[string]verdict{
			"good": {"crash", "SnapshotDisabled", "info"}, "strict-good": {"crash", "SnapshotDisabled", "error"}, "stopped": {"offline", "SnapshotDisabled", "info"},
		})
		checkHooks(t, report, hooks)
		checkCalls(t, report, "good", 1, 0)
	})
	t.Run("PodNotInBackup", func(t *testing.T) {
		report := w.verdictsOf(t, "--include-namespaces", "verdicts", "--exclude-resources", "pods")
		want := map[string]verdict{"stopped": {"offline", "", "info"}}
		both(want, "good", "PodNotInBackup")
		w.checkVerdicts(t, report, want)
		troubleHooks(t, report, 0, 0)
	})
	t.Run("DiskNotSnapshotted", func(t *testing.T) {
		for _, vm := range []*troubleVM{good, goodStrict, stopped} {
			w.label(t, w.find(t, "v1", "PersistentVolumeClaim", vm.namespace)[vm.disk(0)], "velero.io/exclude-from-backup", "true")
		}
		report := w.verdictsOf(t, "--selector", "app in (good, strict-good, stopped)")
		want := map[string]verdict{"stopped": {"offline", "DiskNotSnapshotted", "warning"}}
		both(want, "good", "DiskNotSnapshotted")
		w.checkVerdicts(t, report, want)
		checkHooks(t, report, map[string]int{"good": 2, "strict-good": 2, "stopped": 0})
	})
	t.Run("FileSystemBackup", func(t *testing.T) {
		for _, vm := range []*troubleVM{good, goodStrict} {
			w.label(t, w.find(t, "v1", "PersistentVolumeClaim", vm.namespace)[vm.disk(0)], "velero.io/exclude-from-backup", "false")
		}
		report := w.verdictsOf(t, "--selector", "app in (good, strict-good)", "--default-volumes-to-fs-backup")
		want := map[string]verdict{}
		both(want, "good", "FileSystemBackup")
		w.checkVerdicts(t, report, want)
		checkHooks(t, report, map[string]int{"good": 2, "strict-good": 2})
	})
}

// verdictsOf makes a backup that may have errors.
func (w *testCluster) verdictsOf(t *testing.T, args ...string) *story.BackupReport {
	t.Helper()
	report, err := w.Backup(t.Context(), name(t), args...)
	if err != nil {
		t.Fatal(err)
	}
	return report
}

// describes checks that "velero backup describe" shows a person what is wrong.
func (w *testCluster) describes(t *testing.T, backup string, words ...string) {
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

// TestADiskMayBeOutsideTheWindow has, for each VM, a claim that brings the VM's disk into the backup before the VM: by
// its DataVolume, which waits to be a clone of the disk, and which is not in the backup on its own account.
func TestADiskMayBeOutsideTheWindow(t *testing.T) {
	w := kubevirtCluster(t)
	one := &troubleVM{namespace: "early", name: "preceded", disks: 1}
	for _, vm := range []*troubleVM{one, strict(one)} {
		w.troubleMake(t, vm)
		w.troubleRuns(t, vm)
		w.troubleLoad(t, fmt.Sprintf(`
apiVersion: cdi.kubevirt.io/v1beta1
kind: DataVolume
metadata: {namespace: %[1]s, name: of-%[2]s}
spec:
  source: {pvc: {namespace: %[1]s, name: %[2]s}}
  storage: {storageClassName: %[3]s, resources: {requests: {storage: 8Mi}}}
`, vm.namespace, vm.disk(0), cluster.StorageClassOnDemand))
		w.troubleLoad(t, fmt.Sprintf(`
apiVersion: v1
kind: PersistentVolumeClaim
metadata:
  namespace: %[1]s
  name: a-%[2]s
  labels: {pick: this}
  ownerReferences: [{apiVersion: cdi.kubevirt.io/v1beta1, kind: DataVolume, name: of-%[2]s, controller: true, uid: %[3]s}]
spec: {accessModes: [ReadWriteOnce], resources: {requests: {storage: 8Mi}}}
`, vm.namespace, vm.disk(0), w.find(t, "cdi.kubevirt.io/v1beta1", "DataVolume", vm.namespace)["of-"+vm.disk(0)].GetUID()))
		w.label(t, w.find(t, vmAPI, "VirtualMachine", vm.namespace)[vm.name], "pick", "this")
	}
	report := w.verdictsOf(t, "--selector", "pick=this")
	want := map[string]verdict{}
	both(want, "preceded", "DiskOutsideWindow")
	w.checkUnforeseen(t, report, want) // the order of Velero's items decides it
	checkHooks(t, report, map[string]int{"preceded": 2, "strict-preceded": 2})
}

// TestAWindowMayBeTooLong has two VMs that share a disk, and are frozen together until the last snapshot of both. Each snapshot takes
// a second or more, Windows waits for 10, and Velero comes to the one with few disks last.
func TestAWindowMayBeTooLong(t *testing.T) {
	w := kubevirtCluster(t)
	aged := &troubleVM{namespace: "slow", name: "aged", disks: 10, more: "common", annotations: cluster.AgentAnnotation + ": windows"}
	strictly := strict(aged)
	strictly.disks = 1
	w.troubleLoad(t, fmt.Sprintf(sharedDisk, aged.namespace))
	w.troubleMake(t, aged, strictly)
	w.troubleRuns(t, aged)
	w.troubleRuns(t, strictly)
	report := w.verdictsOf(t, "--include-namespaces", aged.namespace)
	want := map[string]verdict{}
	both(want, "aged", "WindowTooLong")
	w.checkVerdicts(t, report, want)
	checkHooks(t, report, map[string]int{"aged": 2, "strict-aged": 2})
	w.noneIsFrozen(t, aged.namespace)
}

// failSnapshots makes the CSI driver fail every snapshot with an error, or succeed again if there is none.
func (w *testCluster) failSnapshots(t *testing.T, message string) {
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
func (w *testCluster) launcher(t *testing.T, vm *troubleVM) *unstructured.Unstructured {
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
func (w *testCluster) label(t *testing.T, obj *unstructured.Unstructured, key, value string) {
	t.Helper()
	w.patch(t, obj, map[string]any{"metadata": map[string]any{"labels": map[string]any{key: value}}})
}

func (w *testCluster) patch(t *testing.T, obj *unstructured.Unstructured, change map[string]any) {
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
func (w *testCluster) stop(t *testing.T, vm *troubleVM) {
	t.Helper()
	w.patch(t, w.find(t, vmAPI, "VirtualMachine", vm.namespace)[vm.name], map[string]any{"spec": map[string]any{"runStrategy": "Halted"}})
	w.troubleStatus(t, vm, "Stopped")
}
