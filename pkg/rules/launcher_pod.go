package rules

import (
	"k8s.io/apimachinery/pkg/runtime/schema"

	"velero-plugin-for-kubevirt/pkg/kubevirt"
	"velero-plugin-for-kubevirt/pkg/object"
)

// KubeVirt's controller makes a launcher pod for every VMI and a pod for every hotplugged disk, and never takes over one
// that it did not make: a restored one would hold the disks of the VM and run nothing
// (KubeVirt 1.9.0, pkg/virt-controller/services/template.go).
var launcherPod = Rule{
	ID:     "launcher-pod",
	Kinds:  []schema.GroupResource{kubevirt.Pods},
	Phases: []Phase{Restore},
	Why:    "virt-launcher and hotplug pods are left out: KubeVirt makes new ones when the VM starts.",
	Apply: func(pod map[string]any, _ Input) (Result, error) {
		switch object.Label(pod, kubevirt.PodRoleLabel) {
		case kubevirt.LauncherRole:
			return Result{LeaveOut: "KubeVirt makes a new virt-launcher pod when the VM starts"}, nil
		case kubevirt.HotplugRole:
			return Result{LeaveOut: "KubeVirt makes a new hotplug pod when the disk is attached"}, nil
		}
		return Result{}, nil
	},
}
