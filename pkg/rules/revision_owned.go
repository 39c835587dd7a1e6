package rules

import (
	"strings"

	"k8s.io/apimachinery/pkg/runtime/schema"

	"velero-plugin-for-kubevirt/pkg/kubevirt"
	"velero-plugin-for-kubevirt/pkg/object"
)

// KubeVirt writes down with what spec a VM was started, and what a pool's generation was. A revision of a start has the UID
// of the lost VM in its name: nobody would ever look at it or remove it (KubeVirt 1.8.4,
// pkg/virt-controller/watch/vm/vm.go, vmRevisionName). One of a pool is named by a generation that begins at 1 again, and
// found by name alone: the restored pool would take an old spec for its own (pkg/virt-controller/watch/pool/pool.go,
// ensureControllerRevision). The revisions of instancetypes and preferences, which a VM needs, are neither.
var revisionOwned = Rule{
	ID:     "revision-owned",
	Kinds:  []schema.GroupResource{kubevirt.ControllerRevisions},
	Phases: []Phase{Restore},
	Why:    "The revision of a VM's start or of a VirtualMachinePool is left out: KubeVirt writes it anew, and would never remove the old one.",
	Apply: func(_ map[string]any, in Input) (Result, error) {
		owner := object.Owner(in.Original)
		switch {
		case owner == nil:
		case owner.Kind == "VirtualMachine" && strings.HasPrefix(object.Name(in.Original), kubevirt.StartRevisionPrefix):
			return Result{LeaveOut: "KubeVirt writes a new revision when the VM starts"}, nil
		case owner.Kind == "VirtualMachinePool":
			return Result{LeaveOut: "the VirtualMachinePool writes a new revision"}, nil
		}
		return Result{}, nil
	},
}
