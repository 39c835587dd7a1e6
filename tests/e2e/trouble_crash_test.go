//go:build e2e

package e2e

import (
	"fmt"
	"testing"
	"time"

	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"

	"velero-plugin-for-kubevirt/tests/cluster"
)

func TestTroubleACrashLoopingVMComesBack(t *testing.T) {
	w := kubevirtCluster(t)
	crashing := &troubleVM{namespace: "crashing", name: "crashing", disks: 1, annotations: cluster.CrashAnnotation + `: "true"`}
	other := healthy("crashing")
	w.troubleRun(t, other)
	w.troubleMake(t, crashing)
	// KubeVirt waits for 10 to 15 s after the first failure and for 40 to 60 s after the second (1.8.4,
	// pkg/virt-controller/watch/vm/vm.go, calculateStartBackoffTime): time for a backup in which the VM has no instance.
	w.crashed(t, crashing, 2)
	w.troubleStatus(t, crashing, "CrashLoopBackOff")
	if err := w.WriteText(t.Context(), crashing.namespace, crashing.disk(0), crashing.text(0)); err != nil {
		t.Fatal(err)
	}
	report := w.backup(t, "--include-namespaces", "crashing")
	troubleHooks(t, report, 2, 0) // the neighbour's
	w.disaster(t, "crashing")
	w.restore(t, report.Name, "--include-namespaces", "crashing")
	w.troubleOver(t, other)
	w.crashed(t, crashing, 1) // counted anew
	w.troubleStatus(t, crashing, "CrashLoopBackOff")
	w.troubleDisks(t, crashing)
}

// crashed waits until so many starts of a VM in a row have failed.
func (w *testCluster) crashed(t *testing.T, vm *troubleVM, times int64) {
	t.Helper()
	w.await(t, 2*time.Minute, func() string {
		live := w.find(t, vmAPI, "VirtualMachine", vm.namespace)[vm.name]
		if live == nil {
			return "there is no VM " + vm.name
		}
		if failures, _, _ := unstructured.NestedInt64(live.Object, "status", "startFailure", "consecutiveFailCount"); failures < times {
			return fmt.Sprintf("VM %s is %v", vm.name, live.Object["status"])
		}
		return ""
	})
}
