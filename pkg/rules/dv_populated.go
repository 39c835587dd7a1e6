package rules

import (
	"k8s.io/apimachinery/pkg/runtime/schema"
	cdiv1 "kubevirt.io/containerized-data-importer-api/pkg/apis/core/v1beta1"

	"velero-plugin-for-kubevirt/pkg/kubevirt"
	"velero-plugin-for-kubevirt/pkg/object"
)

// A restored DataVolume has no status, so that CDI would fetch its source again, over or beside the restored disk. The
// annotation tells it that the PVC comes from elsewhere. A DataVolume that had not finished is restored bare: CDI fetches
// it from the start, which is right, whereas annotated it would be called Succeeded without data (CDI 1.65.0,
// pkg/controller/datavolume/controller-base.go; seen on real controllers).
var dvPopulated = Rule{
	ID:     "dv-populated",
	Kinds:  []schema.GroupResource{kubevirt.DataVolumes},
	Phases: []Phase{Restore},
	Why:    "A DataVolume that had finished is marked prePopulated: CDI would fetch its source again.",
	Apply: func(dv map[string]any, in Input) (Result, error) {
		phase, err := object.String(in.Original, "status.phase")
		if err != nil || phase != string(cdiv1.Succeeded) {
			return Result{}, err
		}
		changed, err := object.SetAnnotation(dv, kubevirt.PrePopulated, object.Name(dv))
		if err != nil || !changed {
			return Result{}, err
		}
		return Result{Changes: []Change{{
			Path: "metadata.annotations[" + kubevirt.PrePopulated + "]",
			What: "marked the finished DataVolume as populated by its restored PVC",
		}}}, nil
	},
}
