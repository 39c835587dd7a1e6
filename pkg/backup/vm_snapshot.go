package backup

import (
	"context"

	"velero-plugin-for-kubevirt/pkg/kubevirt"
	"velero-plugin-for-kubevirt/pkg/object"
)

// volumeSnapshots returns, of a VirtualMachineSnapshotContent, by the name of each of its VolumeSnapshots the spec of a VolumeSnapshotContent for the snapshot
// that the storage has; nil when one is missing or not ready: without it the VM cannot be put back.
func (r *Run) volumeSnapshots(ctx context.Context, id kubevirt.ID, content map[string]any) (map[string]map[string]any, error) {
	status, err := object.Map(content, "status")
	if err != nil || status["readyToUse"] != true {
		return nil, err
	}
	names, err := object.Strings(content, "spec.volumeBackups[].volumeSnapshotName")
	if err != nil {
		return nil, err
	}
	specs := map[string]map[string]any{}
	for _, name := range names {
		spec, err := r.onStorage(ctx, kubevirt.ID{GroupResource: kubevirt.VolumeSnapshots, Namespace: id.Namespace, Name: name.Value})
		if err != nil || spec == nil {
			return nil, err
		}
		specs[name.Value] = spec
	}
	return specs, nil
}

// onStorage returns what the storage calls the snapshot of a VolumeSnapshot; nil when there is none.
func (r *Run) onStorage(ctx context.Context, id kubevirt.ID) (map[string]any, error) {
	bound := kubevirt.ID{GroupResource: kubevirt.VolumeSnapshotContents}
	snapshot, err := r.reader.Get(ctx, id)
	if err == nil {
		bound.Name, err = object.String(snapshot, "status.boundVolumeSnapshotContentName")
	}
	if err != nil || bound.Name == "" {
		return nil, err
	}
	content, err := r.reader.Get(ctx, bound)
	if err != nil {
		return nil, err
	}
	handle, err := object.String(content, "status.snapshotHandle")
	if err != nil || handle == "" {
		return nil, err
	}
	spec, err := object.Map(content, "spec")
	if err != nil {
		return nil, err
	}
	kept := map[string]any{"source": map[string]any{"snapshotHandle": handle}}
	for _, field := range []string{"driver", "sourceVolumeMode", "volumeSnapshotClassName"} {
		if spec[field] != nil {
			kept[field] = spec[field]
		}
	}
	return kept, nil
}
