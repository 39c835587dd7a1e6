package rules

import (
	"slices"
	"strings"

	"k8s.io/apimachinery/pkg/runtime/schema"

	"velero-plugin-for-kubevirt/pkg/kubevirt"
	"velero-plugin-for-kubevirt/pkg/object"
	"velero-plugin-for-kubevirt/pkg/options"
)

// Velero's file-system backup puts the data back inside the restored pod that mounts the volume (Velero 1.18.1,
// pkg/podvolume/restorer.go). KubeVirt's pods are not restored, so the disk would come back empty.
var podVolumeBackup = Rule{
	ID:     "pod-volume-backup",
	Kinds:  []schema.GroupResource{kubevirt.Pods},
	Phases: []Phase{Backup},
	Why:    "A disk that is backed up as files is warned about: its data cannot be restored, since KubeVirt's pods are not.",
	Apply: func(pod map[string]any, in Input) (Result, error) {
		silent, err := options.MetadataBackup.IsTrue(in.Backup)
		if err != nil || silent {
			return Result{}, err
		}
		chosen := strings.Split(object.Annotation(pod, kubevirt.BackupVolumes), ",")
		spared := strings.Split(object.Annotation(pod, kubevirt.BackupVolumesExcludes), ",")
		volumes, err := object.Find(pod, "spec.volumes[]")
		if err != nil {
			return Result{}, err
		}
		var result Result
		for _, field := range volumes {
			volume, _ := field.Value.(map[string]any)
			name, _ := volume["name"].(string)
			claim, err := object.String(volume, "persistentVolumeClaim.claimName")
			if err != nil {
				return Result{}, err
			}
			asFiles := slices.Contains(chosen, name) || (in.AllAsFiles && !slices.Contains(spared, name))
			if claim == "" || !asFiles {
				continue
			}
			result.Warnings = append(result.Warnings, Warning{
				Path: field.Path, What: "the disk is backed up as files, which cannot be restored into a VM: use CSI snapshots or the data mover",
				Other: kubevirt.ID{GroupResource: kubevirt.PersistentVolumeClaims, Namespace: object.Namespace(pod), Name: claim},
			})
		}
		return result, nil
	},
}
