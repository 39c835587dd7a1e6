// Package freeze follows the guests of one ItemBlock through the time in which Velero has them frozen. A Window opens when Velero builds the
// ItemBlock; launcher pods join it, and each guest is looked at before the hooks run; disks are snapshotted; and before the guests are thawed
// the window asks each whether it is frozen, and yields the facts for its verdict.
package freeze

import (
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"sync"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	virtv1 "kubevirt.io/api/core/v1"

	"velero-plugin-for-kubevirt/pkg/consistency"
	"velero-plugin-for-kubevirt/pkg/kubevirt"
)

// A Reader reads the cluster as it is now.
type Reader interface {
	// Now returns the whole object as it is now, nil when there is none.
	Now(ctx context.Context, id kubevirt.ID) (map[string]any, error)
	// GuestInfo returns what the guest agent of a VirtualMachineInstance says of itself.
	GuestInfo(ctx context.Context, namespace, name string) (map[string]any, error)
	// Exec runs a command in a container of a pod and returns what it printed; a command that fails is an error.
	Exec(ctx context.Context, pod kubevirt.ID, container string, command []string, stdin io.Reader) (string, error)
}

// A Window is the time in which the guests of one ItemBlock are frozen. It is safe for parallel use.
type Window struct {
	reader Reader

	mu     sync.Mutex
	guests map[kubevirt.ID]*guest // by VirtualMachineInstance
	began  time.Time              // when the first disk of the ItemBlock was about to be cut; zero before it
}

// A guest is one of the ItemBlock, as it was before Velero ran the hooks of its launcher pods.
type guest struct {
	joined    time.Time // when the first of its launcher pods did
	launchers []*corev1.Pod
	vmi       *virtv1.VirtualMachineInstance
	agent     *virtv1.VirtualMachineInstanceGuestAgentInfo
	session   *session      // nil when the guest cannot be frozen
	limit     time.Duration // for which the guest may be frozen; 0 before the window began
	timer     *time.Timer   // thaws it then
	thawed    *thawing      // nil before the plugin thaws the guest
	unseen    error         // why one of these could not be read
}

// Open returns a window that no guest has joined.
func Open(reader Reader) *Window {
	return &Window{reader: reader, guests: map[kubevirt.ID]*guest{}}
}

// Join records that a running launcher pod is in the ItemBlock. With the first pod of an instance it looks at the guest, and starts the command
// that will ask the guest whether it is frozen. Velero has not run the pod's hooks yet. A pod that is no launcher of the instance, but says so, does
// not join: nothing is executed in it, and it does not answer for the guest.
func (w *Window) Join(ctx context.Context, instance kubevirt.ID, launcher *corev1.Pod) {
	joined := time.Now()
	vmi, unseen := now[virtv1.VirtualMachineInstance](ctx, w.reader, instance)
	if vmi != nil && !isLauncherOf(launcher, vmi) {
		return
	}
	w.mu.Lock()
	g, known := w.guests[instance]
	if !known {
		g = &guest{joined: joined}
		w.guests[instance] = g
	}
	g.launchers = append(g.launchers, launcher)
	w.mu.Unlock()
	if known {
		return
	}
	seen := guest{vmi: vmi, unseen: unseen}
	seen.lookBefore(ctx, w.reader, instance, launcher)
	w.mu.Lock()
	defer w.mu.Unlock()
	g.vmi, g.agent, g.session, g.unseen = seen.vmi, seen.agent, seen.session, seen.unseen
}

// isLauncherOf tells whether KubeVirt counts a pod among the launchers of an instance: by the instance's UID, which no other object gets
// (KubeVirt 1.8.4, pkg/virt-controller/watch/vmi/lifecycle.go, setActivePods).
func isLauncherOf(pod *corev1.Pod, vmi *virtv1.VirtualMachineInstance) bool {
	return v1.IsControlledBy(pod, vmi)
}

// lookBefore reads what a guest whose instance is known is like before the hooks.
func (g *guest) lookBefore(ctx context.Context, reader Reader, instance kubevirt.ID, launcher *corev1.Pod) {
	if g.unseen != nil || g.vmi == nil || !consistency.HasAgent(g.vmi) {
		return
	}
	info, err := reader.GuestInfo(ctx, instance.Namespace, instance.Name)
	if err != nil {
		g.unseen = err
		return
	}
	if g.agent, g.unseen = as[virtv1.VirtualMachineInstanceGuestAgentInfo](info); g.unseen != nil {
		return
	}
	expected := consistency.Facts{Joined: true, Before: g.vmi, After: g.vmi, Agent: g.agent, Launchers: []consistency.Launcher{{Before: launcher}}}
	if expected.MayBeFrozen() {
		g.session = startSession(context.WithoutCancel(ctx), reader, instance, idOf(launcher), thawIn(launcher))
	}
}

// Absorb takes over the guests of a window that turned out to be of the same ItemBlock. Velero has not run their hooks yet.
func (w *Window) Absorb(other *Window) {
	other.mu.Lock()
	defer other.mu.Unlock()
	w.mu.Lock()
	defer w.mu.Unlock()
	maps.Copy(w.guests, other.guests)
}

// Close ends what waits for the guests: the ItemBlock has been backed up.
func (w *Window) Close() {
	w.mu.Lock()
	defer w.mu.Unlock()
	for _, g := range w.guests {
		if g.timer != nil {
			g.timer.Stop()
		}
		if g.session != nil {
			g.session.end()
		}
	}
}

// FirstJoined returns when the first launcher pod of any guest joined; the zero time when none did.
func (w *Window) FirstJoined() time.Time {
	w.mu.Lock()
	defer w.mu.Unlock()
	var first time.Time
	for _, g := range w.guests {
		if first.IsZero() || g.joined.Before(first) {
			first = g.joined
		}
	}
	return first
}

// Joined returns when the first launcher pod of an instance joined; the zero time when none did.
func (w *Window) Joined(instance kubevirt.ID) time.Time {
	w.mu.Lock()
	defer w.mu.Unlock()
	if g := w.guests[instance]; g != nil {
		return g.joined
	}
	return time.Time{}
}

// errNotAsked is why a guest was not asked that, when its pod joined the ItemBlock, was not one that can be frozen.
var errNotAsked = errors.New("the guest was not asked whether it is frozen")

// Facts returns what is known of a VM or of an instance of its own after the last snapshot. It asks the guest whether it is frozen, and thaws it, if that has
// not been done; a guest that could not be frozen is only looked at. The disks are for the caller to add.
func (w *Window) Facts(ctx context.Context, item, instance kubevirt.ID) consistency.Facts {
	w.mu.Lock()
	g := w.guests[instance]
	if g == nil {
		g = &guest{}
	}
	asked, began := g.session != nil || g.thawed != nil, w.began
	w.mu.Unlock()
	if asked {
		return w.thaw(ctx, instance, g).facts
	}
	facts := w.look(ctx, g, item, instance)
	if g.vmi != nil && !began.IsZero() {
		facts.Window = time.Since(began)
	}
	return facts
}

// look reads everything at once.
func (w *Window) look(ctx context.Context, g *guest, item, instance kubevirt.ID) consistency.Facts {
	facts := consistency.Facts{
		Snapshots: true, Before: g.vmi, Agent: g.agent, Launchers: make([]consistency.Launcher, len(g.launchers)), NotAsked: errNotAsked,
	}
	var reads sync.WaitGroup
	failures := make([]error, 2+len(g.launchers))
	reads.Go(func() { facts.After, failures[0] = now[virtv1.VirtualMachineInstance](ctx, w.reader, instance) })
	if g.vmi != nil && item.GroupResource == kubevirt.VirtualMachines {
		reads.Go(func() { facts.Machine, failures[1] = now[virtv1.VirtualMachine](ctx, w.reader, item) })
	}
	for n, launcher := range g.launchers {
		facts.Launchers[n].Before = launcher
		reads.Go(func() { facts.Launchers[n].After, failures[2+n] = now[corev1.Pod](ctx, w.reader, idOf(launcher)) })
	}
	reads.Wait()
	for _, err := range append(failures, g.unseen) {
		if err != nil {
			facts.Unseen = append(facts.Unseen, err)
		}
	}
	return facts
}

func idOf(pod *corev1.Pod) kubevirt.ID {
	return kubevirt.ID{GroupResource: kubevirt.Pods, Namespace: pod.Namespace, Name: pod.Name}
}

// now reads an object as it is now, as a type; nil when there is none.
func now[T any](ctx context.Context, reader Reader, id kubevirt.ID) (*T, error) {
	obj, err := reader.Now(ctx, id)
	if err != nil || obj == nil {
		return nil, err
	}
	return as[T](obj)
}

// as reads an object as a type.
func as[T any](obj map[string]any) (*T, error) {
	var typed T
	if err := runtime.DefaultUnstructuredConverter.FromUnstructured(obj, &typed); err != nil {
		return nil, fmt.Errorf("reading a %T: %w", typed, err)
	}
	return &typed, nil
}
