package rules

import (
	"strings"

	"k8s.io/apimachinery/pkg/runtime/schema"

	"velero-plugin-for-kubevirt/pkg/kubevirt"
	"velero-plugin-for-kubevirt/pkg/object"
)

// Until Velero 1.16 the VolumeSnapshots of VirtualMachineSnapshots were in backups ("Skip VS and VSC not created by backup", Velero 1.17, changelog #8990).
// They would come back under names that no VirtualMachineSnapshotContent knows (Velero 1.18.1, pkg/restore/actions/csi/volumesnapshot_action.go), and nobody
// would remove them. Their names are KubeVirt's (KubeVirt 1.8.4, pkg/storage/snapshot/snapshot.go, createContent).
var vmSnapshotVolume = Rule{
	ID:     "vm-snapshot-volume",
	Kinds:  []schema.GroupResource{kubevirt.VolumeSnapshots, kubevirt.VolumeSnapshotContents},
	Phases: []Phase{Restore},
	Why:    "A VolumeSnapshot of a VirtualMachineSnapshot is left out: it comes with its VirtualMachineSnapshotContent, or nobody would remove it.",
	Apply: func(_ map[string]any, in Input) (Result, error) {
		name := object.Name(in.Original)
		if in.Resource == kubevirt.VolumeSnapshotContents {
			var err error
			if name, err = object.String(in.Original, "spec.volumeSnapshotRef.name"); err != nil {
				return Result{}, err
			}
		}
		if strings.HasPrefix(name, kubevirt.VMSnapshotPrefix) && strings.Contains(name, kubevirt.VMSnapshotVolume) {
			return Result{LeaveOut: "it belongs to a VirtualMachineSnapshot"}, nil
		}
		return Result{}, nil
	},
}
