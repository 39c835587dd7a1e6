package rules

import (
	"k8s.io/apimachinery/pkg/runtime/schema"

	"velero-plugin-for-kubevirt/pkg/kubevirt"
	"velero-plugin-for-kubevirt/pkg/object"
)

// A VMI that belongs to a VM, a replica set or a foreign controller is made anew by its owner. Restored without its owner
// reference and status it would start a second guest on the same disks (KubeVirt 1.9.0, pkg/virt-controller/watch/vm/vm.go;
// the owner is read from the backup, so that backups made without this plugin restore as well).
var vmiOwned = Rule{
	ID:     "vmi-owned",
	Kinds:  []schema.GroupResource{kubevirt.VirtualMachineInstances},
	Phases: []Phase{Restore},
	Why:    "A VirtualMachineInstance that has an owner is left out: its owner makes it.",
	Apply: func(_ map[string]any, in Input) (Result, error) {
		if object.Owner(in.Original) == nil && !object.HasAnnotation(in.Original, kubevirt.IsOwned) {
			return Result{}, nil
		}
		return Result{LeaveOut: "its owner makes a new VirtualMachineInstance"}, nil
	},
}
