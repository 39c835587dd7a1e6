package rules

import (
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"

	"velero-plugin-for-kubevirt/pkg/kubevirt"
	"velero-plugin-for-kubevirt/pkg/object"
)

// Velero restores a PVC without its owner. CDI lets a DataVolume take over an existing PVC when that says for which one it
// was populated, and refuses the DataVolume otherwise: "Destination PVC already exists" (CDI 1.65.0,
// pkg/apiserver/webhooks/datavolume-validate.go). The PVC of an unfinished DataVolume must not come back at all: CDI would
// take the half-written disk for the finished one. Nor must one whose data does not come: it would be empty, and called filled.
// All is decided at restore time, from the PVC as it was backed up and as Velero has prepared it.
var pvcPopulated = Rule{
	ID:     "pvc-populated",
	Kinds:  []schema.GroupResource{kubevirt.PersistentVolumeClaims},
	Phases: []Phase{Restore},
	Why:    "A PVC filled for a DataVolume is marked populatedFor; one that was not yet filled, or whose data does not come, is left out, and CDI fetches it anew.",
	Apply: func(pvc map[string]any, in Input) (Result, error) {
		if object.Annotation(in.Original, kubevirt.InProgress) == "true" {
			return Result{LeaveOut: "CDI had not finished filling it and fetches it again for its DataVolume"}, nil
		}
		owner := object.Owner(in.Original)
		if owner == nil || owner.Kind != "DataVolume" {
			return Result{}, nil
		}
		finished, err := isPopulated(in.Original)
		if err != nil {
			return Result{}, err
		}
		if !finished {
			return Result{LeaveOut: "CDI had not finished filling it and fetches it again for its DataVolume"}, nil
		}
		if in.Data == NoData {
			return Result{LeaveOut: "its data does not come with this restore, and it would be empty: its DataVolume is filled anew, if it can be"}, nil
		}
		changed, err := object.SetAnnotation(pvc, kubevirt.PopulatedFor, owner.Name)
		if err != nil || !changed {
			return Result{}, err
		}
		return Result{Changes: []Change{{
			Path: "metadata.annotations[" + kubevirt.PopulatedFor + "]",
			What: "marked the disk as populated for its DataVolume",
		}}}, nil
	},
}

// isPopulated tells from a DataVolume's PVC alone whether CDI had finished it. With populators a PVC is bound only when
// its data is there; on the older path it is bound first, and the phase of the pod that fills it is on the PVC (CDI 1.65.0,
// pkg/controller/common/util.go, IsPVCComplete and IsMultiStageImportInProgress).
func isPopulated(pvc map[string]any) (bool, error) {
	phase, err := object.String(pvc, "status.phase")
	if err != nil || phase != string(corev1.ClaimBound) {
		return false, err
	}
	if object.HasAnnotation(pvc, kubevirt.CurrentCheckpoint) && !object.HasAnnotation(pvc, kubevirt.CheckpointsDone) {
		return false, nil
	}
	for _, request := range []string{kubevirt.ImportEndpoint, kubevirt.ImportSource, kubevirt.UploadTarget, kubevirt.CloneRequest} {
		if object.HasAnnotation(pvc, request) {
			return object.Annotation(pvc, kubevirt.PodPhase) == string(corev1.PodSucceeded) ||
				object.Annotation(pvc, kubevirt.CloneOf) == "true", nil
		}
	}
	return true, nil
}
