//go:build linux

package guest

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"time"

	"golang.org/x/sys/unix"
)

// folders are the names of the folders that machines write to, in the temporary folder, where others must not have any of that name. The
// containers of a machine are in cgroups of the same name.
const folders = "kubevirt-guest-*"

// makeDir makes the folder of a machine, and locks it.
func makeDir() (dir string, locked *os.File, err error) {
	if dir, err = os.MkdirTemp("", folders); err != nil {
		return "", nil, err
	}
	locked, err = lock(dir)
	return dir, locked, err
}

// lock locks a folder, or fails if another program has done so. The lock ends with the file or the program.
func lock(dir string) (*os.File, error) {
	file, err := os.Open(dir)
	if err != nil {
		return nil, err
	}
	if err := unix.Flock(int(file.Fd()), unix.LOCK_EX|unix.LOCK_NB); err != nil {
		file.Close()
		return nil, err
	}
	return file, nil
}

// removeKilled removes what machines left whose program was killed: files, empty cgroups and loop devices. Everything else ended with
// it.
func removeKilled() error {
	dirs, err := filepath.Glob(filepath.Join(os.TempDir(), folders))
	if err != nil {
		return err
	}
	for _, dir := range dirs {
		file, err := lock(dir)
		if err != nil {
			continue // it is in use
		}
		_, keep := os.Stat(filepath.Join(dir, failed))
		file.Close()
		if keep == nil {
			continue
		}
		if err := errors.Join(removeCgroups("/sys/fs/cgroup", filepath.Base(dir)), detachLoops(dir), os.RemoveAll(dir)); err != nil {
			return fmt.Errorf("removing what an earlier run left: %w", err)
		}
	}
	return nil
}

// removeCgroups removes the cgroups of a machine, of both versions: cgroups do not end with namespaces.
func removeCgroups(root, name string) error {
	tops, err := filepath.Glob(filepath.Join(root, "*", name))
	if err != nil {
		return err
	}
	var all []string
	for _, top := range append(tops, filepath.Join(root, name)) {
		err := filepath.WalkDir(top, func(path string, entry fs.DirEntry, err error) error {
			if err == nil && entry.IsDir() {
				all = append(all, path)
			}
			return err
		})
		if err != nil && !errors.Is(err, fs.ErrNotExist) {
			return err
		}
	}
	for _, path := range slices.Backward(all) {
		err := os.Remove(path)
		for range 50 { // the last processes are just ending
			if !errors.Is(err, unix.EBUSY) {
				break
			}
			time.Sleep(100 * time.Millisecond)
			err = os.Remove(path)
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// A file is one by its device and number there.
type file struct{ device, inode uint64 }

// detachLoops detaches the loop devices of a machine's disks, and those that its kubelet made of them to keep them open: loop devices do
// not end with namespaces, either.
func detachLoops(dir string) error {
	disks := map[file]bool{}
	err := filepath.WalkDir(filepath.Join(dir, storageFolder), func(path string, entry fs.DirEntry, err error) error {
		var stat unix.Stat_t
		if err == nil && entry.Type().IsRegular() {
			err = unix.Lstat(path, &stat)
			disks[file{stat.Dev, stat.Ino}] = true
		}
		return err
	})
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	// Twice, because a device may have a lower number than the one it was made of.
	ours := map[uint64]bool{}
	for range 2 {
		attached, err := filepath.Glob("/sys/block/loop*/loop")
		if err != nil {
			return err
		}
		for _, path := range attached {
			if err := detachLoop(filepath.Base(filepath.Dir(path)), disks, ours); err != nil {
				return err
			}
		}
	}
	return nil
}

// detachLoop detaches a loop device if it is of one of the disks, or of one of our devices, and adds it to those.
func detachLoop(name string, disks map[file]bool, ours map[uint64]bool) (err error) {
	var number int
	if _, err := fmt.Sscanf(name, "loop%d", &number); err != nil {
		return fmt.Errorf("the loop device %q: %w", name, err)
	}
	device := unix.Mkdev(loopMajor, uint32(number))
	path := filepath.Join("/dev", name)
	if err = unix.Mknod(path, unix.S_IFBLK|0o600, int(device)); err == nil { // only the machine had it
		defer func() { err = errors.Join(err, os.Remove(path)) }()
	} else if !errors.Is(err, fs.ErrExist) {
		return fmt.Errorf("making %s: %w", path, err)
	}
	loop, err := os.Open(path)
	if err != nil {
		return err
	}
	defer loop.Close()
	status, err := unix.IoctlLoopGetStatus64(int(loop.Fd()))
	if err == nil && (disks[file{status.Device, status.Inode}] || ours[status.Rdevice]) {
		ours[device] = true
		err = unix.IoctlSetInt(int(loop.Fd()), unix.LOOP_CLR_FD, 0)
	}
	if err != nil && !errors.Is(err, unix.ENXIO) { // it has just been detached
		return fmt.Errorf("detaching %s: %w", path, err)
	}
	return nil
}
