//go:build e2e

package e2e

import (
	"fmt"
	"os"
	"path/filepath"
	"testing"
	"time"

	"velero-plugin-for-kubevirt/tests/cluster"
)

// TestAnotherClusterRestoresFromObjectStoreAndSnapshots loses a namespace with its volumes and then the whole cluster. What
// is left is the object store, and the snapshots on the storage.
func TestAnotherClusterRestoresFromObjectStoreAndSnapshots(t *testing.T) {
	t.Parallel()
	storage := t.TempDir()
	first := onStorage(t, storage)
	first.Importer.Serve(goldenURL, []byte(golden)) // the second cluster has it not: an import there would not end
	if err := first.Load(t.Context(), manifest(t, "exile", "exile.yaml")); err != nil {
		t.Fatal(err)
	}
	first.settle(t, "exile")
	for claim := range first.find(t, "v1", "PersistentVolumeClaim", "exile") {
		if err := first.WriteText(t.Context(), "exile", claim, "written to "+claim); err != nil {
			t.Fatal(err)
		}
	}
	before := first.inventory(t, "exile")
	report := first.backup(t, "--include-namespaces", "exile",
		"--annotations", "velero.io/csi-volumesnapshot-class_"+cluster.CSIDriver+"="+cluster.SnapshotClassRetain)
	contents := 0
	for _, item := range report.Items {
		if item.GetKind() != "VolumeSnapshotContent" {
			continue
		}
		contents++
		if class := text(item, "spec", "volumeSnapshotClassName"); class != cluster.SnapshotClassRetain {
			t.Errorf("snapshot %s is of class %s", item.GetName(), class)
		}
	}
	first.loseMachines(t, "exile")
	if volumes, snapshots := onArray(t, storage, "volumes"), onArray(t, storage, "snapshots"); contents != 3 || volumes != 0 || snapshots != 3 {
		t.Fatalf("%d disks are in the backup, the storage has %d volumes and %d snapshots, want 3, 0 and 3", contents, volumes, snapshots)
	}
	if err := finish(first.Cluster); err != nil {
		t.Fatal(err)
	}

	second := onStorage(t, storage)
	second.await(t, 2*time.Minute, func() string {
		synced, err := second.Find(t.Context(), "velero.io/v1", "Backup", cluster.VeleroNamespace)
		if err != nil || synced[report.Name] == nil {
			return fmt.Sprintf("Velero does not know the backup: %v", err)
		}
		return ""
	})
	second.restore(t, report.Name, "--include-namespaces", "exile")
	second.settle(t, "exile")
	second.sameAgain(t, "exile", before)
}

// onStorage returns a cluster of its own, whose object store and CSI driver keep their files in a folder.
func onStorage(t *testing.T, folder string) *testCluster {
	t.Helper()
	skipIfForeign(t, "takes two clusters on one storage")
	w, err := startCluster(cluster.Options{Storage: folder})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { // before its folder goes
		if err := finish(w.Cluster); err != nil {
			t.Error(err)
		}
	})
	return w
}

// onArray counts what the storage has of a kind.
func onArray(t *testing.T, storage, kind string) int {
	t.Helper()
	entries, err := os.ReadDir(filepath.Join(storage, "csi", kind))
	if err != nil {
		t.Fatal(err)
	}
	return len(entries)
}
