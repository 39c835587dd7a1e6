//go:build e2e

package e2e

import (
	"slices"
	"testing"
)

func TestAPoolMakesItsVMsAnewOnTheirDisks(t *testing.T) {
	w := kubevirtCluster(t)
	w.create(t, "harbour", "pool.yaml")
	w.backUpLoseRestore(t, "harbour", "--include-namespaces", "harbour")
	for name, vm := range w.find(t, vmAPI, "VirtualMachine", "harbour") {
		if owners := vm.GetOwnerReferences(); len(owners) != 1 || owners[0].Kind != "VirtualMachinePool" {
			t.Errorf("VM %s is owned by %v", name, owners)
		}
	}
	for name, revision := range w.find(t, "apps/v1", "ControllerRevision", "harbour") {
		if len(revision.GetOwnerReferences()) == 0 {
			t.Errorf("ControllerRevision %s would never be removed", name)
		}
	}
}

func TestAPoolIsRestoredByItsLabel(t *testing.T) {
	w := kubevirtCluster(t)
	w.create(t, "harbour", "pool.yaml")
	w.backUpLoseChangeRestore(t, "harbour", func() []string { return []string{"--selector", "app=harbourmaster"} }, "--include-namespaces", "harbour")
}

func TestTheVMsOfAPoolAreRestoredWithoutIt(t *testing.T) {
	w := kubevirtCluster(t)
	w.create(t, "harbour", "pool.yaml")
	for claim := range w.find(t, "v1", "PersistentVolumeClaim", "harbour") {
		if err := w.WriteText(t.Context(), "harbour", claim, "written to "+claim); err != nil {
			t.Fatal(err)
		}
	}
	before := w.inventory(t, "harbour")
	report := w.backup(t, "--include-namespaces", "harbour")
	w.loseMachines(t, "harbour")
	w.restore(t, report.Name, "--include-namespaces", "harbour", "--labels", "velero.kubevirt.io/pools=vms")
	w.settle(t, "harbour")
	before.names = slices.DeleteFunc(before.names, func(name string) bool { return name == "VirtualMachinePool fleet" })
	w.sameAgain(t, "harbour", before)
	// That the namespace can be deleted, without the pool that would take its finalizer off its VMs, the end of the test shows.
}
