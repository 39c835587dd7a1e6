//go:build e2e

package e2e

import (
	"fmt"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
)

func TestARestoreThatUpdatesLeavesARunningVMAlone(t *testing.T) {
	w := kubevirtCluster(t)
	w.create(t, "home", "known.yaml")
	report := w.backup(t, "--include-namespaces", "home")
	w.update(t, "home", "known", func(spec map[string]any) {
		_ = unstructured.SetNestedField(spec, "of-today", "template", "spec", "hostname")
	})
	instance := w.find(t, vmAPI, "VirtualMachineInstance", "home")["known"].GetUID()
	before := w.find(t, vmAPI, "VirtualMachine", "home")["known"].Object["spec"]
	restored, err := w.Restore(t.Context(), name(t), report.Name, "--include-namespaces", "home", "--existing-resource-policy", "update")
	if err != nil {
		t.Fatal(err)
	}
	if restored.Errors != 0 {
		t.Errorf("the restore is %s:\n%s", restored.Phase, strings.Join(restored.Trouble(), "\n"))
	}
	if after := w.find(t, vmAPI, "VirtualMachine", "home")["known"].Object["spec"]; !reflect.DeepEqual(after, before) {
		t.Errorf("the VM was %v and is %v", before, after)
	}
	if now := w.find(t, vmAPI, "VirtualMachineInstance", "home")["known"]; now == nil || now.GetUID() != instance {
		t.Error("the VM does not run as it did")
	}
	var left []string
	for _, line := range restored.LeftOut() {
		if line.Rule() == "existing" {
			left = append(left, line.Item())
		}
	}
	slices.Sort(left)
	want := []string{"datavolumes.cdi.kubevirt.io/home/known-root", "persistentvolumeclaims/home/known-root", "virtualmachines.kubevirt.io/home/known"}
	if slices.IndexFunc(want, func(item string) bool { return !slices.Contains(left, item) }) >= 0 {
		t.Errorf("it says that it left %q, want %q", left, want)
	}
}

func TestAVMIsRestoredWithTheRunStrategyAskedFor(t *testing.T) {
	w := kubevirtCluster(t)
	w.create(t, "home", "known.yaml")
	report := w.backup(t, "--include-namespaces", "home")
	w.loseMachines(t, "home")
	wrong, err := w.Restore(t.Context(), name(t)+"-wrong", report.Name, "--include-namespaces", "home", "--labels", "velero.kubevirt.io/restore-run-strategy=Stopped")
	if err != nil {
		t.Fatal(err)
	}
	if trouble := fmt.Sprint(wrong.Trouble()); wrong.Phase != "PartiallyFailed" || !strings.Contains(trouble, "set one of Always, Halted, Manual") {
		t.Errorf("the restore is %s: %s", wrong.Phase, trouble)
	}
	w.loseMachines(t, "home")
	w.restore(t, report.Name, "--include-namespaces", "home", "--labels", "velero.kubevirt.io/restore-run-strategy=Halted")
	w.settle(t, "home")
	vm := w.find(t, vmAPI, "VirtualMachine", "home")["known"]
	if strategy := text(vm, "spec", "runStrategy"); strategy != "Halted" || len(w.find(t, vmAPI, "VirtualMachineInstance", "home")) != 0 {
		t.Errorf("the VM is %s and %s", strategy, text(vm, "status", "printableStatus"))
	}
}

// The scenarios have the UUID of a VM called web that says none. KubeVirt's controller must derive the same.
func TestKubeVirtDerivesTheUUIDThatTheScenariosHave(t *testing.T) {
	w := kubevirtCluster(t)
	w.troubleMake(t, &troubleVM{namespace: "derived", name: "web", disks: 1})
	w.settle(t, "derived")
	w.update(t, "derived", "web", func(spec map[string]any) {
		unstructured.RemoveNestedField(spec, "template", "spec", "domain", "firmware")
	})
	w.await(t, 20*time.Second, func() string {
		vm := w.find(t, vmAPI, "VirtualMachine", "derived")["web"]
		if uuid := text(vm, "spec", "template", "spec", "domain", "firmware", "uuid"); uuid != "d32ff544-f682-571b-8677-3762f07ab8a4" {
			return "the UUID is " + uuid
		}
		return ""
	})
}
