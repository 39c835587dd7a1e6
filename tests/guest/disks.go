//go:build linux

package guest

import (
	"context"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"time"

	"velero-plugin-for-kubevirt/tests/story"
)

// A Snapshot is one in a backup.
type Snapshot struct {
	Path string        // of the file with its bytes
	Took time.Duration // by the storage
}

// Snapshots returns the snapshots in a backup, by claim.
func (w *NodeCluster) Snapshots(report *story.BackupReport) (map[string]Snapshot, error) {
	handles, err := report.SnapshotHandles()
	if err != nil {
		return nil, err
	}
	snapshots := map[string]Snapshot{}
	for claim, handle := range handles {
		took, err := w.Cluster.SnapshotTook(handle)
		if err != nil {
			return nil, err
		}
		snapshots[claim] = Snapshot{Path: w.Cluster.SnapshotBytes(handle), Took: took}
	}
	return snapshots, nil
}

// Inspect looks at copies of the snapshots of two disks: at the file systems as they are, and at the files with the guest's own program, as they are
// after the journals were replayed.
func Inspect(ctx context.Context, root, data Snapshot) (truth Truth, err error) {
	dir, err := os.MkdirTemp("", "inspect-")
	if err != nil {
		return truth, err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(dir)) }()
	rootCopy, dataCopy, mounted := filepath.Join(dir, "root"), filepath.Join(dir, "data"), filepath.Join(dir, "mounted")
	for from, to := range map[string]string{root.Path: rootCopy, data.Path: dataCopy} {
		if err := copyDisk(ctx, from, to); err != nil {
			return truth, err
		}
	}
	if truth.RootRecovery, err = needsRecovery(rootCopy); err != nil {
		return truth, err
	}
	if truth.DataRecovery, err = needsRecovery(dataCopy); err != nil {
		return truth, err
	}
	if err := os.Mkdir(mounted, 0o755); err != nil {
		return truth, err
	}
	err = truth.look(ctx, mounted, rootCopy, dataCopy)
	for _, disk := range []string{rootCopy, dataCopy} {
		if _, fsckErr := run(ctx, "e2fsck", "-f", "-n", disk); err == nil && fsckErr != nil {
			truth.Problem = fsckErr.Error()
		}
	}
	return truth, err
}

// look mounts the disks and asks the program on them.
func (t *Truth) look(ctx context.Context, mounted, root, data string) (err error) {
	for _, m := range []struct{ disk, at string }{{root, mounted}, {data, mounted + "/data"}} {
		if _, err := run(ctx, "mount", "-o", "loop", m.disk, m.at); err != nil {
			return err
		}
		defer func() {
			_, unmountErr := run(context.WithoutCancel(ctx), "umount", m.at)
			err = errors.Join(err, unmountErr)
		}()
	}
	answer, err := run(ctx, "chroot", mounted, "/usr/sbin/guest", "check")
	if err != nil {
		return err
	}
	if err := json.Unmarshal(answer, t); err != nil {
		return fmt.Errorf("the guest's program answers %q: %w", answer, err)
	}
	return nil
}

func run(ctx context.Context, program string, args ...string) ([]byte, error) {
	out, err := exec.CommandContext(ctx, program, args...).CombinedOutput()
	if err != nil {
		return nil, fmt.Errorf("%s %q: %w: %s", program, args, err, out)
	}
	return out, nil
}

// needsRecovery reads the superblock of a disk with an ext4 file system (Linux, fs/ext4/ext4.h: s_magic, s_feature_incompat and
// EXT4_FEATURE_INCOMPAT_RECOVER).
func needsRecovery(disk string) (bool, error) {
	file, err := os.Open(disk)
	if err != nil {
		return false, err
	}
	defer file.Close()
	block := make([]byte, 1024)
	if _, err := file.ReadAt(block, 1024); err != nil {
		return false, fmt.Errorf("reading the superblock of %s: %w", disk, err)
	}
	if binary.LittleEndian.Uint16(block[0x38:]) != 0xEF53 {
		return false, fmt.Errorf("%s has no ext4 file system", disk)
	}
	return binary.LittleEndian.Uint32(block[0x60:])&0x4 != 0, nil
}
