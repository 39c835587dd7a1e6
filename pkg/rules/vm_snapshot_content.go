package rules

import (
	"encoding/json"
	"fmt"
	"slices"

	"k8s.io/apimachinery/pkg/runtime/schema"

	"velero-plugin-for-kubevirt/pkg/kubevirt"
	"velero-plugin-for-kubevirt/pkg/object"
)

// A VirtualMachineSnapshotContent names its VolumeSnapshots. virt-controller takes a missing one of the disk as it is now, unless the content's status says
// that all were taken (KubeVirt 1.8.4, pkg/storage/snapshot/snapshot.go, updateVMSnapshotContent). Velero does not back up VolumeSnapshots that it did not
// take (Velero 1.18.1, pkg/controller/backup_controller.go, autoExcludeNamespaceScopedResources), and asking it to would be worse: it deletes from the
// cluster each that it has backed up (pkg/backup/actions/csi/volumesnapshot_action.go, DeleteReadyVolumeSnapshot). So the backed-up content carries what
// the storage calls its snapshots. Before it is restored the plugin makes the VolumeSnapshots again, under their names. Velero restores the status of what
// has an annotation (since 1.16, pkg/restore/restore.go, determineRestoreStatus): the snapshot keeps its time, and is not taken again.
var vmSnapshotContent = Rule{
	ID:     "vm-snapshot-content",
	Kinds:  []schema.GroupResource{kubevirt.VirtualMachineSnapshotContents},
	Phases: []Phase{Backup, Restore},
	Why:    "A VirtualMachineSnapshotContent carries what the storage calls its snapshots, and comes back with them; without them it is left out.",
	Apply: func(content map[string]any, in Input) (Result, error) {
		if in.Phase == Backup {
			return noteVolumeSnapshots(content, in)
		}
		_, noted, err := VolumeSnapshots(in.Original)
		switch {
		case err != nil:
			return Result{}, err
		case slices.Contains(in.Existing, in.Resource):
			return Result{LeaveOut: "it is here already"}, nil
		case in.WithoutVolumes:
			return Result{LeaveOut: "the Restore asks for no volumes"}, nil
		case !noted:
			return Result{LeaveOut: "the backup does not say what the storage calls its snapshots: they were not ready, or the backup was made without this plugin"}, nil
		}
		object.DeleteAnnotation(content, kubevirt.VolumeSnapshotsOnStorage)
		result, err := withStatus(content)
		result.Changes = append(result.Changes, Change{Path: volumeSnapshotsPath, What: "removed the note of what the storage calls the snapshots"})
		return result, err
	},
}

const volumeSnapshotsPath = "metadata.annotations[" + kubevirt.VolumeSnapshotsOnStorage + "]"

func noteVolumeSnapshots(content map[string]any, in Input) (Result, error) {
	if in.VolumeSnapshots == nil {
		return Result{}, nil
	}
	text, err := json.Marshal(in.VolumeSnapshots)
	if err != nil {
		return Result{}, err
	}
	changed, err := object.SetAnnotation(content, kubevirt.VolumeSnapshotsOnStorage, string(text))
	if err != nil || !changed {
		return Result{}, err
	}
	return Result{Changes: []Change{{Path: volumeSnapshotsPath, What: "noted what the storage calls the snapshots"}}}, nil
}

// VolumeSnapshots returns what a backed-up VirtualMachineSnapshotContent carries: by the name of each of its VolumeSnapshots the spec of a
// VolumeSnapshotContent for the snapshot that the storage has; false when it carries nothing.
func VolumeSnapshots(content map[string]any) (map[string]map[string]any, bool, error) {
	if !object.HasAnnotation(content, kubevirt.VolumeSnapshotsOnStorage) {
		return nil, false, nil
	}
	var specs map[string]map[string]any
	if err := json.Unmarshal([]byte(object.Annotation(content, kubevirt.VolumeSnapshotsOnStorage)), &specs); err != nil {
		return nil, false, fmt.Errorf("%s: %w", volumeSnapshotsPath, err)
	}
	return specs, true, nil
}

// withStatus makes Velero restore the status of an item, too.
func withStatus(obj map[string]any) (Result, error) {
	changed, err := object.SetAnnotation(obj, kubevirt.RestoreStatus, "true")
	if err != nil || !changed {
		return Result{}, err
	}
	return Result{Changes: []Change{{Path: "metadata.annotations[" + kubevirt.RestoreStatus + "]", What: "asked Velero for the status: it says that the snapshot was taken"}}}, nil
}
