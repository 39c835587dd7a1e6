package cluster

import (
	"errors"
	"os"
	"os/exec"
	"syscall"

	"golang.org/x/sys/unix"
)

// childAttributes puts a child into a process group of its own, so that a terminal's Ctrl-C reaches only this program,
// which then stops its children in order; and makes the kernel kill the child should this program be killed.
func childAttributes() *syscall.SysProcAttr {
	return &syscall.SysProcAttr{Setpgid: true, Pdeathsig: syscall.SIGKILL}
}

// containerAttributes are childAttributes for a program that gets a file system view of its own. Only root may give it
// one; for others it is root in a namespace of users.
func containerAttributes() (*syscall.SysProcAttr, error) {
	attributes := childAttributes()
	attributes.Cloneflags = syscall.CLONE_NEWNS
	if os.Geteuid() != 0 {
		attributes.Cloneflags |= syscall.CLONE_NEWUSER
		attributes.UidMappings = []syscall.SysProcIDMap{{HostID: os.Geteuid(), Size: 1}}
		attributes.GidMappings = []syscall.SysProcIDMap{{HostID: os.Getegid(), Size: 1}}
	}
	return attributes, nil
}

// reap waits for a child's end and kills what it left behind in its group. It does so before the child is reaped:
// until then nobody else can get the group's id.
func reap(cmd *exec.Cmd) error {
	for {
		err := unix.Waitid(unix.P_PID, cmd.Process.Pid, nil, unix.WEXITED|unix.WNOWAIT, nil)
		if err == nil {
			break
		}
		if !errors.Is(err, unix.EINTR) {
			return errors.Join(err, cmd.Wait())
		}
	}
	groupErr := unix.Kill(-cmd.Process.Pid, unix.SIGKILL)
	return errors.Join(cmd.Wait(), groupErr)
}
