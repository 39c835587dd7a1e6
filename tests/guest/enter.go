//go:build linux

// Package guest runs the cluster of tests/cluster with a real node – containerd, kubelet, virt-handler – on which virtual machines boot
// in a real virt-launcher, libvirt and QEMU, without KVM. Its tests tell the stories of backup and restore with such guests.
//
// The node is a machine in namespaces of its own: one kill of its first process ends all that runs in it and removes what it mounted.
package guest

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"runtime"
	"syscall"

	"golang.org/x/sys/unix"

	"velero-plugin-for-kubevirt/tests/cluster"
)

// stageVariable tells this program, started again by itself, what it is there for.
const stageVariable = "GUEST_STAGE"

// The stages, besides the first, in which the variable is not set.
const (
	building = "build"  // make what is missing, in namespaces of mounts and processes
	first    = "first"  // be the first process of the machine
	inside   = "inside" // do what the program was called for, in the machine
)

// dirVariable names the folder that the machine writes to.
const dirVariable = "GUEST_DIR"

// failed is the file in a machine's folder that keeps it for somebody to look into.
const failed = "failed"

// Enter makes the rest of this program run in a machine: it starts the program again there, waits, and exits as it did. What the
// machine needs is built before. It returns only inside, with a context that ends when somebody interrupts the program.
func Enter() context.Context {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	code, err := 0, error(nil)
	switch os.Getenv(stageVariable) {
	case inside:
		return ctx
	case building:
		_, err = build(ctx)
	case first:
		code, err = beFirst()
	default:
		code, err = enter(ctx)
	}
	stop()
	if err != nil {
		fmt.Fprintln(os.Stderr, "guest:", err)
		code = max(code, 1)
	}
	os.Exit(code)
	return nil
}

// enter builds, and runs the machine. It returns the exit code of the program inside.
func enter(ctx context.Context) (code int, err error) {
	if err := errors.Join(check(), removeKilled()); err != nil {
		return 1, err
	}
	code, err = runStage(ctx, building, "", syscall.CLONE_NEWNS|syscall.CLONE_NEWPID)
	if code != 0 || err != nil {
		return code, err
	}
	return runMachine(ctx)
}

// runMachine runs the program inside, and removes what does not end with the machine.
func runMachine(ctx context.Context) (code int, err error) {
	dir, locked, err := makeDir()
	if err != nil {
		return 1, err
	}
	defer locked.Close()
	code, err = runStage(ctx, first, dir, syscall.CLONE_NEWNS|syscall.CLONE_NEWPID|syscall.CLONE_NEWNET|syscall.CLONE_NEWUTS|syscall.CLONE_NEWIPC)
	// The machine is gone, and what it mounted with it.
	err = errors.Join(err, removeCgroups("/sys/fs/cgroup", filepath.Base(dir)), detachLoops(dir))
	if code != 0 && ctx.Err() == nil {
		fmt.Fprintln(os.Stderr, "guest: logs are in", filepath.Join(dir, clusterFolder+"*", "logs"))
		// The disks and images are too much to keep.
		return code, errors.Join(err, os.WriteFile(filepath.Join(dir, failed), nil, 0o644),
			os.RemoveAll(filepath.Join(dir, machineFolder)), os.RemoveAll(filepath.Join(dir, storageFolder)))
	}
	return code, errors.Join(err, os.RemoveAll(dir))
}

// build makes what the cache lacks.
func build(ctx context.Context) (cluster.Images, error) {
	if err := errors.Join(unix.Mount("", "/", "", unix.MS_PRIVATE|unix.MS_REC, ""), unix.Mount("proc", "/proc", "proc", 0, "")); err != nil {
		return cluster.Images{}, fmt.Errorf("preparing to build: %w", err)
	}
	if err := cluster.Build(ctx, os.Stderr); err != nil {
		return cluster.Images{}, err
	}
	return cluster.BuildImages(ctx, os.Stderr)
}

// runStage starts this program again in new namespaces, with which all its processes end, and waits. If the context ends, or this
// program, it is killed.
func runStage(ctx context.Context, stage, dir string, namespaces uintptr) (code int, err error) {
	// Linux kills the child when the thread that started it ends.
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	again := exec.CommandContext(ctx, "/proc/self/exe", os.Args[1:]...)
	again.Args[0] = os.Args[0]
	again.Env = append(os.Environ(), stageVariable+"="+stage)
	if dir != "" {
		again.Env = append(again.Env, dirVariable+"="+dir, "TMPDIR="+dir)
	}
	again.Stdin, again.Stdout, again.Stderr = os.Stdin, os.Stdout, os.Stderr
	again.SysProcAttr = &syscall.SysProcAttr{Cloneflags: namespaces, Pdeathsig: syscall.SIGKILL}
	err = again.Run()
	if ctx.Err() != nil {
		return 130, errors.New("interrupted")
	}
	var exit *exec.ExitError
	if errors.As(err, &exit) && exit.Exited() {
		return exit.ExitCode(), nil
	}
	if err != nil {
		return 1, fmt.Errorf("running in namespaces of its own: %w", err)
	}
	return 0, nil
}
