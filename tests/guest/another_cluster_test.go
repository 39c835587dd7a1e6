//go:build guest && linux

package guest

import (
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"testing"
	"time"

	velerov1 "github.com/vmware-tanzu/velero/pkg/apis/velero/v1"
	corev1 "k8s.io/api/core/v1"
	storagev1 "k8s.io/api/storage/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"velero-plugin-for-kubevirt/pkg/consistency"
	"velero-plugin-for-kubevirt/tests/cluster"
	"velero-plugin-for-kubevirt/tests/story"
)

// TestAnotherClusterRestores moves the data of a running VM to the object store, by its namespace and by its label, in one cut and
// not, and loses the cluster with its storage. Another cluster, whose storage class has another name, restores each: the VM is held until its
// data is there, boots, and has all that it had been told to be stored. It is the first story of this package, and the others are told in the cluster that it leaves.
func TestAnotherClusterRestores(t *testing.T) {
	vm := VM{"harbour", "boat"}
	boots(t, vm)
	t.Run("AnUploadFails", func(t *testing.T) { uploadsFail(t, vm) })
	var moved []movedBackup
	t.Run("Backup", func(t *testing.T) {
		makePolicy(t)
		for _, selection := range [][]string{{"namespace", "--include-namespaces", vm.Namespace}, {"label", "--selector", "app=" + vm.Name}} {
			name, args := "moved-by-"+selection[0], selection[1:]
			moved = append(moved, moves(t, vm, name, 0, args...), moves(t, vm, name+"-in-one-cut", 1, append(args, oneCut...)...))
		}
	})
	if size := bytesBelow(t, filepath.Join(site.Cluster.BucketDir(), "kopia", vm.Namespace)); size < dataSize/8 {
		t.Errorf("the object store has %d bytes of the disks", size)
	}

	if err := site.Cluster.CheckRole(role); err != nil {
		t.Error(err)
	}
	if err := site.LoseCluster(t.Context()); err != nil {
		fmt.Fprintln(os.Stderr, "FAIL: there is no cluster any more:", err)
		os.Exit(1)
	}
	watch()
	useOtherStorage(t)
	t.Run("ADownloadFails", func(t *testing.T) { moved[0].doesNotArrive(t, vm) })
	for _, backup := range moved {
		t.Run(backup.name, func(t *testing.T) { backup.arrives(t, vm) })
		if err := site.LoseNamespace(t.Context(), vm.Namespace); err != nil {
			t.Fatal(err)
		}
	}
}

// A movedBackup is one whose data is in the object store.
type movedBackup struct {
	name   string
	stored int // the last number that the guest had said to be stored before
}

// moves backs up a VM with its data, which has some cuts by the plugin.
func moves(t *testing.T, vm VM, name string, cuts int, args ...string) movedBackup {
	t.Helper()
	lines, err := site.Console(t.Context(), vm)
	if err != nil {
		t.Fatal(err)
	}
	moved := movedBackup{name: name, stored: LastBefore(lines, time.Now())}
	report, err := site.Backup(t.Context(), moved.name, append(args, "--snapshot-move-data")...)
	if err != nil {
		t.Fatal(err)
	}
	wentWell(t, report.Report)
	level, reason, window := verdict(report, vm)
	if level != string(consistency.Filesystem) {
		t.Errorf("the verdict is %q, %q", level, reason)
	}
	for _, line := range report.Log {
		if line.Message() == "the disks were snapshotted at once" {
			cuts--
		}
	}
	if cuts != 0 {
		t.Errorf("%s: %d cuts are missing", name, cuts)
	}
	uploads := 0
	for _, upload := range find(t, "velero.io/v2alpha1", "DataUpload", cluster.VeleroNamespace) {
		if upload.GetLabels()[velerov1.BackupNameLabel] == moved.name && field(upload, "status", "phase") == "Completed" {
			uploads++
		}
	}
	if snapshots := find(t, "snapshot.storage.k8s.io/v1", "VolumeSnapshotContent", ""); uploads != 2 || len(snapshots) > 0 {
		t.Errorf("%d disks were moved, and there are %d snapshots left, want 2 and 0", uploads, len(snapshots))
	}
	t.Logf("%s took %.1f s, window %s, %d numbers stored before", moved.name, report.Took.Seconds(), window, moved.stored)
	return moved
}

// useOtherStorage gives the default storage class another name, and tells Velero about it.
func useOtherStorage(t *testing.T) {
	t.Helper()
	old := &storagev1.StorageClass{ObjectMeta: metav1.ObjectMeta{Name: cluster.StorageClass}}
	if err := site.Delete(t.Context(), old); err != nil {
		t.Fatal(err)
	}
	for _, obj := range []client.Object{
		&storagev1.StorageClass{
			ObjectMeta:  metav1.ObjectMeta{Name: "other", Annotations: map[string]string{"storageclass.kubernetes.io/is-default-class": "true"}},
			Provisioner: cluster.CSIDriver,
		},
		&corev1.ConfigMap{
			ObjectMeta: metav1.ObjectMeta{
				Namespace: cluster.VeleroNamespace, Name: "classes",
				Labels: map[string]string{"velero.io/plugin-config": "", "velero.io/change-storage-class": "RestoreItemAction"},
			},
			Data: map[string]string{cluster.StorageClass: "other"},
		},
	} {
		if err := site.Create(t.Context(), obj); err != nil {
			t.Fatal(err)
		}
	}
}

// arrives restores a VM, which is held until its data is there, and looks at what its guest finds.
func (b movedBackup) arrives(t *testing.T, vm VM) {
	t.Helper()
	b.awaitSynced(t)
	restored := inBackground(t, func() (*story.Report, error) {
		return site.Restore(t.Context(), b.name, b.name, "--include-namespaces", vm.Namespace)
	})
	held := isHeld(t, vm)
	report := <-restored
	if report == nil {
		return
	}
	wentWell(t, *report)
	for name, claim := range find(t, "v1", "PersistentVolumeClaim", vm.Namespace) {
		if class := field(claim, "spec", "storageClassName"); class != "other" {
			t.Errorf("the claim %s is of class %q", name, class)
		}
	}
	runs(t, vm)
	lines, err := site.Console(t.Context(), vm)
	if err != nil {
		t.Fatal(err)
	}
	if found, ok := Found(lines); !ok || !found.Consistent() || found.Database < b.stored {
		t.Errorf("%d numbers were stored before, and the restored guest found %+v", b.stored, found)
	} else {
		t.Logf("restore took %.1f s, the VM was held for %.1f s of it, and the guest found %+v", report.Took.Seconds(), held.Seconds(), found)
	}
}

// awaitSynced waits until Velero has found the backup in the object store.
func (b movedBackup) awaitSynced(t *testing.T) {
	t.Helper()
	if err := await(t.Context(), patience, "Velero to know of "+b.name, func() (bool, error) {
		err := site.Get(t.Context(), client.ObjectKey{Namespace: cluster.VeleroNamespace, Name: b.name}, &velerov1.Backup{})
		return err == nil, client.IgnoreNotFound(err)
	}); err != nil {
		t.Fatal(err)
	}
}

// isHeld checks that a VM that is being restored does not start before all its disks have their data, and returns how long it was held.
func isHeld(t *testing.T, vm VM) time.Duration {
	t.Helper()
	begin := time.Time{}
	if err := await(t.Context(), patience, "the VM to be released", func() (bool, error) {
		machine := find(t, "kubevirt.io/v1", "VirtualMachine", vm.Namespace)[vm.Name]
		if machine == nil {
			return false, nil
		}
		if begin.IsZero() {
			begin = time.Now()
		}
		if field(machine, "spec", "runStrategy") == "Halted" {
			return false, nil
		}
		// Velero binds a claim when its data is in the volume, and says a moment later that it is (Velero v1.18.1, pkg/controller/data_download_controller.go,
		// OnDataDownloadCompleted). The restore is Completed only when it has said so of all.
		for name, claim := range find(t, "v1", "PersistentVolumeClaim", vm.Namespace) {
			if phase := field(claim, "status", "phase"); phase != "Bound" {
				return false, fmt.Errorf("it was released when the claim %s was %s", name, phase)
			}
		}
		return true, nil
	}); err != nil {
		t.Error(err)
	}
	held := time.Since(begin)
	if held < time.Second {
		t.Errorf("the VM was held for %s only", held)
	}
	return held
}

func find(t *testing.T, apiVersion, kind, namespace string) map[string]*unstructured.Unstructured {
	t.Helper()
	found, err := site.Find(t.Context(), apiVersion, kind, namespace)
	if err != nil {
		t.Fatal(err)
	}
	return found
}

// field returns a text in an object, empty if it is not there.
func field(obj *unstructured.Unstructured, path ...string) string {
	value, _, _ := unstructured.NestedString(obj.Object, path...)
	return value
}

// bytesBelow returns how much the files in a folder hold.
func bytesBelow(t *testing.T, folder string) (size int64) {
	t.Helper()
	err := filepath.WalkDir(folder, func(_ string, entry fs.DirEntry, err error) error {
		if err != nil || entry.IsDir() {
			return err
		}
		info, err := entry.Info()
		if err == nil {
			size += info.Size()
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return size
}
