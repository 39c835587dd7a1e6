package rules

import (
	"encoding/json"
	"fmt"
	"slices"

	"k8s.io/apimachinery/pkg/runtime/schema"

	"velero-plugin-for-kubevirt/pkg/kubevirt"
	"velero-plugin-for-kubevirt/pkg/object"
)

// madeByKubeVirt are the kinds that nothing brings along when it is restored: a VM makes its instance, a pool its VMs.
var madeByKubeVirt = []schema.GroupResource{kubevirt.VirtualMachines, kubevirt.VirtualMachineInstances, kubevirt.Pods}

// Velero warns about every additional item of a restore that the backup does not hold, and a restore cannot see what the
// backup holds – nor find objects by label in a cluster that has lost them. So the backed-up VM carries the list, and the
// restored one does not.
var additionalItems = Rule{
	ID: "additional-items",
	Kinds: []schema.GroupResource{
		kubevirt.VirtualMachines, kubevirt.VirtualMachineInstances, kubevirt.VirtualMachineInstanceReplicaSets, kubevirt.VirtualMachinePools,
	},
	Phases:  []Phase{Backup, Restore},
	Routine: true,
	Why:     "A backed-up VM carries the list of what it needs, so that a restore by label brings the whole VM and asks for nothing that is not in the backup.",
	Apply: func(vm map[string]any, in Input) (Result, error) {
		path := "metadata.annotations[" + kubevirt.AdditionalItems + "]"
		// Of what has an owner nothing is listed: its owner brings it. A list that it has is somebody's who may edit VMs, and a restore would believe it.
		if in.Phase == Restore || object.Owner(vm) != nil {
			if object.DeleteAnnotation(vm, kubevirt.AdditionalItems) {
				return Result{Changes: []Change{{Path: path, What: "removed the list of what the VM needs"}}}, nil
			}
			return Result{}, nil
		}
		names := []string{}
		for _, id := range in.AdditionalItems {
			if !slices.Contains(madeByKubeVirt, id.GroupResource) {
				names = append(names, id.String())
			}
		}
		list, err := json.Marshal(names)
		if err != nil {
			return Result{}, err
		}
		changed, err := object.SetAnnotation(vm, kubevirt.AdditionalItems, string(list))
		if err != nil || !changed {
			return Result{}, err
		}
		return Result{Changes: []Change{{Path: path, What: "listed what the VM needs"}}}, nil
	},
}

// AdditionalItems reads the list from a backed-up item; false when it has none.
func AdditionalItems(original map[string]any) ([]kubevirt.ID, bool, error) {
	list := object.Annotation(original, kubevirt.AdditionalItems)
	if list == "" {
		return nil, false, nil
	}
	var names []string
	if err := json.Unmarshal([]byte(list), &names); err != nil {
		return nil, false, fmt.Errorf("metadata.annotations[%s]: %w", kubevirt.AdditionalItems, err)
	}
	var ids []kubevirt.ID
	for _, name := range names {
		id, err := kubevirt.ParseID(name)
		if err != nil {
			return nil, false, fmt.Errorf("metadata.annotations[%s]: %w", kubevirt.AdditionalItems, err)
		}
		ids = append(ids, id)
	}
	return ids, true, nil
}
