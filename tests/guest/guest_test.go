//go:build guest && linux

package guest

import (
	"context"
	"errors"
	"fmt"
	"os"
	"runtime"
	"strings"
	"testing"
	"time"

	"velero-plugin-for-kubevirt/pkg/consistency"
	"velero-plugin-for-kubevirt/tests/cluster"
	"velero-plugin-for-kubevirt/tests/story"
)

var site *NodeCluster

// role grants what the plugin needs, besides what Velero needs itself.
const role = "../../pkg/cluster/clusterrole.yaml"

func TestMain(m *testing.M) {
	ctx := Enter()
	var err error
	if site, err = Start(ctx, "../../bin/test-image/velero-plugin-for-kubevirt-linux-"+runtime.GOARCH+".tar", os.Stderr); err != nil {
		fmt.Fprintln(os.Stderr, "guest:", err)
		os.Exit(1)
	}
	watch()
	code := m.Run()
	if err := errors.Join(site.Cluster.CheckRole(role), site.Cluster.Stop()); err != nil {
		fmt.Fprintln(os.Stderr, "guest:", err)
		code = 1
	}
	os.Exit(code)
}

// watch ends the stories with their cluster: they would only wait for what cannot come any more.
func watch() {
	go func(c *cluster.Cluster) {
		<-c.Done()
		fmt.Fprintln(os.Stderr, "FAIL: the stories end here:", c.Err())
		os.Exit(1)
	}(site.Cluster)
}

// patience is for what a busy machine without hardware virtualisation needs a while for: to boot a guest, above all.
const patience = 10 * time.Minute

// boots makes a VM in a namespace of its own, which goes with the test, and waits until its guest writes.
func boots(t *testing.T, vm VM) {
	t.Helper()
	t.Cleanup(func() {
		if err := site.LoseNamespace(context.WithoutCancel(t.Context()), vm.Namespace); err != nil {
			t.Error(err)
		}
	})
	if err := site.Make(t.Context(), vm); err != nil {
		t.Fatal(err)
	}
	runs(t, vm)
}

// runs waits until the agent of a VM is connected and its guest writes.
func runs(t *testing.T, vm VM) {
	t.Helper()
	begin := time.Now()
	if err := site.AwaitAgent(t.Context(), vm, patience); err != nil {
		t.Fatal(err)
	}
	agent := time.Since(begin)
	if err := site.AwaitWrites(t.Context(), vm, 20, patience); err != nil {
		t.Fatal(err)
	}
	t.Logf("agent connected after %.1f s, 20 numbers written after %.1f s", agent.Seconds(), time.Since(begin).Seconds())
}

func name(t *testing.T) string { return strings.ToLower(strings.ReplaceAll(t.Name(), "/", "-")) }

// backup backs up and returns the report with the truth about the disks of a VM.
func backup(t *testing.T, vm VM, args ...string) (*story.BackupReport, Truth) {
	t.Helper()
	report, err := site.Backup(t.Context(), name(t), args...)
	if err != nil {
		t.Fatal(err)
	}
	return report, truthOf(t, vm, report)
}

// verdict returns what a backup says of a VM, and how long it says that the guest had to stay frozen.
func verdict(report *story.BackupReport, vm VM) (level, reason, window string) {
	a := annotations(report, vm)
	return a["velero.kubevirt.io/consistency"], a["velero.kubevirt.io/consistency-reason"], a["velero.kubevirt.io/freeze-window"]
}

// annotations returns those that a VM has in a backup.
func annotations(report *story.BackupReport, vm VM) map[string]string {
	for _, item := range report.Items {
		if item.GetKind() == "VirtualMachine" && item.GetNamespace() == vm.Namespace && item.GetName() == vm.Name {
			return item.GetAnnotations()
		}
	}
	return nil
}

// asking returns for how long the plugin looked at a frozen VM and asked its guest, by its log.
func asking(report *story.BackupReport, vm VM) string {
	for _, line := range report.Log {
		if line["asking"] != "" && line["namespace"] == vm.Namespace && line["name"] == vm.Name {
			return line["asking"]
		}
	}
	return ""
}

func wentWell(t *testing.T, report story.Report) {
	t.Helper()
	if report.Phase != "Completed" || report.Errors+report.Warnings > 0 {
		t.Errorf("%s: %s, %d errors, %d warnings:\n%s", report.Name, report.Phase, report.Errors, report.Warnings, strings.Join(report.Trouble(), "\n"))
	}
}

// TestAVMSurvives is the story of this project: a guest that writes to two disks is backed up, lost with its namespace and restored, and
// has all that it had been told to be stored. What came back goes through the same again, and is stopped at last.
func TestAVMSurvives(t *testing.T) {
	vm := VM{"shop", "web"}
	boots(t, vm)
	t.Run("ByNamespace", func(t *testing.T) { survives(t, vm, "--include-namespaces", vm.Namespace) })
	t.Run("ByLabel", func(t *testing.T) { survives(t, vm, "--selector", "app="+vm.Name) })
	t.Run("WithoutClusterAdmin", func(t *testing.T) { restricted(t, vm) })
	t.Run("Stopped", func(t *testing.T) { stopped(t, vm) })
}

func survives(t *testing.T, vm VM, selection ...string) {
	t.Helper()
	begin := time.Now()
	report, truth := backup(t, vm, selection...)
	wentWell(t, report.Report)
	level, reason, window := verdict(report, vm)
	if level != string(consistency.Filesystem) {
		t.Errorf("the verdict is %q, %q", level, reason)
	}
	if report.HooksAttempted != 2 || report.HooksFailed != 0 {
		t.Errorf("%d hooks were attempted, %d failed", report.HooksAttempted, report.HooksFailed)
	}
	if !truth.Consistent() {
		t.Errorf("the snapshots hold %+v", truth)
	}
	lost(t, vm, truth, begin)
	t.Logf("backup took %.1f s, window %s, snapshots %+v", report.Took.Seconds(), window, truth)

	comesBack(t, vm, report)
	lines, err := site.Console(t.Context(), vm)
	if err != nil {
		t.Fatal(err)
	}
	if found, ok := Found(lines); !ok || found != truth {
		t.Errorf("the restored guest found %+v, the snapshots hold %+v", found, truth)
	}
}

// restricted takes from Velero what it does not need, and the plugin the same.
func restricted(t *testing.T, vm VM) {
	t.Helper()
	if err := site.Cluster.RestrictVelero(t.Context(), role); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := site.Cluster.UnrestrictVelero(context.WithoutCancel(t.Context())); err != nil {
			t.Error(err)
		}
	})
	survives(t, vm, "--include-namespaces", vm.Namespace)
}

// stopped stops a guest, whose agent shuts it down: its disks are as good as frozen ones.
func stopped(t *testing.T, vm VM) {
	t.Helper()
	if err := site.Stop(t.Context(), vm, patience); err != nil {
		t.Fatal(err)
	}
	report, truth := backup(t, vm, "--include-namespaces", vm.Namespace)
	wentWell(t, report.Report)
	if level, reason, _ := verdict(report, vm); level != string(consistency.Offline) || !truth.Consistent() {
		t.Errorf("the verdict is %q, %q, and the snapshots hold %+v", level, reason, truth)
	}
}

// comesBack loses a VM with its namespace, restores it and waits until it runs.
func comesBack(t *testing.T, vm VM, report *story.BackupReport) {
	t.Helper()
	if err := site.LoseNamespace(t.Context(), vm.Namespace); err != nil {
		t.Fatal(err)
	}
	restore, err := site.Restore(t.Context(), name(t), report.Name, "--include-namespaces", vm.Namespace)
	if err != nil {
		t.Fatal(err)
	}
	wentWell(t, *restore)
	runs(t, vm)
}

// lost checks that what the console had said to be on the disks before a moment is in the snapshots that were taken after it, and says
// how long the guest did not write.
func lost(t *testing.T, vm VM, truth Truth, before time.Time) {
	t.Helper()
	lines, err := site.Console(t.Context(), vm)
	if err != nil {
		t.Fatal(err)
	}
	if last := LastBefore(lines, before); last == 0 || truth.Database < last {
		t.Errorf("before the backup the guest had written %d numbers, in the snapshots are %d", last, truth.Database)
	}
	t.Logf("the guest did not write for %s", Pause(lines, truth.Database))
}
