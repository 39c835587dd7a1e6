package backup

import (
	"context"
	"sync"

	snapshotv1 "github.com/kubernetes-csi/external-snapshotter/client/v8/apis/volumesnapshot/v1"
	storagev1 "k8s.io/api/storage/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"
)

// keptClient keeps what a backup's volumes share, storage classes and VolumeSnapshotClasses: Velero's functions read them for each claim, while its guest is frozen.
type keptClient struct {
	client.Client
	mu      sync.Mutex
	storage map[client.ObjectKey]*storagev1.StorageClass
	classes *snapshotv1.VolumeSnapshotClassList
}

func newKeptClient(c client.Client) *keptClient {
	return &keptClient{Client: c, storage: map[client.ObjectKey]*storagev1.StorageClass{}}
}

// Get reads a StorageClass once, and anything else each time.
func (k *keptClient) Get(ctx context.Context, key client.ObjectKey, obj client.Object, options ...client.GetOption) error {
	class, is := obj.(*storagev1.StorageClass)
	if !is {
		return k.Client.Get(ctx, key, obj, options...)
	}
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.storage[key] == nil {
		if err := k.Client.Get(ctx, key, obj, options...); err != nil {
			return err
		}
		k.storage[key] = class.DeepCopy()
	}
	k.storage[key].DeepCopyInto(class)
	return nil
}

// List lists all VolumeSnapshotClasses once, and anything else each time.
func (k *keptClient) List(ctx context.Context, list client.ObjectList, options ...client.ListOption) error {
	classes, is := list.(*snapshotv1.VolumeSnapshotClassList)
	if !is || len(options) > 0 {
		return k.Client.List(ctx, list, options...)
	}
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.classes == nil {
		if err := k.Client.List(ctx, list); err != nil {
			return err
		}
		k.classes = classes.DeepCopy()
	}
	k.classes.DeepCopyInto(classes)
	return nil
}
