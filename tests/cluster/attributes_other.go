//go:build !linux

package cluster

import (
	"errors"
	"os/exec"
	"syscall"
)

// childAttributes puts a child into a process group of its own. Only Linux can tie its life to this program's.
func childAttributes() *syscall.SysProcAttr { return &syscall.SysProcAttr{Setpgid: true} }

// containerAttributes are there on Linux only.
func containerAttributes() (*syscall.SysProcAttr, error) {
	return nil, errors.New("virt-freezer can only be run on Linux: it needs a mount namespace of its own")
}

// reap waits for a child's end and kills what it left behind in its group.
func reap(cmd *exec.Cmd) error {
	err := cmd.Wait()
	groupErr := syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL)
	if errors.Is(groupErr, syscall.ESRCH) || errors.Is(groupErr, syscall.EPERM) {
		groupErr = nil
	}
	return errors.Join(err, groupErr)
}
