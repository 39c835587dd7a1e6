//go:build linux

package guest

import (
	"context"
	"encoding/json"
	"fmt"
	"regexp"
	"strconv"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"
)

// A Line is one that the guest's program wrote to the serial console, see tests/cluster/components/guest.
type Line struct {
	Seen time.Time     // by the node
	Up   time.Duration // since the guest booted, by its own clock
	Text string
}

var guestLine = regexp.MustCompile(`guest (\d+): (.*)`)

// Console returns what the guest's program said since it booted.
func (w *NodeCluster) Console(ctx context.Context, vm VM) ([]Line, error) {
	pod, err := w.launcher(ctx, vm)
	if err != nil {
		return nil, err
	}
	text, err := w.core.CoreV1().Pods(pod.Namespace).GetLogs(pod.Name, &corev1.PodLogOptions{Container: "guest-console-log", Timestamps: true}).DoRaw(ctx)
	if err != nil {
		return nil, fmt.Errorf("reading the console of %s/%s: %w", vm.Namespace, vm.Name, err)
	}
	var lines []Line
	for line := range strings.Lines(string(text)) {
		stamp, rest, _ := strings.Cut(strings.TrimSpace(line), " ")
		parts := guestLine.FindStringSubmatch(rest)
		seen, err := time.Parse(time.RFC3339Nano, stamp)
		if parts == nil || err != nil {
			continue // the firmware's, or the kernel's
		}
		up, err := strconv.Atoi(parts[1])
		if err != nil {
			return nil, fmt.Errorf("the console says %q: %w", line, err)
		}
		lines = append(lines, Line{seen, time.Duration(up) * time.Millisecond, strings.TrimSpace(parts[2])})
	}
	return lines, nil
}

// Wrote returns the number that the line says is on both disks.
func (l Line) Wrote() (number int, ok bool) {
	_, err := fmt.Sscanf(l.Text, "wrote %d", &number)
	return number, err == nil
}

// Found returns what the guest found on its disks when it booted.
func Found(lines []Line) (truth Truth, ok bool) {
	for _, line := range lines {
		switch line.Text {
		case "/dev/vda needs_recovery=true":
			truth.RootRecovery = true
		case "/dev/vdb needs_recovery=true":
			truth.DataRecovery = true
		}
		if text, is := strings.CutPrefix(line.Text, "found "); is {
			return truth, json.Unmarshal([]byte(text), &truth) == nil
		}
	}
	return truth, false
}

// LastBefore returns the last number that the console had said to be on both disks at a time.
func LastBefore(lines []Line, limit time.Time) int {
	last := 0
	for _, line := range lines {
		if number, ok := line.Wrote(); ok && line.Seen.Before(limit) {
			last = number
		}
	}
	return last
}

// Pause returns how long the guest did not write around a number, by its own clock: while it was frozen.
func Pause(lines []Line, number int) time.Duration {
	return pause(lines, func(n int) bool { return n == number || n == number+1 })
}

// LongestPause returns the longest time that the guest did not write, by its own clock.
func LongestPause(lines []Line) time.Duration {
	return pause(lines, func(int) bool { return true })
}

// pause returns the longest pause before certain numbers.
func pause(lines []Line, counts func(number int) bool) time.Duration {
	var pause, before time.Duration
	for _, line := range lines {
		n, ok := line.Wrote()
		if ok && before > 0 && counts(n) {
			pause = max(pause, line.Up-before)
		}
		if ok {
			before = line.Up
		}
	}
	return pause
}

// AwaitWrites waits until the guest has written some numbers from now on.
func (w *NodeCluster) AwaitWrites(ctx context.Context, vm VM, count int, limit time.Duration) error {
	begin := -1
	return await(ctx, limit, fmt.Sprintf("the guest %s/%s to write", vm.Namespace, vm.Name), func() (bool, error) {
		lines, err := w.Console(ctx, vm)
		if err != nil {
			return false, err
		}
		last := LastBefore(lines, time.Now().Add(time.Hour))
		if begin < 0 {
			begin = last
		}
		return last >= begin+count, nil
	})
}
