package rules

import (
	"slices"

	"k8s.io/apimachinery/pkg/runtime/schema"

	"velero-plugin-for-kubevirt/pkg/kubevirt"
	"velero-plugin-for-kubevirt/pkg/object"
)

// CDI and KubeVirt do their work in pods: import, clone and receive disks, and hand them out. A restored one has no owner,
// and would write into a restored disk or keep it from its VM. Nor would anybody remove the Service of an export (CDI 1.65.0, pkg/controller/import-controller.go and others;
// KubeVirt 1.8.4, pkg/storage/export/export/export.go).
var worker = Rule{
	ID:     "worker",
	Kinds:  []schema.GroupResource{kubevirt.Pods, kubevirt.Services},
	Phases: []Phase{Restore},
	Why:    "Pods that import, clone, receive or export a disk, and Services of exports, are left out: CDI and KubeVirt make them when there is something to do.",
	Apply: func(obj map[string]any, _ Input) (Result, error) {
		switch {
		case object.Label(obj, kubevirt.PodRoleLabel) == kubevirt.ExporterRole:
			return Result{LeaveOut: "KubeVirt makes it anew for an export"}, nil
		case object.Label(obj, kubevirt.CDILabel) == kubevirt.CDILabelValue && slices.Contains(kubevirt.CDIWorkers, object.Label(obj, kubevirt.CDIComponentLabel)):
			return Result{LeaveOut: "CDI makes a new pod when a disk is to be filled"}, nil
		}
		return Result{}, nil
	},
}
