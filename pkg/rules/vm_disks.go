package rules

import (
	"slices"

	"k8s.io/apimachinery/pkg/runtime/schema"

	"velero-plugin-for-kubevirt/pkg/kubevirt"
	"velero-plugin-for-kubevirt/pkg/object"
)

// A disk that has a template in the VM is made anew when it is missing: KubeVirt asks CDI for it, CDI fetches the image, and
// the VM starts as on its first day (KubeVirt 1.9.0, pkg/virt-controller/watch/vm/vm.go, handleDataVolumes). The backup tells of a
// disk that it leaves out with the consistency of the VM. A backup made without this plugin has no list.
var vmDisks = Rule{
	ID:     "vm-disks",
	Kinds:  []schema.GroupResource{kubevirt.VirtualMachines},
	Phases: []Phase{Restore},
	Why:    "A disk that the backup has not is warned about: KubeVirt makes it anew from its template, without its data.",
	Apply: func(vm map[string]any, in Input) (Result, error) {
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
	},
}
