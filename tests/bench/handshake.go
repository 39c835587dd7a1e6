package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"strings"
	"time"

	"github.com/vmware-tanzu/velero/pkg/plugin/framework"

	"velero-plugin-for-kubevirt/tests/bench/snapshots"
)

// handshake returns the median time from starting a plugin's binary to the line by which it tells Velero where it listens.
func handshake(ctx context.Context, plugin string) (time.Duration, error) {
	var times []float64
	for range 11 {
		took, err := shakeHands(ctx, plugin)
		if err != nil {
			return 0, fmt.Errorf("starting %s: %w", plugin, err)
		}
		times = append(times, took.Seconds())
	}
	return time.Duration(snapshots.Median(times) * float64(time.Second)), nil
}

func shakeHands(ctx context.Context, plugin string) (took time.Duration, err error) {
	ctx, cancel := context.WithTimeout(ctx, 10*time.Second)
	defer cancel()
	cookie := framework.Handshake()
	command := exec.CommandContext(ctx, plugin)
	command.Env = append(os.Environ(), cookie.MagicCookieKey+"="+cookie.MagicCookieValue)
	out, err := command.StdoutPipe()
	if err != nil {
		return 0, err
	}
	started := time.Now()
	if err := command.Start(); err != nil {
		return 0, err
	}
	line, err := bufio.NewReader(out).ReadString('\n')
	took = time.Since(started)
	cancel() // it would serve forever
	var killed *exec.ExitError
	if waitErr := command.Wait(); !errors.As(waitErr, &killed) {
		err = errors.Join(err, waitErr)
	}
	if err == nil && !strings.Contains(line, "|grpc") {
		err = fmt.Errorf("it says %q", line)
	}
	return took, err
}
