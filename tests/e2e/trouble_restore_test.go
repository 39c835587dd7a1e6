//go:build e2e

package e2e

import (
	"context"
	"fmt"
	"strings"
	"testing"
	"time"

	velerov1 "github.com/vmware-tanzu/velero/pkg/apis/velero/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"velero-plugin-for-kubevirt/tests/story"
)

func TestTroubleTwoNamespacesChangePlaces(t *testing.T) {
	w := anywhere(t)
	left := &troubleVM{namespace: "left", name: "lefty", disks: 1}
	right := &troubleVM{namespace: "right", name: "righty", disks: 1}
	w.troubleRun(t, left, right)
	report := w.backup(t, "--include-namespaces", "left,right")
	w.disaster(t, "left", "right")
	w.restore(t, report.Name, "--include-namespaces", "left,right", "--namespace-mappings", "left:right,right:left")
	left.namespace, right.namespace = "right", "left"
	w.troubleOver(t, left, right)
	for _, vm := range []*troubleVM{left, right} {
		if vms := w.find(t, "kubevirt.io/v1", "VirtualMachine", vm.namespace); len(vms) != 1 {
			t.Errorf("namespace %s has %d VMs", vm.namespace, len(vms))
		}
	}
}

func TestTroubleARestoreOverARunningVMChangesNothing(t *testing.T) {
	w := kubevirtCluster(t)
	vm, other := &troubleVM{namespace: "original", name: "running", disks: 2}, healthy("original")
	w.troubleRun(t, vm, other)
	report := w.backup(t, "--include-namespaces", "original")
	if err := w.WriteText(t.Context(), vm.namespace, vm.disk(0), "written later"); err != nil {
		t.Fatal(err)
	}
	before := w.troubleSpecs(t, "original")
	restored, err := w.Restore(t.Context(), name(t), report.Name, "--include-namespaces", "original")
	if err != nil {
		t.Fatal(err)
	}
	if restored.Phase != "Completed" || restored.Errors != 0 {
		t.Errorf("the restore is %s:\n%s", restored.Phase, strings.Join(restored.Trouble(), "\n"))
	}
	for _, line := range restored.Trouble() {
		if !strings.Contains(line, "already exists") && !strings.Contains(line, "No annotations found") {
			t.Errorf("the restore says: %s", line)
		}
	}
	if uid := w.troubleRuns(t, vm); uid != vm.uid {
		t.Error("the VM was restarted")
	}
	if got, err := w.ReadText(t.Context(), vm.namespace, vm.disk(0)); got != "written later" {
		t.Errorf("the disk has %q, %v", got, err)
	}
	for object, spec := range w.troubleSpecs(t, "original") {
		if before[object] != spec {
			t.Errorf("%s was\n%s\nand is\n%s", object, before[object], spec)
		}
	}
}

// troubleSpecs returns identity and spec of all that makes up the VMs of a namespace.
func (w *testCluster) troubleSpecs(t *testing.T, namespace string) map[string]string {
	t.Helper()
	specs := map[string]string{}
	for _, kind := range []string{
		"kubevirt.io/v1 VirtualMachine", "kubevirt.io/v1 VirtualMachineInstance", "cdi.kubevirt.io/v1beta1 DataVolume",
		"v1 PersistentVolumeClaim", "v1 Pod",
	} {
		apiVersion, kind, _ := strings.Cut(kind, " ")
		for name, obj := range w.find(t, apiVersion, kind, namespace) {
			owners, _, _ := unstructured.NestedSlice(obj.Object, "metadata", "ownerReferences")
			specs[kind+" "+name] = fmt.Sprint(obj.GetUID(), owners, obj.Object["spec"])
		}
	}
	return specs
}

func TestTroubleAScheduleKeepsItsBackupsForAWhile(t *testing.T) {
	w := kubevirtCluster(t)
	vm, other := &troubleVM{namespace: "routine", name: "daily", disks: 1}, healthy("routine")
	w.troubleRun(t, vm, other)
	if _, err := w.Velero(t.Context(), "schedule", "create", "routine", "--schedule", "0 0 1 1 *", "--ttl", "1h", "--include-namespaces", "routine"); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if _, err := w.Velero(context.WithoutCancel(t.Context()), "schedule", "delete", "routine", "--confirm"); err != nil {
			t.Error(err)
		}
	})
	// Velero looks at its schedules once a minute. These runs a person asks for.
	var last *story.BackupReport
	for run := range 3 {
		var err error
		if last, err = w.Backup(t.Context(), fmt.Sprintf("routine-%d", run), "--from-schedule", "routine"); err != nil {
			t.Fatal(err)
		}
		wentWell(t, last.Report)
		troubleHooks(t, last, 4, 0)
	}
	var kept velerov1.BackupList
	if err := w.List(t.Context(), &kept, client.MatchingLabels{velerov1.ScheduleNameLabel: "routine"}); err != nil || len(kept.Items) != 3 {
		t.Errorf("the schedule has %d backups, %v", len(kept.Items), err)
	}
	for _, backup := range kept.Items {
		if lives := backup.Status.Expiration.Sub(backup.CreationTimestamp.Time).Round(time.Minute); lives != time.Hour {
			t.Errorf("backup %s is kept for %s", backup.Name, lives)
		}
	}
	w.disaster(t, "routine")
	w.restore(t, last.Name, "--include-namespaces", "routine")
	w.troubleOver(t, vm, other)
}
