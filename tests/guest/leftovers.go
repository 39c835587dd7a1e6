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

// folders are the names of the folders that machines write to, in the temporary folder. The containers of a machine are in cgroups of
// the same name.
const folders = "guest-*"

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

// removeKilled removes what machines left whose program was killed: files and empty cgroups. Everything else ended with it.
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
		if err := errors.Join(removeCgroups("/sys/fs/cgroup", filepath.Base(dir)), os.RemoveAll(dir)); err != nil {
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
