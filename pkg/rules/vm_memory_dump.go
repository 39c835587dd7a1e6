package rules

import (
	"k8s.io/apimachinery/pkg/runtime/schema"

	"velero-plugin-for-kubevirt/pkg/kubevirt"
	"velero-plugin-for-kubevirt/pkg/object"
)

// KubeVirt puts the volume that a guest's memory is dumped to into the VM's spec; that the dump is done is in the status,
// which is not restored, so that a new one would be written over the old (KubeVirt 1.8.4, pkg/storage/memorydump,
// HasCompleted). The PVC with the dump comes back all the same.
var vmMemoryDump = Rule{
	ID:     "vm-memory-dump",
	Kinds:  []schema.GroupResource{kubevirt.VirtualMachines},
	Phases: []Phase{Restore},
	Why:    "The volume of a memory dump is taken out of the VM's spec: KubeVirt would dump the memory of the restored guest over it.",
	Apply: func(vm map[string]any, _ Input) (Result, error) {
		spec, err := object.Map(vm, "spec.template.spec")
		if err != nil {
			return Result{}, err
		}
		volumes, err := object.Find(spec, "volumes[]")
		if err != nil {
			return Result{}, err
		}
		var result Result
		kept := []any{}
		for _, volume := range volumes {
			if fields, _ := volume.Value.(map[string]any); fields["memoryDump"] != nil {
				result.Changes = append(result.Changes, Change{Path: "spec.template.spec." + volume.Path, What: "took the volume of a memory dump out"})
			} else {
				kept = append(kept, volume.Value)
			}
		}
		if len(result.Changes) > 0 {
			spec["volumes"] = kept
		}
		return result, nil
	},
}
