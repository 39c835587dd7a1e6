package rules

import (
	"k8s.io/apimachinery/pkg/runtime/schema"

	"velero-plugin-for-kubevirt/pkg/kubevirt"
	"velero-plugin-for-kubevirt/pkg/object"
)

// Two guests with one MAC address in one network disturb each other, and a MAC address pool rejects the second. Without an
// address KubeVirt, or the pool, gives a new one (KubeVirt 1.9.0, pkg/virt-controller/watch/clone/vm-target.go clears it
// for a clone too).
var vmMACAddress = Rule{
	ID: "vm-mac-address",
	Kinds: []schema.GroupResource{
		kubevirt.VirtualMachines, kubevirt.VirtualMachineInstances, kubevirt.VirtualMachineInstanceReplicaSets, kubevirt.VirtualMachinePools,
	},
	Phases: []Phase{Restore},
	Why:    "A MAC address that another VM of the cluster has is cleared, unless asked otherwise: KubeVirt gives a new one.",
	Apply: func(vm map[string]any, in Input) (Result, error) {
		choice, err := in.identity(vm)
		if err != nil {
			return Result{}, err
		}
		addresses, err := object.Strings(vm, kubevirt.VMISpec[in.Resource]+macAddresses)
		if err != nil {
			return Result{}, err
		}
		var result Result
		for _, address := range addresses {
			if fresh, owners := in.fresh(choice, newIdentifier(MACAddress, address.Value)); fresh {
				delete(address.Parent, "macAddress")
				result.add(madeNew(address.Path, "cleared the MAC address", owners))
			}
		}
		return result, nil
	},
}
