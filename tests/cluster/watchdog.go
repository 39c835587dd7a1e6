package cluster

import (
	"errors"
	"fmt"
	"io"
	"os/exec"
	"syscall"
)

// A watchdog kills the process groups it was told of when this program ends without having stopped them, be it by a
// panic or a test's timeout. The kernel takes care of the processes themselves, but not of their children, and Velero
// starts plugins.
type watchdog struct {
	shell *exec.Cmd
	tell  io.WriteCloser // its end of file is how the shell learns of this program's end
}

// watchdogScript reads lines "start ID" and "end ID" and, when they stop, kills the groups that did not end.
const watchdogScript = `trap '' INT TERM HUP
groups=
while read -r what id; do
	others=
	for group in $groups; do
		[ "$group" = "$id" ] || others="$others $group"
	done
	groups=$others
	[ "$what" = end ] || groups="$groups $id"
done
for group in $groups; do
	kill -s KILL -- "-$group"
done`

func startWatchdog() (*watchdog, error) {
	w := &watchdog{shell: exec.Command("/bin/sh", "-c", watchdogScript)}
	w.shell.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	var err error
	if w.tell, err = w.shell.StdinPipe(); err != nil {
		return nil, fmt.Errorf("starting the watchdog: %w", err)
	}
	if err := w.shell.Start(); err != nil {
		return nil, fmt.Errorf("starting the watchdog: %w", err)
	}
	return w, nil
}

func (w *watchdog) started(group int) error { return w.say("start", group) }

func (w *watchdog) ended(group int) error { return w.say("end", group) }

func (w *watchdog) say(what string, group int) error {
	if _, err := fmt.Fprintln(w.tell, what, group); err != nil {
		return fmt.Errorf("telling the watchdog: %w", err)
	}
	return nil
}

// stop ends the watchdog. By then it knows of no group that has not ended.
func (w *watchdog) stop() error {
	if err := errors.Join(w.tell.Close(), w.shell.Wait()); err != nil {
		return fmt.Errorf("stopping the watchdog: %w", err)
	}
	return nil
}
