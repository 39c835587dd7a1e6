//go:build linux

package guest

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// LoseCluster ends the cluster as a fire does, and starts another one in its place. Of the old one only the object store is left: the
// storage has neither disks nor snapshots.
func (w *NodeCluster) LoseCluster(ctx context.Context) error {
	if err := errors.Join(w.Cluster.Stop(), powerOff()); err != nil {
		return fmt.Errorf("losing the cluster: %w", err)
	}
	dir := os.Getenv(dirVariable)
	err := errors.Join(
		unix.Unmount(kubeletFolder, unix.MNT_DETACH), mountKubelet(dir),
		unix.Unmount("/run", unix.MNT_DETACH), mountRun(dir),
		// As long as their files are there by which they are known.
		detachLoops(dir), os.RemoveAll(filepath.Join(dir, storageFolder, "csi")),
	)
	if err != nil {
		return fmt.Errorf("losing the cluster: %w", err)
	}
	return w.start(ctx)
}

// powerOff kills all that runs in the machine but this program and the first one, which is safe from it.
func powerOff() error {
	if err := syscall.Kill(-1, syscall.SIGKILL); err != nil && !errors.Is(err, syscall.ESRCH) {
		return err
	}
	keep := []string{"/proc/1", "/proc/" + strconv.Itoa(os.Getpid())}
	var left []string
	for range 100 {
		processes, err := filepath.Glob("/proc/[0-9]*")
		if err != nil {
			return err
		}
		left = slices.DeleteFunc(processes, func(path string) bool { return slices.Contains(keep, path) })
		if len(left) == 0 {
			return nil
		}
		time.Sleep(100 * time.Millisecond)
	}
	return fmt.Errorf("processes are left: %q", left)
}
