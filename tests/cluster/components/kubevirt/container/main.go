// Command container runs a program that expects to be in a launcher's container, on a machine without containers: in a
// mount namespace of its own it puts the launcher's socket where the program looks for it, and becomes the program.
//
//	container FOLDER-WITH-THE-SOCKET PROGRAM ARGUMENT...
//
// Whoever starts it has to give it the namespace.
package main

import (
	"errors"
	"fmt"
	"os"

	"golang.org/x/sys/unix"
)

// socketFolder is where virt-freezer looks for the launcher's socket (KubeVirt v1.8.4, cmd/virt-freezer).
const socketFolder = "/run/kubevirt/sockets"

// notExecutable is the shells' exit code for a command that is there but cannot be run.
const notExecutable = 126

func main() {
	if err := run(os.Args[1:]); err != nil {
		fmt.Fprintln(os.Stderr, "container:", err)
		os.Exit(notExecutable)
	}
}

func run(args []string) error {
	if len(args) < 2 {
		return errors.New("a folder and a program are needed")
	}
	// What is mounted here stays here.
	if err := unix.Mount("", "/", "", unix.MS_PRIVATE|unix.MS_REC, ""); err != nil {
		return fmt.Errorf("keeping mounts to this namespace (where AppArmor restricts user namespaces, root has to set kernel.apparmor_restrict_unprivileged_userns=0): %w", err)
	}
	// The folder may itself be below /run.
	folder, err := unix.Open(args[0], unix.O_PATH|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil {
		return fmt.Errorf("opening the folder of the launcher's socket: %w", err)
	}
	if err := unix.Mount("run", "/run", "tmpfs", unix.MS_NOSUID|unix.MS_NODEV, "size=64k"); err != nil {
		return fmt.Errorf("mounting an empty /run: %w", err)
	}
	if err := os.MkdirAll(socketFolder, 0o755); err != nil {
		return err
	}
	if err := unix.Mount(fmt.Sprintf("/proc/self/fd/%d", folder), socketFolder, "", unix.MS_BIND, ""); err != nil {
		return fmt.Errorf("mounting the launcher's socket: %w", err)
	}
	if err := unix.Exec(args[1], args[1:], os.Environ()); err != nil {
		return fmt.Errorf("becoming %s: %w", args[1], err)
	}
	return nil
}
