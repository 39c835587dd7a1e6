package cluster

import (
	"fmt"
	"os"
	"strconv"
	"strings"
)

// PeakBytes returns the most memory that a process has had, from VmHWM in its /proc/PID/status; 0 when it has ended.
func PeakBytes(pid int) int {
	status, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
	if err != nil {
		return 0
	}
	for line := range strings.Lines(string(status)) {
		if text, found := strings.CutPrefix(line, "VmHWM:"); found {
			kilobytes, err := strconv.Atoi(strings.Fields(text)[0])
			if err == nil {
				return kilobytes << 10
			}
		}
	}
	return 0
}
