package rules

import (
	"k8s.io/apimachinery/pkg/runtime/schema"

	"velero-plugin-for-kubevirt/pkg/kubevirt"
	"velero-plugin-for-kubevirt/pkg/object"
)

// KubeVirt before 1.6 protects a VirtualMachineInstance, and a migration, with a PodDisruptionBudget that selects its pods
// by the instance's UID. A restored one selects nothing and has no owner, and KubeVirt removes only those that have one
// (KubeVirt 1.7.0, pkg/virt-controller/watch/drain/disruptionbudget/disruptionbudget.go).
var disruptionBudget = Rule{
	ID:     "disruption-budget",
	Kinds:  []schema.GroupResource{kubevirt.PodDisruptionBudgets},
	Phases: []Phase{Restore},
	Why:    "The PodDisruptionBudget of a VirtualMachineInstance or migration is left out: KubeVirt makes it if it wants one.",
	Apply: func(_ map[string]any, in Input) (Result, error) {
		owner := object.Owner(in.Original)
		if owner != nil && (owner.Kind == "VirtualMachineInstance" || owner.Kind == "VirtualMachineInstanceMigration") {
			return Result{LeaveOut: "it protected the pods of a VirtualMachineInstance that is gone"}, nil
		}
		return Result{}, nil
	},
}
