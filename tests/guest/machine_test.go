//go:build linux && !guest

package guest

import (
	"fmt"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"
)

// outside makes TestBeAMachine run one.
const outside = "outside"

// TestBeAMachine is what the tests below start: a machine in which something runs, is mounted, and a network has a bridge.
func TestBeAMachine(t *testing.T) {
	switch os.Getenv(stageVariable) {
	case "":
		t.Skip("this is for other tests to start")
	case outside:
		ctx, stop := signal.NotifyContext(t.Context(), syscall.SIGTERM)
		defer stop()
		code, err := runMachine(ctx)
		fmt.Println("ended", code, err)
	case first:
		code, err := beFirst()
		fmt.Println("first", err)
		os.Exit(code)
	case inside:
		dir := os.Getenv(dirVariable)
		cgroup := filepath.Join("/sys/fs/cgroup/pids", filepath.Base(dir))
		if _, err := os.Stat("/sys/fs/cgroup/cgroup.controllers"); err == nil {
			cgroup = filepath.Join("/sys/fs/cgroup", filepath.Base(dir))
		}
		disks := filepath.Join(dir, storageFolder, "csi")
		script := "set -e; mkdir -p " + cgroup + "/pod; mount -t tmpfs marked-by-guest-test /mnt; ip link add br-guest-test type bridge; " +
			"mkdir -p " + disks + "; cd " + disks + "; truncate --size=1M disk.img; " +
			"losetup --find $(losetup --find --show disk.img); setsid sleep 98765 & echo ready"
		shell := exec.Command("/bin/sh", "-c", script)
		shell.Stdout, shell.Stderr = os.Stdout, os.Stderr
		if err := shell.Run(); err != nil {
			t.Fatal(err)
		}
		time.Sleep(time.Hour)
	}
}

// TestAnInterruptedMachineLeavesNothing ends machines in the ways that a person, or the kernel, ends programs.
func TestAnInterruptedMachineLeavesNothing(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("only root can make namespaces")
	}
	for _, how := range []syscall.Signal{syscall.SIGTERM, syscall.SIGKILL} {
		t.Run(how.String(), func(t *testing.T) {
			temp := t.TempDir()
			machine := exec.Command("/proc/self/exe", "-test.run", "^TestBeAMachine$", "-test.v")
			machine.Env = append(os.Environ(), stageVariable+"="+outside, "TMPDIR="+temp)
			said, err := machine.StdoutPipe()
			if err != nil {
				t.Fatal(err)
			}
			machine.Stderr = os.Stderr
			if err := machine.Start(); err != nil {
				t.Fatal(err)
			}
			t.Cleanup(func() { _ = machine.Process.Kill() }) // if the test fails
			text := ""
			for buffer := make([]byte, 4096); !strings.Contains(text, "ready\n"); {
				n, err := said.Read(buffer)
				if text += string(buffer[:n]); err != nil {
					t.Fatalf("the machine ended: %s", text)
				}
			}
			dirs, err := filepath.Glob(filepath.Join(temp, folders))
			if err != nil || len(dirs) != 1 {
				t.Fatal(dirs, err)
			}
			if got := loops(t, dirs[0]); got < 2 {
				t.Fatalf("%d loop devices are attached", got)
			}
			if running(t, "98765") == 0 {
				t.Fatal("nothing runs in the machine")
			}
			if err := machine.Process.Signal(how); err != nil {
				t.Fatal(err)
			}
			_ = machine.Wait() //nolint:errcheck // it was killed
			for range 50 {
				if running(t, "98765") == 0 {
					break
				}
				time.Sleep(100 * time.Millisecond)
			}
			if n := running(t, "98765"); n > 0 {
				t.Errorf("%d processes are left", n)
			}
			t.Setenv("TMPDIR", temp)
			if err := removeKilled(); err != nil { // as the next run does
				t.Error(err)
			}
			for what, pattern := range map[string]string{
				"bridge": "/sys/class/net/br-guest-test", "folder": filepath.Join(temp, folders),
				"cgroup": filepath.Join("/sys/fs/cgroup", filepath.Base(dirs[0])), "cgroup of version 1": filepath.Join("/sys/fs/cgroup/*", filepath.Base(dirs[0])),
			} {
				if left, err := filepath.Glob(pattern); err != nil || len(left) > 0 {
					t.Errorf("a %s is left: %q, %v", what, left, err)
				}
			}
			if got := loops(t, dirs[0]); got > 0 {
				t.Errorf("%d loop devices are attached", got)
			}
			mounts, err := os.ReadFile("/proc/mounts")
			if err != nil || strings.Contains(string(mounts), "marked-by-guest-test") || strings.Contains(string(mounts), temp) {
				t.Errorf("mounts are left: %v\n%s", err, mounts)
			}
		})
	}
}

// loops counts the loop devices of files in a folder, and of other loop devices.
func loops(t *testing.T, folder string) int {
	t.Helper()
	return filesThat(t, "/sys/block/loop*/loop/backing_file", func(backing string) bool {
		return strings.Contains(backing, filepath.Base(folder)) || strings.HasPrefix(backing, "/dev/loop")
	})
}

// running counts the processes with a word in their command line.
func running(t *testing.T, word string) int {
	t.Helper()
	return filesThat(t, "/proc/[0-9]*/cmdline", func(command string) bool { return strings.Contains(command, word) })
}

// filesThat counts the files of a pattern whose content is wanted. One that is gone meanwhile does not count.
func filesThat(t *testing.T, pattern string, want func(content string) bool) int {
	t.Helper()
	files, err := filepath.Glob(pattern)
	if err != nil {
		t.Fatal(err)
	}
	count := 0
	for _, file := range files {
		content, err := os.ReadFile(file)
		if err == nil && want(string(content)) {
			count++
		}
	}
	return count
}
