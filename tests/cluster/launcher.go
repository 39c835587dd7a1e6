package cluster

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"k8s.io/apimachinery/pkg/types"
)

// launcherSockets is the folder with a folder for each launcher pod, by its UID. Socket paths must be short.
func (c *Cluster) launcherSockets() string { return filepath.Join(c.supervisor.temp, "launchers") }

// execInLauncher is the Exec of a cluster with KubeVirt: it knows the real virt-freezer, to which it shows the socket of the pod's
// launcher, and plays virsh, which reads lines, and the shell that runs both one after the other. As in a container, a command is not ended
// when whoever sent it has gone.
func (c *Cluster) execInLauncher(ctx context.Context, namespace, name, container string, argv []string, stdin io.Reader, stdout, stderr io.Writer) (int, error) {
	ctx = context.WithoutCancel(ctx)
	if len(argv) >= 4 && argv[0] == "sh" && strings.HasPrefix(argv[2], `trap "" PIPE; virsh --quiet --connect `) && strings.HasSuffix(argv[2], `; exec "$@"`) && container == "compute" {
		folder, err := c.launcherFolder(ctx, namespace, name) // before virsh: a container needs no API server to run its second command
		if err != nil {
			return 0, err
		}
		if err := c.virsh(ctx, namespace, name, stdin, stdout, stderr); err != nil || len(argv) == 4 {
			return 0, err
		}
		return c.execFreezer(ctx, folder, argv[4:], nil, deaf{stdout}, deaf{stderr})
	}
	if container != "compute" {
		return notFound(argv, stderr)
	}
	folder, err := c.launcherFolder(ctx, namespace, name)
	if err != nil {
		return 0, err
	}
	return c.execFreezer(ctx, folder, argv, stdin, stdout, stderr)
}

func notFound(argv []string, stderr io.Writer) (int, error) {
	fmt.Fprintf(stderr, "executable file not found: %q\n", argv)
	return 127, nil
}

// launcherFolder returns where the socket of a pod's launcher is. That of a launcher that does not serve is empty.
func (c *Cluster) launcherFolder(ctx context.Context, namespace, name string) (string, error) {
	pod, err := c.clients.get(ctx, object("v1", "Pod", namespace, name))
	if err != nil {
		return "", err
	}
	folder := filepath.Join(c.launcherSockets(), string(pod.GetUID()))
	return folder, os.MkdirAll(folder, 0o755)
}

// execFreezer runs virt-freezer, and knows no other program.
func (c *Cluster) execFreezer(ctx context.Context, folder string, argv []string, stdin io.Reader, stdout, stderr io.Writer) (_ int, err error) {
	if len(argv) == 0 || argv[0] != freezerProgram {
		return notFound(argv, stderr)
	}
	cmd := exec.CommandContext(ctx, c.binaries["container"], append([]string{folder, c.binaries["virt-freezer"]}, argv[1:]...)...)
	cmd.Env = c.supervisor.environment()
	cmd.Stdin, cmd.Stdout, cmd.Stderr = stdin, stdout, stderr
	cmd.WaitDelay = 5 * time.Second
	if cmd.SysProcAttr, err = containerAttributes(); err != nil {
		return 0, err
	}
	if err := onStarter(cmd.Start); err != nil {
		return 0, fmt.Errorf("starting virt-freezer in namespaces of its own, for which root or user namespaces are needed: %w", err)
	}
	err = cmd.Wait()
	var exit *exec.ExitError
	if errors.As(err, &exit) && exit.Exited() {
		return exit.ExitCode(), nil
	}
	if err != nil {
		return 0, fmt.Errorf("running virt-freezer: %w", err)
	}
	return 0, nil
}

// deaf is a stream that takes what is written when nobody reads it any more, as that of a container does.
type deaf struct{ io.Writer }

func (d deaf) Write(text []byte) (int, error) {
	_, _ = d.Writer.Write(text)
	return len(text), nil
}

// virsh plays virsh as it reads one line, by which it asks a guest agent whether its guest is frozen, or has it run a command.
func (c *Cluster) virsh(ctx context.Context, namespace, name string, stdin io.Reader, stdout, stderr io.Writer) error {
	line, err := bufio.NewReader(stdin).ReadString('\n')
	if err != nil {
		return nil //nolint:nilerr // as virsh does when there are no more
	}
	fmt.Fprintf(stdout, "virsh # %s", line)
	argv := strings.Fields(line)
	pod, err := c.clients.get(ctx, object("v1", "Pod", namespace, name))
	if err != nil {
		return err
	}
	domain := pod.GetAnnotations()["kubevirt.io/domain"]
	vmi, err := c.clients.get(ctx, object("kubevirt.io/v1", "VirtualMachineInstance", namespace, domain))
	if err != nil {
		return err
	}
	_, quoted, _ := strings.Cut(line, "'")
	quoted, _, _ = strings.Cut(quoted, "'")
	var request struct{ Execute string }
	asked := slices.Contains(argv, "qemu-agent-command") && json.Unmarshal([]byte(quoted), &request) == nil
	switch agent := vmi.GetAnnotations()[AgentAnnotation]; {
	case !asked || !slices.Contains(argv, namespace+"_"+domain):
		fmt.Fprintf(stderr, "error: this is not known here: %q\n", line)
		return nil
	case agent == "false":
		fmt.Fprintln(stderr, "error: Guest agent is not responding: QEMU guest agent is not connected")
		return nil
	case agent == "no-fsfreeze":
		fmt.Fprintln(stderr, "error: internal error: unable to execute QEMU agent command 'guest-fsfreeze-status': The command guest-fsfreeze-status has been disabled for this instance")
		return nil
	}
	switch request.Execute {
	case "guest-fsfreeze-status":
		status := "thawed"
		if c.Guest.IsFrozen(namespace, domain) {
			status = "frozen"
		}
		fmt.Fprintf(stdout, "{\"return\":%q}\n\n", status)
	case "guest-exec":
		fmt.Fprint(stdout, "{\"return\":{\"pid\":4711}}\n\n")
	case "guest-exec-status":
		fmt.Fprintf(stdout, "{\"return\":{\"exited\":true,\"exitcode\":%d,\"out-data\":\"cGxheWVkCg==\"}}\n\n", len(vmi.GetAnnotations()[ExecAnnotation]))
	default:
		fmt.Fprintf(stderr, "error: the command %s has not been found\n", request.Execute)
	}
	return nil
}

// journalFile is where the handler says what happens to guests.
const journalFile = "guests.jsonl"

// A journal is the Guest of a cluster with KubeVirt: what its handler wrote.
type journal struct {
	path   string
	report func(error) // gets what should not happen
}

// Events returns what happened so far, in order.
func (j *journal) Events() []Event {
	events, err := j.read()
	if err != nil {
		j.report(fmt.Errorf("reading what happened to the guests: %w", err))
	}
	return events
}

func (j *journal) read() ([]Event, error) {
	content, err := os.ReadFile(j.path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	var events []Event
	for line := range bytes.Lines(content) {
		if !bytes.HasSuffix(line, []byte("\n")) {
			break // it is just being written
		}
		var entry struct {
			Namespace, Name string
			Action          Action
			Time            time.Time
		}
		if err := json.Unmarshal(line, &entry); err != nil {
			return events, err
		}
		events = append(events, Event{VMI: types.NamespacedName{Namespace: entry.Namespace, Name: entry.Name}, Action: entry.Action, Time: entry.Time})
	}
	return events, nil
}

// IsFrozen says whether the file systems of an instance's guest are frozen now.
func (j *journal) IsFrozen(namespace, name string) bool {
	frozen := false
	for _, event := range j.Events() {
		if event.VMI == (types.NamespacedName{Namespace: namespace, Name: name}) {
			frozen = event.Action == Frozen
		}
	}
	return frozen
}
