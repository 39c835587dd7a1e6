package rules

import (
	"k8s.io/apimachinery/pkg/runtime/schema"

	"velero-plugin-for-kubevirt/pkg/kubevirt"
	"velero-plugin-for-kubevirt/pkg/object"
)

// Velero makes a claim from its VolumeSnapshot also when a filter leaves out the snapshot or its content (Velero 1.18.1,
// pkg/restore/actions/csi/pvc_action.go). The claim then waits for ever, Velero for its resource timeout of 10 min, and then fails the restore
// (pkg/controller/restore_finalizer_controller.go). And a later restore that has the snapshot would find the claim there, and leave it as it is.
var pvcSnapshot = Rule{
	ID:     "pvc-snapshot",
	Kinds:  []schema.GroupResource{kubevirt.PersistentVolumeClaims},
	Phases: []Phase{Restore},
	Why:    "A PVC that is made of a VolumeSnapshot is left out when the snapshot does not come: it would wait for ever, and a later restore would skip it.",
	Apply: func(pvc map[string]any, in Input) (Result, error) {
		kind, err := object.String(pvc, "spec.dataSource.kind")
		if err != nil || in.Data != NoData || kind != "VolumeSnapshot" {
			return Result{}, err
		}
		name, err := object.String(pvc, "spec.dataSource.name")
		if err != nil {
			return Result{}, err
		}
		return Result{
			LeaveOut: "its snapshot does not come with this restore, and it would wait for ever",
			Warnings: []Warning{{
				Path: "spec.dataSource", What: "the snapshot that the claim is made of does not come with this restore: the claim is left out",
				Other: kubevirt.ID{GroupResource: kubevirt.VolumeSnapshots, Namespace: in.Target.Namespace, Name: name}, Reason: "the Restore leaves out the VolumeSnapshot or its content, or the backup does not have it",
			}},
		}, nil
	},
}
