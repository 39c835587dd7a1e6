package cluster

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"
)

func testSupervisor(t *testing.T) *supervisor {
	t.Helper()
	s := newSupervisor(t.TempDir(), os.TempDir())
	if err := os.Mkdir(filepath.Join(s.dir, "logs"), 0o755); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := s.stopAll(); err != nil {
			t.Error(err)
		}
	})
	return s
}

// shell returns the command that runs a script; it is ready when the script has created the file ready.
func shell(s *supervisor, name, script string) command {
	return command{
		name: name, binary: "/bin/sh", args: []string{"-c", script},
		ready: func(context.Context) error {
			_, err := os.Stat(filepath.Join(s.dir, name+".ready"))
			return err
		},
	}
}

func TestStopOrder(t *testing.T) {
	s := testSupervisor(t)
	for _, name := range []string{"first", "second", "stubborn"} {
		script := "trap 'echo " + name + " >> stopped; exit' TERM; touch " + name + ".ready; while :; do sleep 0.01; done"
		command := shell(s, name, script)
		if name == "stubborn" {
			command = shell(s, name, "trap '' TERM; touch stubborn.ready; while :; do sleep 0.01; done")
			command.grace = 200 * time.Millisecond
		}
		if _, err := s.start(t.Context(), command); err != nil {
			t.Fatal(err)
		}
	}
	if err := s.stopAll(); err != nil {
		t.Error(err)
	}
	order, err := os.ReadFile(filepath.Join(s.dir, "stopped"))
	if err != nil || string(order) != "second\nfirst\n" {
		t.Errorf("stopped %q, %v", order, err)
	}
	if s.err() != nil {
		t.Errorf("stopping counts as dying: %v", s.err())
	}
}

func TestUnexpectedExit(t *testing.T) {
	s := testSupervisor(t)
	// The process leaves a child behind.
	script := "sleep 100 & echo $! > child; touch brief.ready; echo last words; sleep 0.2; exit 3"
	if _, err := s.start(t.Context(), shell(s, "brief", script)); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := s.alive(t.Context())
	defer cancel()
	select {
	case <-ctx.Done():
	case <-time.After(5 * time.Second):
		t.Fatal("nobody noticed")
	}
	if err := s.err(); err == nil || !strings.HasPrefix(err.Error(), "brief exited: exit status 3\nlast words") {
		t.Errorf("the cause is %v", err)
	}
	content, err := os.ReadFile(filepath.Join(s.dir, "child"))
	if err != nil {
		t.Fatal(err)
	}
	child, err := strconv.Atoi(strings.TrimSpace(string(content)))
	if err != nil {
		t.Fatal(err)
	}
	for deadline := time.Now().Add(5 * time.Second); !ended(child); time.Sleep(10 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatal("the child survived")
		}
	}
}

func TestRestart(t *testing.T) {
	s := testSupervisor(t)
	phoenix := shell(s, "phoenix", "echo >> lives; touch phoenix.ready; sleep 0.1; test $(wc -l < lives) -ge 3 && exit 3; exit 0")
	phoenix.restart = true
	p, err := s.start(t.Context(), phoenix)
	if err != nil {
		t.Fatal(err)
	}
	select {
	case <-p.exited:
	case <-time.After(5 * time.Second):
		t.Fatal("nobody noticed the last exit")
	}
	if err := s.err(); err == nil || !strings.HasPrefix(err.Error(), "phoenix exited: exit status 3") {
		t.Errorf("the cause is %v", err)
	}
	if p.restarts != 2 {
		t.Errorf("it began anew %d times", p.restarts)
	}
}

// ended says whether a process is gone, or nobody has taken note of its end yet.
func ended(pid int) bool {
	if errors.Is(syscall.Kill(pid, 0), syscall.ESRCH) {
		return true
	}
	stat, err := os.ReadFile(filepath.Join("/proc", strconv.Itoa(pid), "stat"))
	return err != nil || strings.Contains(string(stat), ") Z ")
}

func TestExitBeforeReady(t *testing.T) {
	s := testSupervisor(t)
	_, err := s.start(t.Context(), shell(s, "failing", "echo no such flag >&2; exit 1"))
	if err == nil || !strings.HasPrefix(err.Error(), "failing exited: exit status 1\nno such flag") {
		t.Errorf("starting gives %v", err)
	}
	if s.err() != nil {
		t.Error("the failed start was also reported as a death")
	}
}

func TestNeverReady(t *testing.T) {
	s := testSupervisor(t)
	lazy := shell(s, "lazy", "exec sleep 100")
	lazy.within = 100 * time.Millisecond
	if _, err := s.start(t.Context(), lazy); err == nil || !strings.HasPrefix(err.Error(), "lazy not ready after 100ms: ") {
		t.Errorf("starting gives %v", err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	if _, err := s.start(ctx, shell(s, "cancelled", "exec sleep 100")); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("starting gives %v", err)
	}
}

func TestClaimDir(t *testing.T) {
	dir := t.TempDir()
	if _, err := claimDir(filepath.Join(dir, "new")); err != nil {
		t.Error(err)
	}
	if _, err := claimDir(dir); err == nil || !strings.Contains(err.Error(), "neither empty nor a cluster's") {
		t.Errorf("claiming somebody's folder gives %v", err)
	}
	if err := os.WriteFile(filepath.Join(dir, marker), nil, 0o644); err != nil {
		t.Fatal(err)
	}
	first, second := &Cluster{options: Options{Dir: dir}}, &Cluster{options: Options{Dir: dir}}
	if err := first.prepare(); err != nil {
		t.Fatal(err)
	}
	if err := second.prepare(); err == nil || !strings.Contains(err.Error(), "another cluster runs in it") {
		t.Errorf("claiming a running cluster's folder gives %v", err)
	}
	if err := first.Stop(); err != nil {
		t.Error(err)
	}
	if err := second.prepare(); err != nil {
		t.Error(err)
	} else if err := second.Stop(); err != nil {
		t.Error(err)
	}
}
