package rules

import (
	"slices"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"
	cdi "kubevirt.io/containerized-data-importer-api/pkg/apis/core"
	"kubevirt.io/containerized-data-importer-api/pkg/apis/forklift"

	"velero-plugin-for-kubevirt/pkg/kubevirt"
	"velero-plugin-for-kubevirt/pkg/object"
)

// A claim that says which of CDI's sources fills it is filled from there again, whatever else it says: with the old image, or
// never when the source is not there (CDI 1.65.0, pkg/controller/populators/populator-base.go; seen on real controllers).
// Velero removes data sources when it backs up a bound claim (Velero 1.18.1, pkg/backup/actions/backup_pv_action.go); backups
// made otherwise still have them. The one that Velero puts in is left: it is the backed-up data.
var pvcDataSource = Rule{
	ID:     "pvc-data-source",
	Kinds:  []schema.GroupResource{kubevirt.PersistentVolumeClaims},
	Phases: []Phase{Restore},
	Why:    "A disk whose data is in the backup loses the source that CDI filled it from: CDI would fill it from there again.",
	Apply: func(pvc map[string]any, in Input) (Result, error) {
		phase, err := object.String(in.Original, "status.phase")
		if err != nil || phase != string(corev1.ClaimBound) {
			return Result{}, err
		}
		spec, err := object.Map(pvc, "spec")
		if err != nil {
			return Result{}, err
		}
		var result Result
		for _, field := range []string{"dataSource", "dataSourceRef"} {
			group, err := object.String(pvc, "spec."+field+".apiGroup")
			if err != nil {
				return Result{}, err
			}
			if slices.Contains([]string{cdi.GroupName, forklift.GroupName}, group) {
				delete(spec, field)
				result.Changes = append(result.Changes, Change{Path: "spec." + field, What: "removed the source that CDI would fill the disk from again"})
			}
		}
		return result, nil
	},
}
