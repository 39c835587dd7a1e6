package rules

import (
	"k8s.io/apimachinery/pkg/runtime/schema"

	"velero-plugin-for-kubevirt/pkg/kubevirt"
	"velero-plugin-for-kubevirt/pkg/object"
)

// Before KubeVirt 1.6 a VM's firmware UUID was derived from its name and written nowhere but into the VMI. Since then a VM
// that is created without one gets a random one, as if it were another machine (KubeVirt 1.9.0,
// pkg/virt-controller/watch/vm/firmware.go and pkg/virt-api/webhooks/mutating-webhook/mutators/vm-mutator.go; KubeVirt's own
// restore writes it down too, pkg/storage/snapshot/restore.go). The rule runs on restore for backups made without this plugin.
var vmFirmwareUUID = Rule{
	ID:     "vm-firmware-uuid",
	Kinds:  []schema.GroupResource{kubevirt.VirtualMachines},
	Phases: []Phase{Backup, Restore},
	Why:    "The firmware UUID that a VM runs with is written into its spec: KubeVirt would give the restored VM a random one.",
	Apply: func(vm map[string]any, in Input) (Result, error) {
		path := kubevirt.VMISpec[kubevirt.VirtualMachines] + firmwareUUID
		written, err := object.String(vm, path)
		if err != nil || written != "" {
			return Result{}, err
		}
		domain, err := object.Map(vm, kubevirt.VMISpec[kubevirt.VirtualMachines]+".domain")
		if err != nil || domain == nil {
			return Result{}, err
		}
		var instance map[string]any
		if in.Phase == Backup {
			if instance, err = in.Instance(); err != nil {
				return Result{}, err
			}
		}
		inForce, err := object.String(instance, kubevirt.VMISpec[kubevirt.VirtualMachineInstances]+firmwareUUID)
		if err != nil {
			return Result{}, err
		}
		if inForce == "" {
			inForce = legacyUUID(object.Name(vm))
		}
		firmware, found := domain["firmware"].(map[string]any)
		if !found {
			firmware = map[string]any{}
			domain["firmware"] = firmware
		}
		firmware["uuid"] = inForce
		return Result{Changes: []Change{{Path: path, What: "wrote down the firmware UUID that the VM runs with"}}}, nil
	},
}
