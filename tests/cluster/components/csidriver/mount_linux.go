package main

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strings"

	"golang.org/x/sys/unix"
)

// mount shows a volume's folder at a target; of a block volume a loop device of its disk.
func mount(source, target string, block bool) error {
	if !block {
		if err := os.MkdirAll(target, 0o755); err != nil {
			return err
		}
		return bind(source, target)
	}
	if err := os.MkdirAll(filepath.Dir(target), 0o755); err != nil {
		return err
	}
	if info, err := os.Stat(target); err == nil && info.Mode()&fs.ModeDevice != 0 {
		return nil // it is mounted already
	}
	file, err := os.OpenFile(target, os.O_CREATE, 0o644)
	if err != nil {
		return err
	}
	file.Close()
	// One for each target, so that a pod that goes does not take it from the next.
	device, err := losetup("--find", "--show", "--direct-io=on", source)
	if err != nil {
		return err
	}
	if err := bind(device, target); err != nil {
		_, detachErr := losetup("--detach", device)
		return errors.Join(err, detachErr)
	}
	return nil
}

// bind mounts unless it is mounted already.
func bind(source, target string) error {
	from, err := os.Stat(source)
	if err != nil {
		return err
	}
	if at, err := os.Stat(target); err == nil && os.SameFile(from, at) {
		return nil
	}
	if err := unix.Mount(source, target, "", unix.MS_BIND, ""); err != nil {
		return fmt.Errorf("mounting %s at %s: %w", source, target, err)
	}
	return nil
}

// unmount undoes mount, and is content if there is nothing to undo.
func unmount(target string) error {
	var device unix.Stat_t
	err := unix.Lstat(target, &device)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	if err := unix.Unmount(target, 0); err != nil && !errors.Is(err, unix.EINVAL) {
		return fmt.Errorf("unmounting %s: %w", target, err)
	}
	if device.Mode&unix.S_IFMT != unix.S_IFBLK {
		return nil
	}
	_, err = losetup("--detach", fmt.Sprintf("/dev/loop%d", unix.Minor(device.Rdev)))
	return err
}

func losetup(args ...string) (string, error) {
	out, err := exec.Command("losetup", args...).CombinedOutput()
	if err != nil {
		return "", fmt.Errorf("losetup %s: %w: %s", strings.Join(args, " "), err, out)
	}
	return strings.TrimSpace(string(out)), nil
}
