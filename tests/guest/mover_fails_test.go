//go:build guest && linux

package guest

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	velerov1 "github.com/vmware-tanzu/velero/pkg/apis/velero/v1"
	"golang.org/x/sys/unix"
	"k8s.io/apimachinery/pkg/types"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"velero-plugin-for-kubevirt/pkg/consistency"
	"velero-plugin-for-kubevirt/tests/cluster"
	"velero-plugin-for-kubevirt/tests/story"
)

// uploadsFail backs up a VM while its data cannot be moved. Velero says that the backup is not whole, whatever the plugin said about its
// snapshots; the guest goes on, and nothing is left behind.
func uploadsFail(t *testing.T, vm VM) {
	for _, fault := range []struct {
		name  string
		cause func(ctx context.Context, backup string) error
	}{
		{"killed", func(ctx context.Context, _ string) error { return killMover(ctx, "backup") }},
		{"cancelled", cancelUploads},
		{"no-object-store", func(ctx context.Context, _ string) error {
			if err := awaitMover(ctx, "backup"); err != nil {
				return err
			}
			return site.Cluster.WithoutObjectStore(ctx, func() error {
				time.Sleep(time.Minute)
				return nil
			})
		}},
	} {
		t.Run(fault.name, func(t *testing.T) {
			name := "upload-" + fault.name
			done := inBackground(t, func() (*story.BackupReport, error) {
				return site.Backup(t.Context(), name, "--include-namespaces", vm.Namespace, "--snapshot-move-data")
			})
			if err := fault.cause(t.Context(), name); err != nil {
				t.Fatal(err)
			}
			report := <-done
			if report == nil {
				return
			}
			level, reason, _ := verdict(report, vm)
			t.Logf("%s after %.1f s, %s %s: %q", report.Phase, report.Took.Seconds(), level, reason, report.Trouble())
			uploads := 0
			for _, upload := range find(t, "velero.io/v2alpha1", "DataUpload", cluster.VeleroNamespace) {
				if upload.GetLabels()[velerov1.BackupNameLabel] == name && field(upload, "status", "phase") == "Completed" {
					uploads++
				}
			}
			if whole := uploads == 2; whole != (report.Phase == "Completed") {
				t.Errorf("%d of 2 disks were moved, and the backup is %s", uploads, report.Phase)
			}
			if level != string(consistency.Filesystem) {
				t.Errorf("the verdict on the snapshots is %q, %q", level, reason)
			}
			if snapshots := find(t, "snapshot.storage.k8s.io/v1", "VolumeSnapshotContent", ""); len(snapshots) > 0 {
				t.Errorf("%d snapshots are left", len(snapshots))
			}
			if err := site.AwaitWrites(t.Context(), vm, 5, patience); err != nil {
				t.Error(err)
			}
		})
	}
}

// doesNotArrive restores a VM while its data cannot be moved. It must not start on disks that are not whole.
func (b movedBackup) doesNotArrive(t *testing.T, vm VM) {
	t.Helper()
	b.awaitSynced(t)
	for _, fault := range []struct {
		name  string
		cause func(ctx context.Context) error
	}{
		{"killed", func(ctx context.Context) error { return killMover(ctx, "restore") }},
		{"no-space", withoutSpace},
	} {
		t.Run(fault.name, func(t *testing.T) {
			done := inBackground(t, func() (*story.Report, error) {
				return site.Restore(t.Context(), "download-"+fault.name, b.name, "--include-namespaces", vm.Namespace, "--item-operation-timeout", "90s")
			})
			if err := fault.cause(t.Context()); err != nil {
				t.Fatal(err)
			}
			report := <-done
			if report == nil {
				return
			}
			machine := find(t, "kubevirt.io/v1", "VirtualMachine", vm.Namespace)[vm.Name]
			if report.Phase == "Completed" || machine == nil {
				t.Fatalf("the restore is %s", report.Phase)
			}
			t.Logf("%s after %.1f s: %q; the VM is %s, %s", report.Phase, report.Took.Seconds(), report.Trouble(),
				field(machine, "spec", "runStrategy"), field(machine, "status", "printableStatus"))
			if pod, err := site.launcher(t.Context(), vm); err == nil {
				t.Errorf("the VM runs on disks that are not whole, in pod %s", pod.Name)
			}
			if err := site.LoseNamespace(t.Context(), vm.Namespace); err != nil {
				t.Fatal(err)
			}
		})
	}
}

// withoutSpace lets the storage run out of space while the data mover fills a disk, until it gives up.
func withoutSpace(ctx context.Context) error {
	disks := filepath.Join(os.Getenv(dirVariable), storageFolder, "csi")
	if err := unix.Mount("tmpfs", disks, "tmpfs", 0, "size=64m"); err != nil {
		return fmt.Errorf("making the storage small: %w", err)
	}
	for _, folder := range []string{"volumes", "snapshots", "drafts"} { // where the CSI driver looks for them
		if err := os.Mkdir(filepath.Join(disks, folder), 0o755); err != nil {
			return err
		}
	}
	if err := awaitMover(ctx, "restore"); err != nil {
		return err
	}
	time.Sleep(20 * time.Second)
	return unix.Unmount(disks, unix.MNT_DETACH)
}

// uploadBegins is the reason of the event by which a data mover says so (Velero v1.18.1, pkg/datapath/micro_service_watcher.go, EventReasonStarted).
const uploadBegins = "Data-Path-Started"

// cancelUploads asks for the end of a backup's uploads, as Velero does when they take too long, while the first is being done. A pod of the data mover that is
// still starting would not hear of it, and its upload would be "Canceling" for an hour (Velero v1.18.1, pkg/datamover/backup_micro_service.go, Init;
// pkg/controller/data_upload_controller.go, cancelDelayInProgress).
func cancelUploads(ctx context.Context, backup string) error {
	if err := await(ctx, patience, "an upload to begin", func() (bool, error) {
		events, err := site.Find(ctx, "v1", "Event", cluster.VeleroNamespace)
		for _, event := range events {
			if field(event, "reason") == uploadBegins && strings.HasPrefix(field(event, "involvedObject", "name"), backup+"-") {
				return true, nil
			}
		}
		return false, err
	}); err != nil {
		return err
	}
	uploads, err := site.Find(ctx, "velero.io/v2alpha1", "DataUpload", cluster.VeleroNamespace)
	if err != nil {
		return err
	}
	for _, upload := range uploads {
		if upload.GetLabels()[velerov1.BackupNameLabel] == backup {
			if err := site.Patch(ctx, upload, client.RawPatch(types.MergePatchType, []byte(`{"spec": {"cancel": true}}`))); err != nil {
				return err
			}
		}
	}
	return nil
}

func killMover(ctx context.Context, what string) error {
	return await(ctx, patience, "a pod of the data mover to kill", func() (bool, error) {
		killed, err := cluster.KillCommands(isMover(what))
		return killed > 0, err
	})
}

// awaitMover waits until a pod of the data mover runs.
func awaitMover(ctx context.Context, what string) error {
	return await(ctx, patience, "a pod of the data mover", func() (bool, error) {
		pids, err := cluster.Commands(isMover(what))
		return len(pids) > 0, err
	})
}

// isMover tells whether a process is that of a data mover's pod, for backup or restore (Velero v1.18.1, pkg/exposer).
func isMover(what string) func(args []string) bool {
	return func(args []string) bool {
		return len(args) > 2 && args[0] == "/velero" && args[1] == "data-mover" && args[2] == what
	}
}

// inBackground does something that lasts, and returns where its result comes: nil if it failed, which is an error of the test.
func inBackground[R any](t *testing.T, do func() (*R, error)) <-chan *R {
	done := make(chan *R, 1)
	go func() {
		result, err := do()
		if err != nil {
			t.Error(err)
		}
		done <- result
	}()
	return done
}
