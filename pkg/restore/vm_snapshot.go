package restore

import (
	"context"
	"encoding/json"
	"errors"
	"maps"
	"slices"
	"time"

	"github.com/sirupsen/logrus"
	velerov1 "github.com/vmware-tanzu/velero/pkg/apis/velero/v1"
	"github.com/vmware-tanzu/velero/pkg/util"

	"velero-plugin-for-kubevirt/pkg/kubevirt"
	"velero-plugin-for-kubevirt/pkg/object"
	"velero-plugin-for-kubevirt/pkg/rules"
	"velero-plugin-for-kubevirt/pkg/snapshot"
)

// storageTimeout is how long the storage may take to say that it has the snapshots of a VirtualMachineSnapshot.
const storageTimeout = time.Minute

// withVolumeSnapshots makes the VolumeSnapshots that a VirtualMachineSnapshotContent names, before it is restored, and gives them to it when its
// VirtualMachineSnapshot is restored, which is next: only then is the content's UID known. Else they would outlive it. True means that the content must
// be left out, since the storage does not have the snapshots any more.
func (r *Run) withVolumeSnapshots(ctx context.Context, id kubevirt.ID, original map[string]any, in rules.Input, restore *velerov1.Restore) (bool, error) {
	switch id.GroupResource {
	case kubevirt.VirtualMachineSnapshotContents:
		err := r.bringVolumeSnapshots(ctx, original, in.Target.Namespace, string(restore.UID))
		if errors.Is(err, snapshot.ErrRefused) {
			r.log.WithError(err).WithFields(logrus.Fields{
				"rule": "vm-snapshot-content", "item": id.String(), "target": in.Target.Namespace + "/" + in.Target.Name,
				"reason": "the storage does not have its snapshots",
			}).Warn("left out of the restore")
			return true, nil
		}
		return false, failed(original, err)
	case kubevirt.VirtualMachineSnapshots:
		return false, failed(original, r.ownVolumeSnapshots(ctx, in.SnapshotContent))
	}
	return false, nil
}

func failed(obj map[string]any, err error) error {
	if err == nil {
		return nil
	}
	return object.Failed(obj, "restoring the VolumeSnapshots of", err)
}

func (r *Run) bringVolumeSnapshots(ctx context.Context, original map[string]any, namespace, restoreUID string) error {
	specs, _, err := rules.VolumeSnapshots(original)
	if err != nil {
		return err
	}
	var missing []snapshot.Stored
	for _, name := range slices.Sorted(maps.Keys(specs)) {
		stored := snapshot.Stored{Namespace: namespace, Name: name, Spec: specs[name], Content: util.GenerateSha256FromRestoreUIDAndVsName(restoreUID, namespace+"/"+name)}
		there, err := r.reader.Get(ctx, stored.ID())
		if err != nil {
			return err
		}
		if there == nil {
			missing = append(missing, stored)
		}
		if err := r.withoutMissingClass(ctx, stored.Spec); err != nil {
			return err
		}
	}
	ctx, cancel := context.WithTimeout(ctx, storageTimeout)
	defer cancel()
	return snapshot.Adopt(ctx, r.writer, missing)
}

// withoutMissingClass removes the class from a VolumeSnapshotContent when the cluster does not have it: it would not become ready. The class is only needed
// for a driver that wants credentials (external-snapshotter 8.5.0, pkg/sidecar-controller/snapshot_controller.go, checkandUpdateContentStatusOperation).
func (r *Run) withoutMissingClass(ctx context.Context, spec map[string]any) error {
	name, _ := spec["volumeSnapshotClassName"].(string)
	if name == "" {
		return nil
	}
	class, err := r.reader.Get(ctx, kubevirt.ID{GroupResource: kubevirt.VolumeSnapshotClasses, Name: name})
	if err == nil && class == nil {
		delete(spec, "volumeSnapshotClassName")
	}
	return err
}

// snapshotContent returns the content of a VirtualMachineSnapshot that is in the cluster, nil when there is none.
func (r *Run) snapshotContent(ctx context.Context, target kubevirt.ID, original map[string]any) (map[string]any, error) {
	if target.GroupResource != kubevirt.VirtualMachineSnapshots {
		return nil, nil
	}
	name, err := object.String(original, "status.virtualMachineSnapshotContentName")
	if err != nil || name == "" {
		return nil, err
	}
	return r.reader.Get(ctx, kubevirt.ID{GroupResource: kubevirt.VirtualMachineSnapshotContents, Namespace: target.Namespace, Name: name})
}

// ownVolumeSnapshots makes a VirtualMachineSnapshotContent the owner of its VolumeSnapshots, as KubeVirt does when it takes them (KubeVirt 1.8.4,
// pkg/storage/snapshot/snapshot.go, createVolumeSnapshot).
func (r *Run) ownVolumeSnapshots(ctx context.Context, content map[string]any) error {
	names, err := object.Strings(content, "spec.volumeBackups[].volumeSnapshotName")
	if err != nil {
		return err
	}
	patch, err := json.Marshal(map[string]any{"metadata": map[string]any{"ownerReferences": []any{map[string]any{
		"apiVersion": content["apiVersion"], "kind": content["kind"], "name": object.Name(content), "uid": object.UID(content),
		"controller": true, "blockOwnerDeletion": true,
	}}}})
	if err != nil {
		return err
	}
	for _, name := range names {
		id := kubevirt.ID{GroupResource: kubevirt.VolumeSnapshots, Namespace: object.Namespace(content), Name: name.Value}
		there, err := r.reader.Get(ctx, id)
		if err == nil && there != nil && object.Owner(there) == nil {
			err = r.writer.Patch(ctx, id, patch)
		}
		if err != nil {
			return err
		}
	}
	return nil
}
