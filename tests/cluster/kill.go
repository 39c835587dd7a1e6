package cluster

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
)

// Commands returns the processes of this machine whose arguments are wanted.
func Commands(wanted func(args []string) bool) (pids []int, err error) {
	files, err := filepath.Glob("/proc/[0-9]*/cmdline")
	if err != nil {
		return nil, err
	}
	for _, file := range files {
		content, err := os.ReadFile(file)
		if err != nil || !wanted(strings.Split(strings.TrimSuffix(string(content), "\x00"), "\x00")) {
			continue // another, or it has just ended
		}
		pid, err := strconv.Atoi(filepath.Base(filepath.Dir(file)))
		if err != nil {
			return nil, err
		}
		pids = append(pids, pid)
	}
	return pids, nil
}

// KillCommands kills them, as the kernel does when memory runs out, and returns how many there were.
func KillCommands(wanted func(args []string) bool) (int, error) {
	pids, err := Commands(wanted)
	for _, pid := range pids {
		if killErr := syscall.Kill(pid, syscall.SIGKILL); killErr != nil && !errors.Is(killErr, syscall.ESRCH) {
			err = errors.Join(err, fmt.Errorf("killing process %d: %w", pid, killErr))
		}
	}
	return len(pids), err
}
