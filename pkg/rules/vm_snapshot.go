package rules

import (
	"slices"

	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime/schema"

	"velero-plugin-for-kubevirt/pkg/kubevirt"
	"velero-plugin-for-kubevirt/pkg/object"
)

// pastDeadline is the time that a restored VirtualMachineSnapshot may take. It is negative for the clocks: they need not agree to the second.
const pastDeadline = "-1m0s"

// virt-controller takes every VirtualMachineSnapshot whose status does not say that it has succeeded, and finds its content by the name in the status, else
// by the snapshot's UID, which is new in a restored one (KubeVirt 1.8.4, pkg/storage/snapshot/snapshot.go, updateVMSnapshot and GetVMSnapshotContentName).
// Velero creates the object, and only then writes the status that rule vm-snapshot-content speaks of. In between virt-controller must not begin: of a
// snapshot whose deadline is over it says that it has failed, locks no VM and takes nothing (vmSnapshotDeadlineExceeded). With the status the snapshot has
// succeeded, and nobody looks at the deadline any more. What it finds of its VM – the UID, whether it is ready – virt-controller then writes itself.
var vmSnapshot = Rule{
	ID:     "vm-snapshot",
	Kinds:  []schema.GroupResource{kubevirt.VirtualMachineSnapshots},
	Phases: []Phase{Restore},
	Why:    "A VirtualMachineSnapshot comes back as it was taken, with its status; without its content it is left out: KubeVirt would take it again.",
	Apply: func(vmSnapshot map[string]any, in Input) (Result, error) {
		phase, err := object.String(in.Original, "status.phase")
		switch {
		case err != nil:
			return Result{}, err
		case slices.Contains(in.Existing, in.Resource):
			return Result{LeaveOut: "it is here already"}, nil
		case phase != kubevirt.SnapshotSucceeded:
			return Result{LeaveOut: "it had not succeeded, and would be taken of the VM as it is now"}, nil
		case in.SnapshotContent == nil:
			return Result{LeaveOut: "its VirtualMachineSnapshotContent is not restored"}, nil
		}
		if err := unstructured.SetNestedField(vmSnapshot, pastDeadline, "spec", "failureDeadline"); err != nil {
			return Result{}, err
		}
		result, err := withStatus(vmSnapshot)
		result.Changes = append(result.Changes, Change{Path: "spec.failureDeadline", What: "set to a time that is over: KubeVirt would take the snapshot again before it has its status"})
		return result, err
	},
}
