package backup

import (
	"context"
	"testing"

	snapshotv1 "github.com/kubernetes-csi/external-snapshotter/client/v8/apis/volumesnapshot/v1"
	corev1 "k8s.io/api/core/v1"
	storagev1 "k8s.io/api/storage/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"
)

// requests counts what reaches the API server.
type requests struct {
	client.Client
	made int
}

func (r *requests) Get(ctx context.Context, key client.ObjectKey, obj client.Object, options ...client.GetOption) error {
	r.made++
	return r.Client.Get(ctx, key, obj, options...)
}

func (r *requests) List(ctx context.Context, list client.ObjectList, options ...client.ListOption) error {
	r.made++
	return r.Client.List(ctx, list, options...)
}

func TestWhatVolumesShareIsReadOnce(t *testing.T) {
	_, storage, _ := storageWith(t, "kubevirt", "root:fast")
	counted := &requests{Client: storage.client}
	kept := newKeptClient(counted)
	for range 3 {
		class, classes := &storagev1.StorageClass{}, &snapshotv1.VolumeSnapshotClassList{}
		if err := kept.Get(t.Context(), client.ObjectKey{Name: "fast"}, class); err != nil || class.Provisioner != "csi.example.com" {
			t.Errorf("%+v, %v", class, err)
		}
		class.Provisioner = "changed by its reader"
		if err := kept.List(t.Context(), classes); err != nil || len(classes.Items) != 1 {
			t.Errorf("%+v, %v", classes, err)
		}
	}
	if counted.made != 2 {
		t.Errorf("%d requests", counted.made)
	}
	for range 2 {
		if err := kept.Get(t.Context(), client.ObjectKey{Namespace: "shop", Name: "root"}, &corev1.PersistentVolumeClaim{}); err != nil {
			t.Error(err)
		}
		if err := kept.Get(t.Context(), client.ObjectKey{Name: "gone"}, &storagev1.StorageClass{}); err == nil {
			t.Error("a class that is not there was found")
		}
		if err := kept.List(t.Context(), &corev1.PodList{}); err != nil {
			t.Error(err)
		}
	}
	if counted.made != 8 {
		t.Errorf("%d requests; what changes has to be read each time, and what failed again", counted.made)
	}
}
