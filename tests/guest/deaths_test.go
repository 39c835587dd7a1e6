//go:build guest && linux

package guest

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	velerov1 "github.com/vmware-tanzu/velero/pkg/apis/velero/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"velero-plugin-for-kubevirt/pkg/consistency"
	"velero-plugin-for-kubevirt/tests/cluster"
	"velero-plugin-for-kubevirt/tests/story"
)

// TestVeleroDiesInTheWindow kills Velero, and the plugin with it, while the guest is frozen. Its launcher thaws it when the connection is lost: virt-freezer alone would
// let it thaw after 5 min (KubeVirt v1.8.4, cmd/virt-freezer).
func TestVeleroDiesInTheWindow(t *testing.T) {
	vm := VM{"veleroless", "patient"} // no other story selects its label
	boots(t, vm)
	beginFrozen(t, vm)
	if err := site.Cluster.KillVelero(t.Context()); err != nil {
		t.Fatal(err)
	}
	if err := site.AwaitFrozen(t.Context(), vm, false, 20*time.Second); err != nil {
		t.Fatal(err)
	}
	if err := site.Cluster.FailCSI(cluster.CSIFaults{}); err != nil {
		t.Fatal(err)
	}
	if err := site.AwaitWrites(t.Context(), vm, 20, patience); err != nil {
		t.Fatal(err)
	}
	lines, err := site.Console(t.Context(), vm)
	if err != nil {
		t.Fatal(err)
	}
	t.Logf("the guest did not write for %s", LongestPause(lines))
	if phase := ended(t); phase != velerov1.BackupPhaseFailed {
		t.Errorf("the backup is %s", phase)
	}
	// The next one is as good as any.
	report, err := site.Backup(t.Context(), name(t)+"-again", "--include-namespaces", vm.Namespace)
	if err != nil {
		t.Fatal(err)
	}
	truth := truthOf(t, vm, report)
	if level, reason, _ := verdict(report, vm); level != string(consistency.Filesystem) || !truth.Consistent() {
		t.Errorf("the verdict on the next backup is %q, %q, and its snapshots hold %+v", level, reason, truth)
	}
}

// TestTheLauncherDiesInTheWindow kills QEMU while its guest is frozen.
func TestTheLauncherDiesInTheWindow(t *testing.T) {
	vm := VM{"powerless", "web"}
	boots(t, vm)
	beginFrozen(t, vm)
	if err := killMachine(vm); err != nil {
		t.Fatal(err)
	}
	if phase := ended(t); phase != velerov1.BackupPhasePartiallyFailed && phase != velerov1.BackupPhaseCompleted {
		t.Errorf("the backup is %s", phase)
	}
	report, err := site.BackupReport(t.Context(), name(t))
	if err != nil {
		t.Fatal(err)
	}
	level, reason, _ := verdict(report, vm)
	if level != string(consistency.Crash) {
		t.Errorf("the verdict is %q, %q, on a guest that nobody could ask any more", level, reason)
	}
	t.Logf("%s; %s %s; snapshots %+v", report.Phase, level, reason, truthOf(t, vm, report))
	runs(t, vm) // KubeVirt starts it again
}

// beginFrozen starts a backup whose snapshots take long, and returns when its guest is frozen. After the test they are quick again.
func beginFrozen(t *testing.T, vm VM) {
	t.Helper()
	if err := site.Cluster.FailCSI(cluster.CSIFaults{CutDelay: 15 * time.Second}); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := site.Cluster.FailCSI(cluster.CSIFaults{}); err != nil {
			t.Error(err)
		}
	})
	if _, err := site.Velero(t.Context(), "backup", "create", name(t), "--include-namespaces", vm.Namespace); err != nil {
		t.Fatal(err)
	}
	if err := site.AwaitFrozen(t.Context(), vm, true, patience); err != nil {
		t.Fatal(err)
	}
}

// ended waits for the end of the test's backup and returns its phase.
func ended(t *testing.T) velerov1.BackupPhase {
	t.Helper()
	var backup velerov1.Backup
	if err := await(t.Context(), patience, "the backup to end", func() (bool, error) {
		err := site.Get(t.Context(), client.ObjectKey{Namespace: cluster.VeleroNamespace, Name: name(t)}, &backup)
		return backup.Status.CompletionTimestamp != nil, err
	}); err != nil {
		t.Fatal(err)
	}
	return backup.Status.Phase
}

// truthOf looks at the snapshots in a backup.
func truthOf(t *testing.T, vm VM, report *story.BackupReport) Truth {
	t.Helper()
	snapshots, err := site.Snapshots(report)
	if err != nil {
		t.Fatal(err)
	}
	truth, err := Inspect(context.WithoutCancel(t.Context()), snapshots[vm.Name+"-root"], snapshots[vm.Name+"-data"])
	if err != nil {
		t.Fatal(err)
	}
	return truth
}

// killMachine kills the QEMU of a VM.
func killMachine(vm VM) error {
	killed, err := cluster.KillCommands(func(args []string) bool {
		return slices.ContainsFunc(args, func(arg string) bool {
			return strings.HasPrefix(arg, fmt.Sprintf("guest=%s_%s,", vm.Namespace, vm.Name))
		})
	})
	if err == nil && killed != 1 {
		err = fmt.Errorf("%d QEMUs run %s/%s", killed, vm.Namespace, vm.Name)
	}
	return err
}
