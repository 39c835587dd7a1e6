package rules

import (
	"fmt"
	"slices"
	"strings"

	"k8s.io/apimachinery/pkg/runtime/schema"
	virtv1 "kubevirt.io/api/core/v1"

	"velero-plugin-for-kubevirt/pkg/kubevirt"
	"velero-plugin-for-kubevirt/pkg/object"
	"velero-plugin-for-kubevirt/pkg/options"
)

// Velero's data mover brings the data of a disk minutes or hours after it has restored the VM, and binds the claim only then
// (Velero 1.18.1, pkg/restore/actions/csi/pvc_action.go). Until then a VM that is to run would wait in a launcher pod that
// cannot start, and CDI calls the DataVolume Succeeded all the same (seen on real controllers). On a disk that nothing can fill
// a guest would start empty, or never; whether that is wanted a person has to say.
var vmHold = Rule{
	ID:     "vm-hold",
	Kinds:  []schema.GroupResource{kubevirt.VirtualMachines},
	Phases: []Phase{Restore},
	Why:    "A VM is started only when the data mover has brought all its disks, and not at all when nothing can fill one of them.",
	Apply: func(vm map[string]any, in Input) (Result, error) {
		var changes []Change
		if object.DeleteAnnotation(vm, kubevirt.HeldBecause) {
			changes = append(changes, Change{Path: "metadata.annotations[" + kubevirt.HeldBecause + "]", What: "forgot why an earlier restore held the VM"})
		}
		missing := names(in.Disks, Missing)
		allowed, err := startsEmpty(vm, in)
		if err != nil {
			return Result{}, err
		}
		if allowed {
			missing = nil
		}
		if len(missing) == 0 && len(names(in.Disks, OnItsWay)) == 0 {
			return Result{Changes: changes}, nil
		}
		strategy, err := startingStrategy(vm)
		if err != nil || strategy == "" {
			return Result{Changes: changes}, err
		}
		if _, err := object.SetAnnotation(vm, kubevirt.HeldRunStrategy, strategy); err != nil {
			return Result{}, err
		}
		spec, err := object.Map(vm, "spec")
		if err != nil {
			return Result{}, err
		}
		spec["runStrategy"] = string(virtv1.RunStrategyHalted)
		held := "held the VM until all its disks have their data"
		if len(missing) > 0 {
			held = "held the VM: nothing can fill one of its disks"
			why := fmt.Sprintf("nothing fills %s: restore it, or set spec.runStrategy to %s to start the VM all the same (for a whole restore: %s=%s)",
				strings.Join(missing, ", "), strategy, options.EmptyDisks.Key, options.Allow)
			if _, err := object.SetAnnotation(vm, kubevirt.HeldBecause, why); err != nil {
				return Result{}, err
			}
			changes = append(changes, Change{Path: "metadata.annotations[" + kubevirt.HeldBecause + "]", What: "noted why the VM is held"})
		}
		changes = append(changes,
			Change{Path: "spec.runStrategy", What: held},
			Change{Path: "metadata.annotations[" + kubevirt.HeldRunStrategy + "]", What: "noted the run strategy that it is to get then"})
		return Result{Changes: append(changes, withoutRunning(spec, "spec")...)}, nil
	},
}

// startingStrategy returns the run strategy of a VM that KubeVirt would start at once, and nothing for any other.
func startingStrategy(vm map[string]any) (string, error) {
	strategy, err := runStrategy(vm)
	if err != nil {
		return "", err
	}
	if held := object.Annotation(vm, kubevirt.HeldRunStrategy); held != "" && strategy == string(virtv1.RunStrategyHalted) {
		strategy = held // it was held when it was backed up
	}
	if !starts(strategy) {
		return "", nil
	}
	return strategy, nil
}

// StartsByItself tells whether KubeVirt starts a VM that it finds, now or when its disks are there.
func StartsByItself(vm map[string]any) (bool, error) {
	strategy, err := runStrategy(vm)
	return starts(strategy), err
}

// runStrategy returns the run strategy of a VM, as it is written or as its older field running says.
func runStrategy(vm map[string]any) (string, error) {
	strategy, err := object.String(vm, "spec.runStrategy")
	if err != nil {
		return "", err
	}
	spec, err := object.Map(vm, "spec")
	if err != nil {
		return "", err
	}
	if running, _ := spec["running"].(bool); running {
		strategy = string(virtv1.RunStrategyAlways)
	}
	return strategy, nil
}

func starts(strategy string) bool {
	return slices.Contains([]virtv1.VirtualMachineRunStrategy{virtv1.RunStrategyAlways, virtv1.RunStrategyRerunOnFailure, virtv1.RunStrategyOnce}, virtv1.VirtualMachineRunStrategy(strategy))
}
