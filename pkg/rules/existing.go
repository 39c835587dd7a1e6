package rules

import (
	"slices"

	"k8s.io/apimachinery/pkg/runtime/schema"

	"velero-plugin-for-kubevirt/pkg/kubevirt"
)

// With --existing-resource-policy update Velero patches what is in the cluster into what is in the backup (Velero 1.18.1,
// pkg/restore/restore.go, processUpdateResourcePolicy). KubeVirt takes such a patch of a running VM's spec for a wish: it
// plugs disks, or asks for a restart that gives the guest other hardware.
var existing = Rule{
	ID: "existing",
	Kinds: []schema.GroupResource{
		kubevirt.VirtualMachines, kubevirt.VirtualMachineInstances, kubevirt.DataVolumes, kubevirt.PersistentVolumeClaims,
	},
	Phases: []Phase{Restore},
	Why:    "With --existing-resource-policy update a running VM, and a disk that is there, are left as they are.",
	Apply: func(_ map[string]any, in Input) (Result, error) {
		switch {
		case in.Resource == kubevirt.VirtualMachines && slices.Contains(in.Existing, kubevirt.VirtualMachineInstances):
			return Result{LeaveOut: "a VM of this name runs here, and a running VM is not changed"}, nil
		case in.Resource != kubevirt.VirtualMachines && slices.Contains(in.Existing, in.Resource):
			return Result{LeaveOut: "it is here already, and may be in use"}, nil
		}
		return Result{}, nil
	},
}

// DecidesByExisting tells whether what becomes of an item depends on what is there already.
func DecidesByExisting(resource schema.GroupResource, update bool) bool {
	isSnapshot := resource == kubevirt.VirtualMachineSnapshots || resource == kubevirt.VirtualMachineSnapshotContents
	return isSnapshot || update && slices.Contains(existing.Kinds, resource)
}
