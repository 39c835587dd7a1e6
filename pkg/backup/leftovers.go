package backup

import (
	"context"
	"fmt"

	snapshotv1 "github.com/kubernetes-csi/external-snapshotter/client/v8/apis/volumesnapshot/v1"
	velerov1 "github.com/vmware-tanzu/velero/pkg/apis/velero/v1"
	"github.com/vmware-tanzu/velero/pkg/label"
	"k8s.io/apimachinery/pkg/labels"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"velero-plugin-for-kubevirt/pkg/kubevirt"
	"velero-plugin-for-kubevirt/pkg/object"
)

// DeleteLeftovers removes, when a backup is deleted, the VolumeSnapshots that the plugin made for it and that did not get into it: Velero knows only those that are
// in the backup, and a plugin that was killed before it answered has told of none. What a restore has made of the backup carries its labels, and stays.
func (r *Run) DeleteLeftovers(ctx context.Context, backup *velerov1.Backup) error {
	r.mu.Lock()
	done := r.cleaned[backup.UID]
	r.mu.Unlock()
	if done {
		return nil // Velero asks for each item of the backup
	}
	left, err := r.snapshotsMade(ctx, fmt.Sprintf("%s=%s,%s=%s", velerov1.BackupNameLabel, label.GetValidName(backup.Name), velerov1.BackupUIDLabel, backup.UID))
	if err != nil {
		return fmt.Errorf("finding what is left of Backup %s/%s: %w", backup.Namespace, backup.Name, err)
	}
	for i := range left {
		if err := r.deleteLeftover(ctx, &left[i]); err != nil {
			return err
		}
	}
	r.mu.Lock()
	r.cleaned[backup.UID] = true
	r.mu.Unlock()
	return nil
}

// deleteOfFailed removes the VolumeSnapshots that the plugin made for backups that have failed, or are gone: Velero's server was killed. Velero itself looks for
// them in its own namespace only, and calls no plugin when a backup is deleted that has not come into the object store (Velero 1.18.1,
// pkg/controller/backup_deletion_controller.go).
func (r *Run) deleteOfFailed(ctx context.Context) error {
	left, err := r.snapshotsMade(ctx, velerov1.BackupUIDLabel)
	if err != nil || len(left) == 0 {
		return err
	}
	needed := map[string]bool{} // asked after the snapshots: each has been made for a Backup that was there before
	err = r.reader.Each(ctx, kubevirt.VeleroBackups, func(backup map[string]any) error {
		phase, err := object.String(backup, "status.phase")
		needed[object.UID(backup)] = phase != string(velerov1.BackupPhaseFailed)
		return err
	})
	if err != nil {
		return fmt.Errorf("finding the backups that VolumeSnapshots are of: %w", err)
	}
	for i := range left {
		if needed[left[i].Labels[velerov1.BackupUIDLabel]] {
			continue
		}
		if err := r.deleteLeftover(ctx, &left[i]); err != nil {
			return err
		}
	}
	return nil
}

// snapshotsMade returns the VolumeSnapshots that the plugin has made, which alone carry the UID of a Backup, and that are no restored ones.
func (r *Run) snapshotsMade(ctx context.Context, selector string) ([]snapshotv1.VolumeSnapshot, error) {
	c, err := r.client()
	if err != nil {
		return nil, err
	}
	parsed, err := labels.Parse(selector + ",!" + velerov1.RestoreNameLabel)
	if err != nil {
		return nil, err
	}
	var made snapshotv1.VolumeSnapshotList
	if err := c.List(ctx, &made, client.MatchingLabelsSelector{Selector: parsed}); err != nil {
		return nil, fmt.Errorf("listing VolumeSnapshots: %w", err)
	}
	return made.Items, nil
}

func (r *Run) deleteLeftover(ctx context.Context, snapshot *snapshotv1.VolumeSnapshot) error {
	id := kubevirt.ID{GroupResource: kubevirt.VolumeSnapshots, Namespace: snapshot.Namespace, Name: snapshot.Name}
	if err := r.storage.Delete(ctx, id); err != nil {
		return err
	}
	r.log.WithFields(map[string]any{"item": id.String(), "of": snapshot.Labels[velerov1.BackupNameLabel]}).Info("removed a VolumeSnapshot that a backup has left")
	return nil
}
