//go:build e2e

package e2e

import (
	"bytes"
	"context"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	velerov1 "github.com/vmware-tanzu/velero/pkg/apis/velero/v1"
	"k8s.io/apimachinery/pkg/util/wait"
	"k8s.io/client-go/tools/clientcmd"

	"velero-plugin-for-kubevirt/tests/cluster"
	"velero-plugin-for-kubevirt/tests/story"
)

// TestAStoryEndsWithItsCluster tells a story in a program of its own and spoils it in the middle, when the backup runs: a part
// of its cluster is killed, or somebody types Ctrl-C. Then the program ends soon, says why, and leaves nothing running.
func TestAStoryEndsWithItsCluster(t *testing.T) {
	if runtime.GOOS != "linux" {
		t.Skip("finds processes in /proc")
	}
	skipIfForeign(t, "kills parts of the cluster")
	t.Parallel()
	const withoutKubeVirt, withKubeVirt = "TestANamespaceIsLostAndRestored", "TestARunningVMComesBackWithItsClaim"
	for part, test := range map[string]string{
		// What every cluster has dies in the one that is up sooner.
		"kube-apiserver": withoutKubeVirt, "velero": withoutKubeVirt, "versitygw": withoutKubeVirt,
		"cdi-controller": withKubeVirt, "csidriver": withKubeVirt,
	} {
		t.Run(part, func(t *testing.T) {
			t.Parallel()
			s := beginStory(t, test)
			s.awaitBackup(t)
			send(t, s.part(t, part).id, syscall.SIGKILL)
			said := s.end(t)
			log := filepath.Join(s.dir(t), "logs", part+".log")
			for _, want := range []string{"FAIL: the stories end here: " + part + " exited: signal: killed\n", lastLine(t, log) + " (" + log + ")\n"} {
				if !strings.Contains(said, want) {
					t.Errorf("the program does not say %q, but\n%s", want, said)
				}
			}
		})
	}
	t.Run("Ctrl-C", func(t *testing.T) {
		t.Parallel()
		s := beginStory(t, withoutKubeVirt)
		s.awaitBackup(t)
		send(t, -s.program.Process.Pid, syscall.SIGINT) // a terminal sends it to the whole group
		if said, want := s.end(t), "FAIL: the stories end here: context canceled\n"; !strings.Contains(said, want) {
			t.Errorf("the program does not say %q, but\n%s", want, said)
		}
	})
}

// A toldStory is a story in a program of its own.
type toldStory struct {
	program *exec.Cmd
	said    *bytes.Buffer
	ended   chan error
	folder  string // of its cluster, once known
}

// beginStory runs a test of this package in a session of its own: all its processes are found by that.
func beginStory(t *testing.T, test string) *toldStory {
	t.Helper()
	s := &toldStory{program: exec.Command(os.Args[0], "-test.v", "-test.run", "^"+test+"$"), said: &bytes.Buffer{}, ended: make(chan error, 1)}
	s.program.Stdout, s.program.Stderr = s.said, s.said
	s.program.SysProcAttr = &syscall.SysProcAttr{Setsid: true}
	s.program.WaitDelay = 10 * time.Second
	if err := s.program.Start(); err != nil {
		t.Fatal(err)
	}
	go func() { s.ended <- s.program.Wait() }()
	// Ctrl-C in a terminal reaches only the terminal's own session.
	forget := context.AfterFunc(interrupted, func() { _ = s.program.Process.Signal(os.Interrupt) })
	t.Cleanup(func() {
		forget()
		_ = s.program.Process.Kill() // it has ended, unless this test failed
		if s.folder != "" {
			_ = os.RemoveAll(s.folder) // the program keeps it for its logs
		}
	})
	return s
}

// awaitBackup waits until Velero is at work on the story's backup.
func (s *toldStory) awaitBackup(t *testing.T) {
	t.Helper()
	err := wait.PollUntilContextTimeout(t.Context(), 50*time.Millisecond, 4*time.Minute, true, func(ctx context.Context) (bool, error) {
		select {
		case err := <-s.ended:
			return false, errors.Join(errors.New("the story is over"), err)
		default:
		}
		config, err := clientcmd.BuildConfigFromFlags("", filepath.Join(s.dir(t), "kubeconfig"))
		if err != nil {
			return false, nil //nolint:nilerr // not there yet
		}
		site, err := story.NewSite(config, cluster.VeleroNamespace, nil)
		if err != nil {
			return false, nil //nolint:nilerr // nobody answers yet
		}
		var backups velerov1.BackupList
		err = site.List(ctx, &backups)
		return err == nil && len(backups.Items) == 1 && backups.Items[0].Status.Phase == velerov1.BackupPhaseInProgress, nil
	})
	if err != nil {
		t.Fatalf("no backup: %v\n%s", err, s.said)
	}
}

// end waits for the end of the program and of all its processes, and returns what it said.
func (s *toldStory) end(t *testing.T) string {
	t.Helper()
	spoiled := time.Now()
	select {
	case err := <-s.ended:
		var exit *exec.ExitError
		if !errors.As(err, &exit) || exit.ExitCode() != 1 {
			t.Errorf("the program ends with %v", err)
		}
	case <-time.After(time.Minute):
		t.Fatal("the program goes on")
	}
	t.Logf("over after %s", time.Since(spoiled).Round(time.Millisecond))
	// The kernel kills what the program did not, a moment later.
	err := wait.PollUntilContextTimeout(t.Context(), 50*time.Millisecond, 10*time.Second, true, func(context.Context) (bool, error) {
		return len(s.processes(t)) == 0, nil
	})
	if err != nil {
		t.Errorf("the program leaves %v", s.processes(t))
	}
	return s.said.String()
}

// A running is a process.
type running struct {
	id, parent   int
	program, dir string
}

// part returns the process of a part of the cluster.
func (s *toldStory) part(t *testing.T, name string) running {
	t.Helper()
	for _, process := range s.processes(t) {
		// The story's velero commands do not run in the folder, and Velero's plugins have another parent.
		if process.program == name && process.parent == s.program.Process.Pid && strings.HasPrefix(process.dir, s.dir(t)) {
			return process
		}
	}
	t.Fatalf("%s does not run", name)
	return running{}
}

// dir returns the folder of the story's cluster, empty if there is none yet.
func (s *toldStory) dir(t *testing.T) string {
	t.Helper()
	for _, process := range s.processes(t) {
		if process.program == "kube-apiserver" {
			s.folder = process.dir
		}
	}
	return s.folder
}

// processes returns what runs in the session of a program.
func (s *toldStory) processes(t *testing.T) []running {
	t.Helper()
	stats, err := filepath.Glob("/proc/[0-9]*/stat")
	if err != nil {
		t.Fatal(err)
	}
	var found []running
	for _, stat := range stats {
		content, err := os.ReadFile(stat)
		if err != nil {
			continue // it has ended
		}
		// The name in parentheses may be anything. State, parent, group and session follow it (proc_pid_stat(5)).
		_, rest, _ := strings.Cut(string(content[bytes.LastIndexByte(content, ')'):]), " ")
		fields := strings.Fields(rest)
		if fields[0] == "Z" || fields[3] != strconv.Itoa(s.program.Process.Pid) {
			continue
		}
		process := running{}
		process.id, _ = strconv.Atoi(filepath.Base(filepath.Dir(stat)))
		process.parent, _ = strconv.Atoi(fields[1])
		program, _ := os.Readlink(filepath.Join(filepath.Dir(stat), "exe"))
		process.program = filepath.Base(program)
		process.dir, _ = os.Readlink(filepath.Join(filepath.Dir(stat), "cwd"))
		found = append(found, process)
	}
	return found
}

func send(t *testing.T, id int, what syscall.Signal) {
	t.Helper()
	if err := syscall.Kill(id, what); err != nil {
		t.Fatal(err)
	}
}

func lastLine(t *testing.T, file string) string {
	t.Helper()
	content, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	lines := bytes.Split(bytes.TrimSpace(content), []byte("\n"))
	return string(lines[len(lines)-1])
}
