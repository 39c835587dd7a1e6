package rules

import (
	"slices"

	"k8s.io/apimachinery/pkg/runtime/schema"

	"velero-plugin-for-kubevirt/pkg/kubevirt"
	"velero-plugin-for-kubevirt/pkg/object"
)

// Serial number and UUID of the firmware are what licences, domain memberships and cloud-init go by: a guest that finds
// another's takes itself for it. A template makes several guests, each of which KubeVirt gives its own when the template
// says none (KubeVirt 1.9.0, pkg/virt-api/webhooks/mutating-webhook/mutators/vm-mutator.go).
var vmFirmwareIdentity = Rule{
	ID: "vm-firmware-identity",
	Kinds: []schema.GroupResource{
		kubevirt.VirtualMachines, kubevirt.VirtualMachineInstances, kubevirt.VirtualMachineInstanceReplicaSets, kubevirt.VirtualMachinePools,
	},
	Phases: []Phase{Restore},
	Why:    "A firmware serial or UUID that another VM of the cluster has is made new, unless asked otherwise.",
	Apply: func(vm map[string]any, in Input) (Result, error) {
		choice, err := in.identity(vm)
		if err != nil {
			return Result{}, err
		}
		one := slices.Contains([]schema.GroupResource{kubevirt.VirtualMachines, kubevirt.VirtualMachineInstances}, in.Resource)
		var result Result
		for _, place := range []struct {
			kind        IdentifierKind
			path, field string
		}{{FirmwareSerial, firmwareSerial, "serial"}, {FirmwareUUID, firmwareUUID, "uuid"}} {
			texts, err := object.Strings(vm, kubevirt.VMISpec[in.Resource]+place.path)
			if err != nil {
				return Result{}, err
			}
			for _, text := range texts {
				fresh, owners := in.fresh(choice, newIdentifier(place.kind, text.Value))
				switch {
				case fresh && one:
					text.Parent[place.field] = in.NewUUID()
					result.add(madeNew(text.Path, "made the "+string(place.kind)+" new", owners))
				case fresh:
					delete(text.Parent, place.field)
					result.add(madeNew(text.Path, "cleared the "+string(place.kind), owners))
				}
			}
		}
		return result, nil
	},
}
