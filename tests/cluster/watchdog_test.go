package cluster

import (
	"fmt"
	"os"
	"os/exec"
	"syscall"
	"testing"
	"time"
)

// orphanVariable makes TestWatchdog, in a second process, the program that gets killed.
const orphanVariable = "CLUSTER_TEST_ORPHANS"

func TestWatchdog(t *testing.T) {
	if os.Getenv(orphanVariable) != "" {
		beKilled(t)
	}
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(self, "-test.run=^TestWatchdog$")
	cmd.Env = append(os.Environ(), orphanVariable+"=1", "TMPDIR="+t.TempDir())
	out, err := cmd.Output()
	if err == nil {
		t.Fatalf("the second process was not killed: %s", out)
	}
	var stopped, kept, child int
	if _, err := fmt.Sscan(string(out), &stopped, &kept, &child); err != nil {
		t.Fatalf("reading %q: %v", out, err)
	}
	for deadline := time.Now().Add(5 * time.Second); !ended(stopped) || !ended(kept) || !ended(child); time.Sleep(10 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatal("something survived")
		}
	}
}

// beKilled starts two processes, stops one, and dies.
func beKilled(t *testing.T) {
	s := testSupervisor(t)
	one, err := s.start(t.Context(), shell(s, "one", "touch one.ready; exec sleep 100"))
	if err != nil {
		t.Fatal(err)
	}
	two, err := s.start(t.Context(), shell(s, "two", "sleep 100 & echo $! > child; touch two.ready; wait"))
	if err != nil {
		t.Fatal(err)
	}
	if err := s.stop(one); err != nil {
		t.Fatal(err)
	}
	child, err := os.ReadFile(s.dir + "/child")
	if err != nil {
		t.Fatal(err)
	}
	fmt.Println(one.cmd.Process.Pid, two.cmd.Process.Pid, string(child))
	if err := syscall.Kill(os.Getpid(), syscall.SIGKILL); err != nil {
		t.Fatal(err)
	}
	select {}
}
