package rules

import (
	"k8s.io/apimachinery/pkg/runtime/schema"

	"velero-plugin-for-kubevirt/pkg/kubevirt"
)

// Some objects are not things but orders. What they have done is in their status, which is not restored, so that their
// controllers would carry them out again: put an old snapshot back over the VM, clone it, export it, migrate it.
// A migration without its VirtualMachineInstance is even an error of the restore (KubeVirt 1.9.0, pkg/storage/snapshot,
// pkg/virt-controller/watch/clone, pkg/storage/export; seen on real controllers for migrations).
var operation = Rule{
	ID: "operation",
	Kinds: []schema.GroupResource{
		kubevirt.VirtualMachineInstanceMigrations,
		kubevirt.VirtualMachineRestores, kubevirt.VirtualMachineClones, kubevirt.VirtualMachineExports,
		kubevirt.VirtualMachineBackups, kubevirt.VirtualMachineBackupTrackers, kubevirt.ObjectTransfers,
	},
	Phases: []Phase{Restore},
	Why:    "Restores, clones, exports, migrations and backups of VMs are left out: their controllers would carry them out again.",
	Apply: func(map[string]any, Input) (Result, error) {
		return Result{LeaveOut: "it is an operation and would be carried out again"}, nil
	},
}
