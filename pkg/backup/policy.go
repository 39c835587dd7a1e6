package backup

import (
	"context"
	"errors"
	"fmt"

	snapshotv1 "github.com/kubernetes-csi/external-snapshotter/client/v8/apis/volumesnapshot/v1"
	velerov1 "github.com/vmware-tanzu/velero/pkg/apis/velero/v1"
	velerov2alpha1 "github.com/vmware-tanzu/velero/pkg/apis/velero/v2alpha1"
	"github.com/vmware-tanzu/velero/pkg/plugin/utils/volumehelper"
	"github.com/vmware-tanzu/velero/pkg/util/csi"
	"github.com/vmware-tanzu/velero/pkg/util/podvolume"
	velerovolumehelper "github.com/vmware-tanzu/velero/pkg/util/volumehelper"
	corev1 "k8s.io/api/core/v1"
	storagev1 "k8s.io/api/storage/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"velero-plugin-for-kubevirt/pkg/kubevirt"
	"velero-plugin-for-kubevirt/pkg/object"
	"velero-plugin-for-kubevirt/pkg/snapshot"
)

// Storage is where snapshots are taken.
type Storage interface {
	snapshot.Cluster
	// Client returns a client for Velero's own functions.
	Client() (client.Client, error)
}

// veleroClient makes a client that also knows the types of Velero's data mover.
func veleroClient(storage Storage) (client.Client, error) {
	c, err := storage.Client()
	if err != nil {
		return nil, err
	}
	return c, velerov2alpha1.AddToScheme(c.Scheme())
}

// A policy tells who snapshots which claim. Its zero value knows of none.
type policy struct {
	client  client.Client
	volumes velerovolumehelper.VolumeHelper
	custom  bool                   // the backup has a resource policy, which may give claims to the plugin
	pods    *podvolume.PVCPodCache // of which Velero may copy the files
}

// policyOf reads how a backup takes snapshots: its resource policy, if any, which Velero has validated, and its spec.
func (r *Run) policyOf(backup *velerov1.Backup) (policy, error) {
	if !takesSnapshots(backup) {
		return policy{}, nil
	}
	c, err := r.client()
	if err != nil {
		return policy{}, err
	}
	c = newKeptClient(c)
	pods := podvolume.NewPVCPodCache()
	volumes, err := volumehelper.NewVolumeHelperWithCache(*backup, c, silent, pods)
	if err != nil {
		return policy{}, fmt.Errorf("reading the resource policy of Backup %s/%s: %w", backup.Namespace, backup.Name, err)
	}
	return policy{client: c, volumes: volumes, custom: backup.Spec.ResourcePolicy != nil, pods: pods}, nil
}

// asksFor tells whether the plugin is to snapshot a claim.
func (p policy) asksFor(claim map[string]any) (bool, error) {
	if !p.custom {
		return false, nil
	}
	return p.volumes.ShouldPerformCustomAction(&unstructured.Unstructured{Object: claim}, kubevirt.PersistentVolumeClaims, map[string]any{"snapshotter": kubevirt.Snapshotter})
}

// leavesToVelero tells whether Velero is to snapshot a claim, as its CSI action finds out (Velero 1.18.1, pkg/backup/actions/csi/pvc_action.go, Execute). Velero does
// not do it for every claim that it is to: not every volume is a CSI driver's.
func (p policy) leavesToVelero(ctx context.Context, claim map[string]any) (bool, error) {
	if err := p.pods.BuildCacheForNamespace(ctx, object.Namespace(claim), p.client); err != nil {
		return false, err
	}
	return p.volumes.ShouldPerformSnapshot(&unstructured.Unstructured{Object: claim}, kubevirt.PersistentVolumeClaims)
}

// classFor returns the VolumeSnapshotClass with which Velero snapshots a claim.
func (p policy) classFor(ctx context.Context, claim *corev1.PersistentVolumeClaim, backup *velerov1.Backup) (*snapshotv1.VolumeSnapshotClass, error) {
	failed := func(doing string, err error) error {
		return fmt.Errorf("%s PersistentVolumeClaim %s/%s: %w", doing, claim.Namespace, claim.Name, err)
	}
	if claim.Spec.StorageClassName == nil {
		return nil, failed("snapshotting", errors.New("it has no storage class, which names the CSI driver"))
	}
	storageClass := &storagev1.StorageClass{}
	if err := p.client.Get(ctx, client.ObjectKey{Name: *claim.Spec.StorageClassName}, storageClass); err != nil {
		return nil, failed("finding the storage class of", err)
	}
	class, err := csi.GetVolumeSnapshotClass(storageClass.Provisioner, backup, claim, silent, p.client)
	if err != nil {
		return nil, failed("finding the VolumeSnapshotClass of", err)
	}
	return class, nil
}
