package rules

import (
	"slices"

	"k8s.io/apimachinery/pkg/runtime/schema"
	virtv1 "kubevirt.io/api/core/v1"

	"velero-plugin-for-kubevirt/pkg/kubevirt"
	"velero-plugin-for-kubevirt/pkg/object"
)

// Velero's data mover brings the data of a disk minutes or hours after it has restored the VM, and binds the claim only then
// (Velero 1.18.1, pkg/restore/actions/csi/pvc_action.go). Until then a VM that is to run would wait in a launcher pod that
// cannot start, and CDI calls the DataVolume Succeeded all the same (seen on real controllers).
var vmHold = Rule{
	ID:     "vm-hold",
	Kinds:  []schema.GroupResource{kubevirt.VirtualMachines},
	Phases: []Phase{Restore},
	Why:    "A VM is started only when the data mover has brought all its disks.",
	Apply: func(vm map[string]any, in Input) (Result, error) {
		if len(in.WaitingDisks) == 0 {
			return Result{}, nil
		}
		strategy, err := object.String(vm, "spec.runStrategy")
		if err != nil {
			return Result{}, err
		}
		spec, err := object.Map(vm, "spec")
		if err != nil {
			return Result{}, err
		}
		if running, _ := spec["running"].(bool); running {
			strategy = string(virtv1.RunStrategyAlways)
		}
		starts := []string{string(virtv1.RunStrategyAlways), string(virtv1.RunStrategyRerunOnFailure), string(virtv1.RunStrategyOnce)}
		if !slices.Contains(starts, strategy) {
			return Result{}, nil
		}
		if _, err := object.SetAnnotation(vm, kubevirt.HeldRunStrategy, strategy); err != nil {
			return Result{}, err
		}
		changes := []Change{
			{Path: "spec.runStrategy", What: "held the VM until all its disks have their data"},
			{Path: "metadata.annotations[" + kubevirt.HeldRunStrategy + "]", What: "noted the run strategy that it is to get then"},
		}
		spec["runStrategy"] = string(virtv1.RunStrategyHalted)
		return Result{Changes: append(changes, withoutRunning(spec, "spec")...)}, nil
	},
}
