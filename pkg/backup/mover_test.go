package backup

import (
	"context"
	"maps"
	"slices"
	"testing"
	"time"

	snapshotv1 "github.com/kubernetes-csi/external-snapshotter/client/v8/apis/volumesnapshot/v1"
	velerov1 "github.com/vmware-tanzu/velero/pkg/apis/velero/v1"
	velerov2alpha1 "github.com/vmware-tanzu/velero/pkg/apis/velero/v2alpha1"
	"github.com/vmware-tanzu/velero/pkg/plugin/velero"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/client/fake"

	"velero-plugin-for-kubevirt/pkg/cluster"
	"velero-plugin-for-kubevirt/pkg/kubevirt"
	"velero-plugin-for-kubevirt/pkg/snapshot"
)

// runOn returns a run whose cluster has objects of Velero's and of the snapshotter.
func runOn(t *testing.T, objects ...client.Object) (*Run, *testStorage) {
	t.Helper()
	r, storage, _ := storageWith(t, "kubevirt")
	scheme := runtime.NewScheme()
	for _, add := range []func(*runtime.Scheme) error{velerov2alpha1.AddToScheme, snapshotv1.AddToScheme} {
		if err := add(scheme); err != nil {
			t.Fatal(err)
		}
	}
	c := fake.NewClientBuilder().WithScheme(scheme).WithObjects(objects...).Build()
	r.client = func() (client.Client, error) { return c, nil }
	return r, storage
}

func TestADataUploadSaysHowManyFilesAreReadAtOnceIfItIsAsked(t *testing.T) {
	for _, c := range []struct {
		config *velerov1.UploaderConfigForBackup
		want   map[string]string
	}{
		{nil, nil},
		{&velerov1.UploaderConfigForBackup{}, nil},
		{&velerov1.UploaderConfigForBackup{ParallelFilesUpload: 4}, map[string]string{"ParallelFilesUpload": "4"}},
	} {
		backup := withPolicy()
		backup.Spec.UploaderConfig = c.config
		upload := newDataUpload(backup, &snapshot.Result{}, "uid-root", "fast")
		if !maps.Equal(upload.Spec.DataMoverConfig, c.want) {
			t.Errorf("%v: %v", c.config, upload.Spec.DataMoverConfig)
		}
	}
}

func TestProgressOfADataUpload(t *testing.T) {
	began := metav1.NewTime(time.Unix(1_800_000_000, 0))
	running := velero.OperationProgress{Description: "InProgress", OperationUnits: "Bytes", NCompleted: 1, NTotal: 2, Started: began.Time}
	completed, failed := running, running
	completed.Description, completed.Completed = "Completed", true
	failed.Description, failed.Completed, failed.Err = "Failed", true, "no space"
	for phase, want := range map[velerov2alpha1.DataUploadPhase]velero.OperationProgress{
		"": {}, velerov2alpha1.DataUploadPhaseNew: {}, velerov2alpha1.DataUploadPhaseInProgress: running,
		velerov2alpha1.DataUploadPhaseCompleted: completed, velerov2alpha1.DataUploadPhaseFailed: failed,
	} {
		upload := newDataUpload(withPolicy(), &snapshot.Result{}, "uid-root", "fast")
		upload.Status.Phase, upload.Status.Message, upload.Status.StartTimestamp = phase, "no space", &began
		upload.Status.Progress.BytesDone, upload.Status.Progress.TotalBytes = 1, 2
		r, _ := runOn(t, upload)
		got, err := r.Progress(t.Context(), upload.Labels[velerov1.AsyncOperationIDLabel], withPolicy())
		got.Started = got.Started.UTC()
		want.Started = want.Started.UTC()
		if err != nil || got != want {
			t.Errorf("%q: %+v, want %+v, %v", phase, got, want, err)
		}
	}
}

// TestLeftoversAreDeletedOnce: Velero asks for each item of the deleted backup.
func TestLeftoversAreDeletedOnce(t *testing.T) {
	made := func(name string, labels map[string]string) *snapshotv1.VolumeSnapshot {
		s := &snapshotv1.VolumeSnapshot{ObjectMeta: metav1.ObjectMeta{Namespace: "shop", Name: name, Labels: map[string]string{
			velerov1.BackupNameLabel: "nightly", velerov1.BackupUIDLabel: "uid",
		}}}
		maps.Copy(s.Labels, labels)
		return s
	}
	r, storage := runOn(t, made("one", nil), made("two", nil), made("restored", map[string]string{velerov1.RestoreNameLabel: "morning"}),
		made("of-another", map[string]string{velerov1.BackupUIDLabel: "other"}))
	want := []kubevirt.ID{inShop(kubevirt.VolumeSnapshots, "one"), inShop(kubevirt.VolumeSnapshots, "two")}
	for call := range 2 {
		if err := r.DeleteLeftovers(context.Background(), withPolicy()); err != nil {
			t.Fatal(err)
		}
		if !slices.Equal(storage.deleted, want) {
			t.Errorf("after call %d: deleted %v, want %v", call+1, storage.deleted, want)
		}
	}
}

// TestLeftoversOfFailedBackupsAreDeleted: those of a backup that runs, restored ones and Velero's own stay.
func TestLeftoversOfFailedBackupsAreDeleted(t *testing.T) {
	var snapshots []client.Object
	for name, labels := range map[string]map[string]string{
		"failed": {velerov1.BackupUIDLabel: "failed"}, "gone": {velerov1.BackupUIDLabel: "gone"}, "active": {velerov1.BackupUIDLabel: "active"},
		"restored": {velerov1.BackupUIDLabel: "failed", velerov1.RestoreNameLabel: "morning"}, "of-velero": {velerov1.BackupNameLabel: "failed"},
	} {
		snapshots = append(snapshots, &snapshotv1.VolumeSnapshot{ObjectMeta: metav1.ObjectMeta{Namespace: "shop", Name: name, Labels: labels}})
	}
	r, storage := runOn(t, snapshots...)
	memory := cluster.Memory{}
	for uid, phase := range map[string]string{"failed": "Failed", "active": "InProgress"} {
		memory[kubevirt.VeleroBackups] = append(memory[kubevirt.VeleroBackups], &unstructured.Unstructured{Object: map[string]any{
			"metadata": map[string]any{"namespace": "velero", "name": uid, "uid": uid}, "status": map[string]any{"phase": phase},
		}})
	}
	r.reader = refusing{}
	if err := r.deleteOfFailed(t.Context()); err == nil || len(storage.deleted) != 0 {
		t.Errorf("without an answer about backups: %v, deleted %v", err, storage.deleted)
	}
	r.reader = memory
	if err := r.deleteOfFailed(t.Context()); err != nil {
		t.Fatal(err)
	}
	want := []kubevirt.ID{inShop(kubevirt.VolumeSnapshots, "failed"), inShop(kubevirt.VolumeSnapshots, "gone")}
	if !slices.Equal(storage.deleted, want) {
		t.Errorf("deleted %v, want %v", storage.deleted, want)
	}
	nothing, _ := runOn(t)
	nothing.reader = refusing{}
	if err := nothing.deleteOfFailed(t.Context()); err != nil {
		t.Errorf("when nothing is left, backups are asked for: %v", err)
	}
}
