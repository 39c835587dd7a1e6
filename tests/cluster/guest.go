package cluster

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"slices"
	"sync"
	"time"

	"github.com/spf13/pflag"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/util/retry"
)

// Annotations on a VirtualMachineInstance by which a test says how its guest behaves.
const (
	// FreezeErrorAnnotation makes freezing fail with this text.
	FreezeErrorAnnotation = "fake.guest/freeze-error"
	// AgentAnnotation with the value "false" means that no guest agent runs: freezing succeeds and does nothing. With the value
	// "no-fsfreeze" one runs that does not offer the fsfreeze commands: freezing fails. With the value "windows" the guest is
	// Windows, which thaws by itself after 10 s.
	AgentAnnotation = "fake.guest/agent"
	// ExecAnnotation with any value makes the commands fail that the guest agent is to run. Only KubeVirt's launchers notice.
	ExecAnnotation = "fake.guest/exec"
	// HoldAnnotation with the value "true" keeps the guest from booting. Only KubeVirt's processes notice.
	HoldAnnotation = "fake.guest/hold"
	// CrashAnnotation with the value "true" ends every start of the guest before it runs, as a launcher that crashes. Only
	// KubeVirt's processes notice.
	CrashAnnotation = "fake.guest/crash"
	// MigrationAnnotation with the value "fail" or "hold" makes a live migration fail or never end. Only KubeVirt's
	// processes notice.
	MigrationAnnotation = "fake.guest/migration"
	// WritesAnnotation makes the guest write while it runs and is neither frozen nor paused: per interval, which is its
	// value, one numbered record, to its disks in turn. See Records. Only KubeVirt's processes notice.
	WritesAnnotation = "fake.guest/writes"
	// TurnsAnnotation with the name of another instance makes the guests of both, when each names the other, write in turn, one
	// record each, as parts of one application that wait for each other. Only KubeVirt's processes notice.
	TurnsAnnotation = "fake.guest/takes-turns-with"
)

// freezerProgram is what KubeVirt's hooks run in the launcher's container.
const freezerProgram = "/usr/bin/virt-freezer"

// An Action is what happened to a guest's file systems.
type Action string

// What can happen to a guest's file systems.
const (
	Frozen     Action = "frozen"
	Thawed     Action = "thawed"
	AutoThawed Action = "thawed by timeout"
	PoweredOff Action = "powered off while frozen"
)

// An Event records one Action.
type Event struct {
	VMI    types.NamespacedName
	Action Action
	Time   time.Time
	Err    error // why the instance's status does not show it; only in a cluster without KubeVirt
}

// A Guest knows what happened to the guests of all virtual machines.
type Guest interface {
	// Events returns what happened so far, in order.
	Events() []Event
	// IsFrozen says whether the file systems of an instance's guest are frozen now.
	IsFrozen(namespace, name string) bool
}

// A playedGuest plays the guest of every VirtualMachineInstance, as far as KubeVirt's virt-freezer talks to it, in a
// cluster without KubeVirt.
type playedGuest struct {
	clients *clients

	mu     sync.Mutex
	frozen map[types.NamespacedName]*time.Timer // fires at the automatic thaw
	events []Event
}

func newPlayedGuest(k *clients) *playedGuest {
	return &playedGuest{clients: k, frozen: map[types.NamespacedName]*time.Timer{}}
}

// Events returns what happened so far, in order.
func (g *playedGuest) Events() []Event {
	g.mu.Lock()
	defer g.mu.Unlock()
	return slices.Clone(g.events)
}

// IsFrozen says whether the file systems of an instance's guest are frozen now.
func (g *playedGuest) IsFrozen(namespace, name string) bool {
	g.mu.Lock()
	defer g.mu.Unlock()
	_, frozen := g.frozen[types.NamespacedName{Namespace: namespace, Name: name}]
	return frozen
}

// Exec is the Exec that knows one program: virt-freezer.
func (g *playedGuest) Exec(ctx context.Context, _, _, _ string, argv []string, _ io.Reader, stdout, stderr io.Writer) (int, error) {
	if len(argv) == 0 || argv[0] != freezerProgram {
		fmt.Fprintf(stderr, "executable file not found: %q\n", argv)
		return 127, nil
	}
	if err := g.runFreezer(ctx, argv[1:], stdout); err != nil {
		logLine(stderr, "error", err.Error())
		return 1, nil
	}
	return 0, nil
}

// runFreezer does what virt-freezer does, with its flags and messages.
func (g *playedGuest) runFreezer(ctx context.Context, args []string, stdout io.Writer) error {
	flags := pflag.NewFlagSet(freezerProgram, pflag.ContinueOnError)
	flags.SetOutput(io.Discard)
	freeze := flags.Bool("freeze", false, "")
	thaw := flags.Bool("unfreeze", false, "")
	name := flags.String("name", "", "")
	namespace := flags.String("namespace", "", "")
	timeout := flags.Int32("unfreezeTimeoutSeconds", 300, "")
	if err := flags.Parse(args); err != nil {
		return fmt.Errorf("parsing flags: %w", err)
	}
	switch {
	case *freeze == *thaw:
		return fmt.Errorf("either --freeze or --unfreeze must be set")
	case *name == "" || *namespace == "":
		return fmt.Errorf("both --name and --namespace must be provided")
	}
	vmi, err := g.clients.get(ctx, object("kubevirt.io/v1", "VirtualMachineInstance", *namespace, *name))
	if err != nil {
		return err
	}
	annotations := vmi.GetAnnotations()
	if annotations[AgentAnnotation] == "false" {
		logLine(stdout, "info", "No guest agent, exiting")
		return nil
	}
	if *freeze {
		if text, set := annotations[FreezeErrorAnnotation]; set {
			return fmt.Errorf("freezing VMI failed: %s", text)
		}
		err = g.freeze(ctx, vmi, time.Duration(*timeout)*time.Second)
	} else {
		err = g.thaw(ctx, vmi, Thawed)
	}
	if err == nil {
		logLine(stdout, "info", "Operation completed successfully")
	}
	return err
}

func (g *playedGuest) freeze(ctx context.Context, vmi *unstructured.Unstructured, timeout time.Duration) error {
	g.mu.Lock()
	id := identify(vmi)
	if timer := g.frozen[id]; timer != nil {
		timer.Stop()
	}
	g.frozen[id] = nil
	if timeout > 0 {
		g.frozen[id] = time.AfterFunc(timeout, func() {
			ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
			defer cancel()
			_ = g.thaw(ctx, vmi, AutoThawed) // the event has the error
		})
	}
	g.mu.Unlock()
	return g.record(ctx, vmi, Frozen)
}

func (g *playedGuest) thaw(ctx context.Context, vmi *unstructured.Unstructured, how Action) error {
	g.mu.Lock()
	id := identify(vmi)
	timer, frozen := g.frozen[id]
	if timer != nil {
		timer.Stop()
	}
	delete(g.frozen, id)
	g.mu.Unlock()
	if !frozen {
		return nil // as in reality, thawing what is not frozen is no error
	}
	return g.record(ctx, vmi, how)
}

// record shows an action in the instance's status and remembers it.
func (g *playedGuest) record(ctx context.Context, vmi *unstructured.Unstructured, action Action) error {
	event := Event{VMI: identify(vmi), Action: action, Time: time.Now()}
	event.Err = g.showState(ctx, vmi, action)
	g.mu.Lock()
	defer g.mu.Unlock()
	g.events = append(g.events, event)
	return event.Err
}

// showState writes status.fsFreezeStatus. The status of an instance is an ordinary part of it, not a subresource.
func (g *playedGuest) showState(ctx context.Context, vmi *unstructured.Unstructured, action Action) error {
	return retry.RetryOnConflict(retry.DefaultBackoff, func() error {
		live, err := g.clients.get(ctx, vmi)
		if err != nil {
			return err
		}
		if action != Frozen {
			unstructured.RemoveNestedField(live.Object, "status", "fsFreezeStatus")
		} else if err := unstructured.SetNestedField(live.Object, "frozen", "status", "fsFreezeStatus"); err != nil {
			return fmt.Errorf("setting the freeze status of %s: %w", describe(live), err)
		}
		resource, _, err := g.clients.resource(live)
		if err != nil {
			return err
		}
		_, err = resource.Update(ctx, live, metav1.UpdateOptions{})
		return err // bare: the retry looks at it
	})
}

// close forgets the pending thaws.
func (g *playedGuest) close() error {
	g.mu.Lock()
	defer g.mu.Unlock()
	for _, timer := range g.frozen {
		if timer != nil {
			timer.Stop()
		}
	}
	return nil
}

func identify(obj *unstructured.Unstructured) types.NamespacedName {
	return types.NamespacedName{Namespace: obj.GetNamespace(), Name: obj.GetName()}
}

// logLine writes a line as KubeVirt's programs log.
func logLine(w io.Writer, level, message string) {
	line, err := json.Marshal(map[string]string{"component": "freezer", "level": level, "msg": message})
	if err != nil {
		line = []byte(message)
	}
	fmt.Fprintf(w, "%s\n", line)
}
