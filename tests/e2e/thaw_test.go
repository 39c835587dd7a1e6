//go:build e2e

package e2e

import (
	"fmt"
	"slices"
	"testing"
	"time"

	velerov1 "github.com/vmware-tanzu/velero/pkg/apis/velero/v1"

	"velero-plugin-for-kubevirt/tests/cluster"
)

// TestAGuestThawsByItselfWhenVeleroIsKilled kills Velero's server, and the plugin with it, while a guest is frozen. Nobody runs the
// hook that thaws then, but virt-freezer has told the guest when to thaw by itself: after 5 min, here sooner.
func TestAGuestThawsByItselfWhenVeleroIsKilled(t *testing.T) {
	w := kubevirtCluster(t)
	vm := writing("abandoned")
	vm.marks = `kubevirt.io/skip-backup-hooks: "true"` // the backup has its own
	w.troubleWriting(t, vm)
	w.troubleUnhooked(t, vm)
	w.failSnapshots(t, "not yet")
	t.Cleanup(func() { w.failSnapshots(t, "") })
	freeze := velerov1.ExecHook{
		Container: "compute",
		Command:   []string{"/usr/bin/virt-freezer", "--freeze", "--name", vm.name, "--namespace", vm.namespace, "--unfreezeTimeoutSeconds", "15"},
	}
	w.begin(t, velerov1.BackupSpec{
		IncludedNamespaces: []string{vm.namespace},
		Hooks: velerov1.BackupHooks{Resources: []velerov1.BackupResourceHookSpec{{
			Name: "freeze", IncludedResources: []string{"pods"}, PreHooks: []velerov1.BackupResourceHook{{Exec: &freeze}},
		}}},
	})
	w.await(t, time.Minute, func() string {
		if !w.Guest.IsFrozen(vm.namespace, vm.name) {
			return "the guest is not frozen"
		}
		return ""
	})
	if err := w.KillVelero(t.Context()); err != nil {
		t.Fatal(err)
	}
	w.awaitBackup(t, velerov1.BackupPhaseFailed)
	var happened []cluster.Action
	w.await(t, time.Minute, func() string {
		happened = nil
		for _, event := range w.Guest.Events() {
			if event.VMI.Namespace == vm.namespace {
				happened = append(happened, event.Action)
			}
		}
		if !slices.Equal(happened, []cluster.Action{cluster.Frozen, cluster.AutoThawed}) {
			return fmt.Sprintf("the guest was %v", happened)
		}
		return ""
	})
	w.troubleRecords(t, vm) // it writes again

	w.failSnapshots(t, "")
	w.patch(t, w.find(t, vmAPI, "VirtualMachine", vm.namespace)[vm.name], map[string]any{
		"metadata": map[string]any{"annotations": map[string]any{"kubevirt.io/skip-backup-hooks": nil}},
	})
	w.await(t, 20*time.Second, func() string {
		if w.launcher(t, vm).GetAnnotations()["pre.hook.backup.velero.io/command"] == "" {
			return "the launcher has no hooks"
		}
		return ""
	})
	report := w.again(t, "--include-namespaces", vm.namespace)
	wentWell(t, report.Report)
	w.checkVerdicts(t, report, map[string]verdict{"writing": {"filesystem", "", "info"}})
}
