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
)

// DeleteLeftovers removes, when a backup is deleted, the VolumeSnapshots that the plugin made for it and that did not get into it: Velero knows only those that are
// in the backup, and a plugin that was killed before it answered has told of none. What a restore has made of the backup carries its labels, and stays.
func (r *Run) DeleteLeftovers(ctx context.Context, backup *velerov1.Backup) error {
	r.mu.Lock()
	done := r.cleaned[backup.UID]
	r.cleaned[backup.UID] = true
	r.mu.Unlock()
	if done {
		return nil // Velero asks for each item of the backup
	}
	c, err := r.client()
	if err != nil {
		return err
	}
	selector, err := labels.Parse(fmt.Sprintf("%s=%s,%s=%s,!%s", velerov1.BackupNameLabel, label.GetValidName(backup.Name), velerov1.BackupUIDLabel, backup.UID, velerov1.RestoreNameLabel))
	if err != nil {
		return fmt.Errorf("selecting the VolumeSnapshots of Backup %s/%s: %w", backup.Namespace, backup.Name, err)
	}
	var left snapshotv1.VolumeSnapshotList
	if err := c.List(ctx, &left, client.MatchingLabelsSelector{Selector: selector}); err != nil {
		return fmt.Errorf("listing the VolumeSnapshots of Backup %s/%s: %w", backup.Namespace, backup.Name, err)
	}
	for i := range left.Items {
		id := kubevirt.ID{GroupResource: kubevirt.VolumeSnapshots, Namespace: left.Items[i].Namespace, Name: left.Items[i].Name}
		if err := r.storage.Delete(ctx, id); err != nil {
			return err
		}
		r.log.WithField("item", id.String()).Info("removed a VolumeSnapshot that was not in the deleted backup")
	}
	return nil
}
