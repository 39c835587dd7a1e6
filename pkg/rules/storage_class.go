package rules

import (
	"k8s.io/apimachinery/pkg/runtime/schema"

	"velero-plugin-for-kubevirt/pkg/kubevirt"
	"velero-plugin-for-kubevirt/pkg/object"
)

// Velero changes the storage classes of claims and volumes by its change-storage-class ConfigMap, and knows nothing of
// DataVolumes: one that CDI has still to fill, or that KubeVirt makes anew, would ask for a class that is not there
// (Velero 1.18.1, pkg/restore/actions/change_storageclass_action.go).
var storageClass = Rule{
	ID:     "storage-class",
	Kinds:  []schema.GroupResource{kubevirt.DataVolumes, kubevirt.VirtualMachines, kubevirt.VirtualMachinePools, kubevirt.VirtualMachineSnapshotContents},
	Phases: []Phase{Restore},
	Why:    "Velero's change-storage-class ConfigMap is applied to DataVolumes, their templates and the disks of VirtualMachineSnapshots, too.",
	Apply: func(obj map[string]any, in Input) (Result, error) {
		var result Result
		paths := []string{"spec.volumeBackups[].persistentVolumeClaim.spec"} // of a VirtualMachineSnapshotContent
		for _, at := range dataVolumeSpecs(in.Resource) {
			paths = append(paths, at+"pvc", at+"storage")
		}
		for _, path := range paths {
			classes, err := object.Strings(obj, path+".storageClassName")
			if err != nil {
				return Result{}, err
			}
			for _, class := range classes {
				if changed := in.StorageClasses[class.Value]; changed != "" {
					class.Parent["storageClassName"] = changed
					result.Changes = append(result.Changes, Change{Path: class.Path, What: "changed the storage class as Velero's ConfigMap says"})
				}
			}
		}
		return result, nil
	},
}
