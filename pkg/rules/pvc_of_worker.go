package rules

import (
	"k8s.io/apimachinery/pkg/runtime/schema"

	"velero-plugin-for-kubevirt/pkg/kubevirt"
	"velero-plugin-for-kubevirt/pkg/object"
)

// While CDI fills a disk it has others beside it: one that is filled in its place (prime-…), owned by the PVC, and one to
// unpack an image in (scratch), owned by the pod. It removes them at the end, but not those whose owner is gone (CDI 1.65.0,
// pkg/controller/populators/populator-base.go and controller/util.go). Newer versions keep them out of backups by a label.
var pvcOfWorker = Rule{
	ID:     "pvc-of-worker",
	Kinds:  []schema.GroupResource{kubevirt.PersistentVolumeClaims},
	Phases: []Phase{Restore},
	Why:    "A PVC that CDI works with while it fills another is left out: CDI makes a new one, and would never remove the old one.",
	Apply: func(pvc map[string]any, in Input) (Result, error) {
		owner := object.Owner(in.Original)
		if object.Label(pvc, kubevirt.CDILabel) != kubevirt.CDILabelValue || owner == nil {
			return Result{}, nil
		}
		if owner.Kind == "PersistentVolumeClaim" || owner.Kind == "Pod" {
			return Result{LeaveOut: "CDI needed it only while it filled another disk"}, nil
		}
		return Result{}, nil
	},
}
