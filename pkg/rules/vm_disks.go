package rules

import (
	"slices"

	"k8s.io/apimachinery/pkg/runtime/schema"

	"velero-plugin-for-kubevirt/pkg/kubevirt"
	"velero-plugin-for-kubevirt/pkg/object"
	"velero-plugin-for-kubevirt/pkg/options"
)

// A disk that has a template in the VM is made anew when it is missing: KubeVirt asks CDI for it, CDI fetches the image, and
// the VM starts as on its first day (KubeVirt 1.9.0, pkg/virt-controller/watch/vm/vm.go, handleDataVolumes). So a disk that a
// backup leaves out is told about when it is made, and again when it is restored.
var vmDisks = Rule{
	ID:     "vm-disks",
	Kinds:  []schema.GroupResource{kubevirt.VirtualMachines},
	Phases: []Phase{Backup, Restore},
	Why:    "A disk of the VM that the backup leaves out is warned about: KubeVirt makes it anew from its template, without its data.",
	Apply: func(vm map[string]any, in Input) (Result, error) {
		if in.Phase == Restore {
			return notInBackup(vm, in)
		}
		silent, err := options.MetadataBackup.IsTrue(in.Backup)
		if err != nil || silent {
			return Result{}, err
		}
		var result Result
		for _, id := range in.Excluded {
			if id.GroupResource == kubevirt.PersistentVolumeClaims || id.GroupResource == kubevirt.DataVolumes {
				result.Warnings = append(result.Warnings, Warning{What: "the backup leaves out a disk of the VM; a restored VM misses it, or gets an empty one or the original image", Other: id})
			}
		}
		return result, nil
	},
}

// notInBackup warns about disks with a template that the backed-up VM does not list. A backup made without this plugin has
// no list.
func notInBackup(vm map[string]any, in Input) (Result, error) {
	listed, found, err := AdditionalItems(in.Original)
	if err != nil || !found {
		return Result{}, err
	}
	templates, err := object.Strings(vm, "spec.dataVolumeTemplates[].metadata.name")
	if err != nil {
		return Result{}, err
	}
	var result Result
	for _, template := range templates {
		claim := kubevirt.ID{GroupResource: kubevirt.PersistentVolumeClaims, Namespace: object.Namespace(vm), Name: template.Value}
		volume := kubevirt.ID{GroupResource: kubevirt.DataVolumes, Namespace: object.Namespace(vm), Name: template.Value}
		if !slices.Contains(listed, claim) && !slices.Contains(listed, volume) {
			result.Warnings = append(result.Warnings, Warning{Path: template.Path, What: "the disk is not in the backup; KubeVirt makes it anew from its template, without its data", Other: claim})
		}
	}
	return result, nil
}
