package rules

import (
	"k8s.io/apimachinery/pkg/runtime/schema"

	"velero-plugin-for-kubevirt/pkg/kubevirt"
	"velero-plugin-for-kubevirt/pkg/options"
)

// A disk that has a template in the VM is made anew when it is missing: KubeVirt asks CDI for it, CDI fetches the image, and
// the VM starts as on its first day (KubeVirt 1.9.0, pkg/virt-controller/watch/vm/vm.go, handleDataVolumes). A claim that Velero
// restores without its data is empty. What becomes of each disk is known when all of them have been restored, or left out.
var vmDisks = Rule{
	ID:     "vm-disks",
	Kinds:  []schema.GroupResource{kubevirt.VirtualMachines, kubevirt.VirtualMachineInstances},
	Phases: []Phase{Restore},
	Why:    "A disk whose data does not come is warned about; a VirtualMachineInstance of its own is left out when nothing can fill one.",
	Apply: func(obj map[string]any, in Input) (Result, error) {
		var result Result
		for _, disk := range in.Disks {
			if fate := disk.Fate(); fate.Warns {
				result.Warnings = append(result.Warnings, Warning{Path: disk.Path, What: warnings[fate], Other: disk.Claim, Reason: disk.reason(in)})
			}
		}
		if in.Resource == kubevirt.VirtualMachines || len(names(in.Disks, Missing)) == 0 {
			return result, nil
		}
		allowed, err := startsEmpty(obj, in)
		if err == nil && !allowed {
			result.LeaveOut = "nothing can fill one of its disks; to restore it all the same, set " + options.EmptyDisks.Key + "=" + options.Allow
		}
		return result, err
	},
}

var warnings = map[Fate]string{
	FetchedAgain: "the data of the disk does not come with this restore: it is fetched again from its source",
	MadeEmpty:    "the data of the disk does not come with this restore: it is made empty",
	Missing:      "the data of the disk does not come with this restore, and nothing can fill it",
}

// reason tells why the data of a disk does not come.
func (d Disk) reason(in Input) string {
	switch {
	case in.WithoutVolumes:
		return "the Restore does not restore volumes"
	case !d.Listed:
		return "the backup does not have the disk"
	}
	return "the Restore leaves the disk or its snapshot out, or the backup has no snapshot of it"
}

// startsEmpty tells whether a VM is to be started although nothing can fill one of its disks.
func startsEmpty(obj map[string]any, in Input) (bool, error) {
	value, err := options.EmptyDisks.Value(options.OfVM(obj), in.Restore, in.Config)
	return value == options.Allow, err
}
