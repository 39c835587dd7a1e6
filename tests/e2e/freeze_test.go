//go:build e2e

package e2e

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"testing"
	"time"

	velerov1 "github.com/vmware-tanzu/velero/pkg/apis/velero/v1"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"

	"velero-plugin-for-kubevirt/tests/cluster"
	"velero-plugin-for-kubevirt/tests/story"
)

// oneCut asks for the policy that gives the disks to the plugin.
var oneCut = []string{"--resource-policies-configmap", "one-cut"}

// inOneCut asks for a backup of a VM's namespace with that policy.
func inOneCut(vm *troubleVM) velerov1.BackupSpec {
	return velerov1.BackupSpec{
		IncludedNamespaces: []string{vm.namespace}, ResourcePolicy: &corev1.TypedLocalObjectReference{Kind: "configmap", Name: "one-cut"},
	}
}

// slowStorage makes the CSI driver take so long before it cuts a snapshot, until the story ends.
func (w *testCluster) slowStorage(t *testing.T, delay time.Duration) {
	t.Helper()
	if err := w.FailCSI(cluster.CSIFaults{CutDelay: delay}); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { w.failSnapshots(t, "") })
}

// thawedAt returns when the guests of a namespace were thawed, however.
func (w *testCluster) thawedAt(namespace string) []time.Time {
	var times []time.Time
	for _, event := range w.Guest.Events() {
		if event.VMI.Namespace == namespace && event.Action != cluster.Frozen {
			times = append(times, event.Time)
		}
	}
	return times
}

// TestAGuestIsThawedBeforeVeleroLooks backs up without a policy. Velero looks at a snapshot once in a while, and thaws the guest after that; the plugin thaws it when
// the snapshot is cut.
func TestAGuestIsThawedBeforeVeleroLooks(t *testing.T) {
	w := kubevirtCluster(t)
	vm := &troubleVM{namespace: "no-policy", name: "one", disks: 1}
	w.troubleRun(t, vm)
	const cut = 1100 * time.Millisecond // Velero looks after 2 s, as often as it can be made to
	w.slowStorage(t, cut)
	report := w.again(t, "--include-namespaces", vm.namespace)
	wentWell(t, report.Report)
	troubleHooks(t, report, 2, 0)
	w.checkVerdicts(t, report, map[string]verdict{vm.name: {"filesystem", "", "info"}})
	windows := w.frozenFor(vm.namespace)
	t.Logf("frozen for %v", windows)
	if len(windows) != 1 || windows[0] < cut || windows[0] > 1900*time.Millisecond {
		t.Errorf("the guest was frozen for %v, the storage took %s", windows, cut)
	}
	w.failSnapshots(t, "")
	w.disaster(t, vm.namespace)
	w.restore(t, report.Name, "--include-namespaces", vm.namespace)
	w.troubleOver(t, vm)
}

// TestNoGuestIsFrozenLongerThanAsked has a storage that takes longer than a guest may be frozen, with and without the policy: the guest is thawed, the snapshots go on,
// and the VM says what they are.
func TestNoGuestIsFrozenLongerThanAsked(t *testing.T) {
	w := kubevirtCluster(t)
	const limit = 2 * time.Second
	vm := &troubleVM{namespace: "impatient", name: "impatient", disks: 2, marks: "velero.kubevirt.io/max-freeze: " + limit.String()}
	w.policy(t, "kubevirt")
	w.troubleRun(t, vm)
	w.slowStorage(t, 4*time.Second)
	for n, args := range [][]string{oneCut, nil} {
		report := w.again(t, append([]string{"--include-namespaces", vm.namespace}, args...)...)
		w.checkUnforeseen(t, report, map[string]verdict{vm.name: {"crash", "WindowTooLong", "warning"}})
		if handles, err := report.SnapshotHandles(); err != nil || len(handles) != 2 || report.Errors != 0 {
			t.Errorf("%s with snapshots %v: %v", report.Phase, handles, err)
		}
		windows := w.frozenFor(vm.namespace)
		t.Logf("frozen for %v", windows)
		if len(windows) != n+1 || windows[n] < limit || windows[n] > limit+2*time.Second {
			t.Errorf("the guest was frozen for %v, it may be for %s", windows, limit)
		}
	}
}

// TestVMsOfAGroupAreOfOneMoment backs up three guests that write in turn, each on its own disk, as parts of one application. As a group their disks are of one moment;
// a group of which one guest cannot be frozen says so. BACKUPS=20 makes as many backups.
func TestVMsOfAGroupAreOfOneMoment(t *testing.T) {
	w := kubevirtCluster(t)
	turns := func(name, other string) *troubleVM {
		return &troubleVM{
			namespace: "group", name: name, disks: 1,
			annotations: cluster.WritesAnnotation + ": 1ms, " + cluster.TurnsAnnotation + ": " + other,
		}
	}
	web, database, queue := turns("web", "database"), turns("database", "queue"), turns("queue", "web")
	w.policy(t, "kubevirt")
	w.troubleMake(t, web, database, queue)
	for _, vm := range []*troubleVM{web, database, queue} {
		w.troubleRuns(t, vm)
		w.label(t, w.find(t, vmAPI, "VirtualMachine", vm.namespace)[vm.name], "velero.kubevirt.io/freeze-together", "app")
	}
	w.troubleRecords(t, web)
	runs, err := story.Backups(1)
	if err != nil {
		t.Fatal(err)
	}
	good := map[string]verdict{"web": {"filesystem", "", "info"}, "database": {"filesystem", "", "info"}, "queue": {"filesystem", "", "info"}}
	for range runs {
		report := w.again(t, append([]string{"--selector", "app=web"}, oneCut...)...) // one of them brings the others
		wentWell(t, report.Report)
		w.checkVerdicts(t, report, good)
		if last := slices.Concat(w.lastRecords(t, report, web), w.lastRecords(t, report, database), w.lastRecords(t, report, queue)); differs(last) {
			t.Errorf("the guests' disks end with records %v", last)
		}
		for _, item := range report.Items {
			if item.GetKind() == "VirtualMachine" && item.GetAnnotations()["velero.kubevirt.io/consistency-group"] != "app" {
				t.Errorf("%s names no group: %v", item.GetName(), item.GetAnnotations())
			}
		}
	}
	windows := w.frozenFor("group")
	t.Logf("frozen for %v", windows)

	w.troubleAsk(t, database, "pause")
	w.troubleStatus(t, database, "Paused")
	report := w.again(t, append([]string{"--include-namespaces", "group"}, oneCut...)...)
	w.checkVerdicts(t, report, map[string]verdict{
		"web": {"filesystem", "NotTogether", "warning"}, "queue": {"filesystem", "NotTogether", "warning"}, "database": {"crash", "Paused", "warning"},
	})
}

// TestAGuestIsThawedWhenWhatFrozeItIsKilled kills the plugin, and then Velero's server with it, while the storage takes its time: the guest's own launcher thaws it at
// once, and nothing is left when the backups are deleted.
func TestAGuestIsThawedWhenWhatFrozeItIsKilled(t *testing.T) {
	w := kubevirtCluster(t)
	vm := writing("orphaned")
	w.policy(t, "kubevirt")
	w.troubleWriting(t, vm)
	w.slowStorage(t, 5*time.Second)
	for _, c := range []killing{
		{"plugin", func() (start, error) { w.killPlugin(t); return nothing, nil }, 3 * time.Second, velerov1.BackupPhasePartiallyFailed},
		{"velero", func() (start, error) { return nothing, w.KillVelero(t.Context()) }, 3 * time.Second, velerov1.BackupPhaseFailed},
	} {
		t.Run(c.what, func(t *testing.T) { w.killedInTheWindow(t, vm, c) })
	}
}

// TestAPluginMayDieAtAnyStep kills the plugin at other moments, before, between and after the snapshots: the guest is thawed at once, a backup does not say
// "filesystem" of disks of different moments, and nothing is left when it is deleted.
func TestAPluginMayDieAtAnyStep(t *testing.T) {
	w := kubevirtCluster(t)
	vm := writing("steps")
	w.policy(t, "kubevirt")
	w.troubleWriting(t, vm)
	for _, after := range []time.Duration{0, 80 * time.Millisecond, 160 * time.Millisecond, 300 * time.Millisecond} {
		t.Run(after.String(), func(t *testing.T) {
			w.begin(t, inOneCut(vm))
			for deadline := time.Now().Add(time.Minute); !w.Guest.IsFrozen(vm.namespace, vm.name); time.Sleep(5 * time.Millisecond) {
				if time.Now().After(deadline) {
					t.Fatal("the guest is not frozen")
				}
			}
			time.Sleep(after)
			w.killPlugin(t)
			w.await(t, 3*time.Second, func() string {
				if w.Guest.IsFrozen(vm.namespace, vm.name) {
					return "the guest is frozen"
				}
				return ""
			})
			w.awaitBackup(t, velerov1.BackupPhaseCompleted, velerov1.BackupPhasePartiallyFailed)
			report, err := w.BackupReport(t.Context(), name(t))
			if err != nil {
				t.Fatal(err)
			}
			said := verdictOn(report, vm.name)
			t.Logf("the backup is %s and says %+v", report.Phase, said)
			if said.level == "filesystem" {
				if numbers := w.lastRecords(t, report, vm); differs(numbers) {
					t.Errorf("the disks end with records %v", numbers)
				}
			}
			w.leavesNothing(t, vm, "the plugin", velerov1.BackupPhase(report.Phase))
		})
	}
}

// TestAGuestIsThawedWhenTheStorageDies kills what makes the snapshots while the storage takes its time: the guest is thawed when it has been frozen
// for as long as it may be, the backup goes on when the part is there again, and nothing is left when it is deleted.
func TestAGuestIsThawedWhenTheStorageDies(t *testing.T) {
	w := kubevirtCluster(t)
	const limit = 4 * time.Second
	vm := writing("waiting")
	vm.marks = "velero.kubevirt.io/max-freeze: " + limit.String()
	w.policy(t, "kubevirt")
	w.troubleWriting(t, vm)
	w.slowStorage(t, 6*time.Second)
	for _, c := range []struct {
		what  string
		parts []string // a driver's sidecars end when it does
	}{
		{"snapshot-controller", []string{"snapshot-controller"}},
		{"csi-snapshotter", []string{"csi-snapshotter"}},
		{"csidriver", []string{"csidriver", "csi-snapshotter", "csi-provisioner"}},
		{"kube-apiserver", []string{"kube-apiserver"}},
	} {
		kill := func() (start, error) { return w.KillParts(c.parts...) }
		t.Run(c.what, func(t *testing.T) {
			w.killedInTheWindow(t, vm, killing{c.what, kill, limit + 2*time.Second, velerov1.BackupPhaseCompleted})
		})
	}
}

// A killing of a part of a backup.
type killing struct {
	what   string
	kill   func() (start, error)
	within time.Duration // the guest must be thawed
	end    velerov1.BackupPhase
}

// start starts again what was killed.
type start func(context.Context) error

func nothing(context.Context) error { return nil }

// killedInTheWindow begins a backup, kills a part of it when the guest is frozen and its snapshots are on their way, and checks what becomes of both.
func (w *testCluster) killedInTheWindow(t *testing.T, vm *troubleVM, c killing) {
	t.Helper()
	w.begin(t, inOneCut(vm))
	before := len(w.thawedAt(vm.namespace))
	w.await(t, time.Minute, func() string {
		// Who asks an API server for a snapshot that is just being killed gets no answer, and cannot wait for it.
		if made := len(w.snapshotsThatStay(t, vm)); !w.Guest.IsFrozen(vm.namespace, vm.name) || made != vm.disks {
			return fmt.Sprintf("the guest is not frozen, or there are %d snapshots, want %d", made, vm.disks)
		}
		return ""
	})
	killed := time.Now()
	again, err := c.kill()
	if err != nil {
		t.Fatal(err)
	}
	w.await(t, 20*time.Second, func() string {
		if len(w.thawedAt(vm.namespace)) == before {
			return "the guest is frozen"
		}
		return ""
	})
	took := w.thawedAt(vm.namespace)[before].Sub(killed)
	t.Logf("the guest was thawed %s after %s had been killed", took, c.what)
	if took > c.within {
		t.Errorf("the guest was thawed %s after %s had been killed", took, c.what)
	}
	if err := again(t.Context()); err != nil {
		t.Fatal(err)
	}
	w.awaitBackup(t, c.end)
	w.leavesNothing(t, vm, c.what, c.end)
}

// leavesNothing deletes a backup in which something was killed, and waits until none of its snapshots is left.
func (w *testCluster) leavesNothing(t *testing.T, vm *troubleVM, killed string, end velerov1.BackupPhase) {
	t.Helper()
	// A snapshot that is deleted while the driver still cuts it goes when the CSI sidecar tries again, which may be minutes later.
	w.await(t, time.Minute, func() string {
		for name, snapshot := range w.snapshotsThatStay(t, vm) {
			if text(snapshot, "status", "creationTime") == "" {
				return "VolumeSnapshot " + name + " is still being cut"
			}
		}
		return ""
	})
	if _, err := w.Velero(t.Context(), "backup", "delete", name(t), "--confirm"); err != nil {
		t.Fatal(err)
	}
	if end == velerov1.BackupPhaseFailed { // nobody tells the plugin of its end: the next backup removes what it has left
		w.await(t, time.Minute, func() string {
			if w.find(t, "velero.io/v1", "Backup", cluster.VeleroNamespace)[name(t)] != nil {
				return "the failed backup is still there"
			}
			return ""
		})
		wentWell(t, w.again(t, append([]string{"--include-namespaces", vm.namespace}, oneCut...)...).Report)
	}
	w.await(t, time.Minute, func() string {
		for name := range w.snapshotsThatStay(t, vm) {
			return fmt.Sprintf("of the backup in which %s was killed there is VolumeSnapshot %s; asked to delete: %v", killed, name, w.deletions(t))
		}
		return ""
	})
}

// deletions returns what has become of the requests to delete backups.
func (w *testCluster) deletions(t *testing.T) (statuses []any) {
	t.Helper()
	for _, request := range w.find(t, "velero.io/v1", "DeleteBackupRequest", cluster.VeleroNamespace) {
		statuses = append(statuses, request.Object["status"])
	}
	return statuses
}

// snapshotsThatStay returns the VolumeSnapshots in a VM's namespace that are not being deleted.
func (w *testCluster) snapshotsThatStay(t *testing.T, vm *troubleVM) map[string]*unstructured.Unstructured {
	t.Helper()
	found := w.find(t, "snapshot.storage.k8s.io/v1", "VolumeSnapshot", vm.namespace)
	maps.DeleteFunc(found, func(_ string, snapshot *unstructured.Unstructured) bool {
		return snapshot.GetDeletionTimestamp() != nil
	})
	return found
}
