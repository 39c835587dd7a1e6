package backup

import (
	"context"
	"errors"
	"fmt"
	"strconv"

	velerov1 "github.com/vmware-tanzu/velero/pkg/apis/velero/v1"
	velerov2alpha1 "github.com/vmware-tanzu/velero/pkg/apis/velero/v2alpha1"
	"github.com/vmware-tanzu/velero/pkg/label"
	"github.com/vmware-tanzu/velero/pkg/plugin/velero"
	uploader "github.com/vmware-tanzu/velero/pkg/uploader/util"
	"github.com/vmware-tanzu/velero/pkg/util/boolptr"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"velero-plugin-for-kubevirt/pkg/kubevirt"
	"velero-plugin-for-kubevirt/pkg/object"
	"velero-plugin-for-kubevirt/pkg/snapshot"
)

// A ClaimAnswer is what becomes of a claim, besides what was edited in place.
type ClaimAnswer struct {
	AdditionalItems []kubevirt.ID // what has to be backed up with it
	Operation       string        // what Velero is to ask about until it has ended; empty when the claim is complete
	Update          []kubevirt.ID // what is to be backed up again then
}

// BackUpClaim does what BackUp does for a PersistentVolumeClaim, and takes its snapshot if the backup's policy asks for it. If the backup moves data, it makes
// the DataUpload that Velero's data mover works from.
func (r *Run) BackUpClaim(ctx context.Context, id kubevirt.ID, obj map[string]any, backup *velerov1.Backup) (ClaimAnswer, error) {
	scope, err := r.scope(backup)
	if err != nil {
		return ClaimAnswer{}, err
	}
	var result *snapshot.Result
	if !isFinalizing(backup) {
		if result, err = r.snapshotClaim(ctx, id, obj, backup, scope); err != nil {
			return ClaimAnswer{}, err
		}
		if result == nil {
			r.recordSnapshot(ctx, id, obj, backup, scope)
		}
	}
	additional, err := r.BackUp(ctx, id, obj, backup)
	if err != nil || result == nil {
		return ClaimAnswer{AdditionalItems: additional}, err
	}
	if err := markSnapshotted(obj, result, backup); err != nil {
		return ClaimAnswer{}, err
	}
	if !boolptr.IsSetToTrue(backup.Spec.SnapshotMoveData) {
		return ClaimAnswer{AdditionalItems: append(additional, result.ID())}, nil
	}
	upload, err := moveData(ctx, scope.policy.client, obj, result, backup)
	if err != nil {
		// Without it nobody would ever remove the snapshot.
		err = errors.Join(err, r.storage.Delete(ctx, result.ID()))
		return ClaimAnswer{}, object.Failed(obj, "creating the DataUpload for", err)
	}
	r.setStored(id)
	_, err = object.SetAnnotation(obj, velerov1.DataUploadNameAnnotation, upload.Namespace+"/"+upload.Name)
	return ClaimAnswer{
		AdditionalItems: additional, Operation: upload.Labels[velerov1.AsyncOperationIDLabel],
		Update: []kubevirt.ID{{GroupResource: kubevirt.DataUploads, Namespace: upload.Namespace, Name: upload.Name}},
	}, err
}

// moveData makes the DataUpload for a snapshot. A plugin that was started again finds the one that was made before.
func moveData(ctx context.Context, c client.Client, claim map[string]any, result *snapshot.Result, backup *velerov1.Backup) (*velerov2alpha1.DataUpload, error) {
	class, err := object.String(claim, "spec.storageClassName")
	if err != nil {
		return nil, err
	}
	upload := newDataUpload(backup, result, object.UID(claim), class)
	if err := c.Create(ctx, upload); err != nil && !apierrors.IsAlreadyExists(err) {
		return nil, err
	}
	return upload, nil
}

// newDataUpload returns the DataUpload that Velero's CSI action would make (Velero 1.18.1, pkg/backup/actions/csi/pvc_action.go, newDataUpload), but for the
// name, which is always the same.
func newDataUpload(backup *velerov1.Backup, result *snapshot.Result, claimUID, storageClass string) *velerov2alpha1.DataUpload {
	operation := label.GetValidName(string(velerov1.AsyncOperationIDPrefixDataUpload) + string(backup.UID) + "." + claimUID)
	upload := &velerov2alpha1.DataUpload{
		ObjectMeta: metav1.ObjectMeta{
			Namespace: backup.Namespace, Name: nameAgain(backup.Name, operation),
			OwnerReferences: []metav1.OwnerReference{{
				APIVersion: velerov1.SchemeGroupVersion.String(), Kind: "Backup", Name: backup.Name, UID: backup.UID, Controller: boolptr.True(),
			}},
			Labels: map[string]string{
				velerov1.BackupNameLabel: label.GetValidName(backup.Name), velerov1.BackupUIDLabel: string(backup.UID),
				velerov1.PVCUIDLabel: claimUID, velerov1.AsyncOperationIDLabel: operation,
			},
		},
		Spec: velerov2alpha1.DataUploadSpec{
			SnapshotType: velerov2alpha1.SnapshotTypeCSI,
			CSISnapshot: &velerov2alpha1.CSISnapshotSpec{
				VolumeSnapshot: result.Name, StorageClass: storageClass, SnapshotClass: result.Class, Driver: result.Driver,
			},
			SourcePVC: result.Claim, SourceNamespace: result.Namespace, DataMover: backup.Spec.DataMover,
			BackupStorageLocation: backup.Spec.StorageLocation, OperationTimeout: backup.Spec.CSISnapshotTimeout,
		},
	}
	if config := backup.Spec.UploaderConfig; config != nil && config.ParallelFilesUpload > 0 {
		upload.Spec.DataMoverConfig = map[string]string{uploader.ParallelFilesUpload: strconv.Itoa(config.ParallelFilesUpload)}
	}
	return upload
}

// dataUpload returns the DataUpload of an operation.
func (r *Run) dataUpload(ctx context.Context, operation string, backup *velerov1.Backup) (client.Client, *velerov2alpha1.DataUpload, error) {
	c, err := r.client()
	if err != nil {
		return nil, nil, err
	}
	var uploads velerov2alpha1.DataUploadList
	if err := c.List(ctx, &uploads, client.InNamespace(backup.Namespace), client.MatchingLabels{velerov1.AsyncOperationIDLabel: operation}); err != nil {
		return nil, nil, fmt.Errorf("listing DataUploads in namespace %s: %w", backup.Namespace, err)
	}
	if len(uploads.Items) != 1 {
		return nil, nil, fmt.Errorf("there are %d DataUploads in namespace %s for operation %s of Backup %s, and not one", len(uploads.Items), backup.Namespace, operation, backup.Name)
	}
	return c, &uploads.Items[0], nil
}

// Progress tells how far the data mover is, as Velero's CSI action does (Velero 1.18.1, pkg/backup/actions/csi/pvc_action.go).
func (r *Run) Progress(ctx context.Context, operation string, backup *velerov1.Backup) (velero.OperationProgress, error) {
	_, upload, err := r.dataUpload(ctx, operation, backup)
	if err != nil {
		return velero.OperationProgress{}, err
	}
	status := upload.Status
	if status.Phase == "" || status.Phase == velerov2alpha1.DataUploadPhaseNew {
		return velero.OperationProgress{}, nil
	}
	progress := velero.OperationProgress{
		Description: string(status.Phase), OperationUnits: "Bytes", NCompleted: status.Progress.BytesDone, NTotal: status.Progress.TotalBytes,
	}
	if status.StartTimestamp != nil {
		progress.Started = status.StartTimestamp.Time
	}
	if status.CompletionTimestamp != nil {
		progress.Updated = status.CompletionTimestamp.Time
	}
	switch status.Phase {
	case velerov2alpha1.DataUploadPhaseCompleted:
		progress.Completed = true
	case velerov2alpha1.DataUploadPhaseFailed:
		progress.Completed, progress.Err = true, status.Message
	case velerov2alpha1.DataUploadPhaseCanceled:
		progress.Completed, progress.Err = true, "DataUpload is canceled"
	}
	return progress, nil
}

// Cancel asks the data mover to stop.
func (r *Run) Cancel(ctx context.Context, operation string, backup *velerov1.Backup) error {
	c, upload, err := r.dataUpload(ctx, operation, backup)
	if err != nil {
		return err
	}
	before := upload.DeepCopy()
	upload.Spec.Cancel = true
	if err := c.Patch(ctx, upload, client.MergeFrom(before)); err != nil {
		return fmt.Errorf("cancelling DataUpload %s/%s: %w", upload.Namespace, upload.Name, err)
	}
	return nil
}
