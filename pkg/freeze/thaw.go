package freeze

import (
	"context"
	"errors"
	"strings"
	"sync"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"velero-plugin-for-kubevirt/pkg/consistency"
	"velero-plugin-for-kubevirt/pkg/kubevirt"
)

// A thawing is one guest being thawed by the plugin. Whoever wants it thawed, too, waits for the same.
type thawing struct {
	began time.Time
	ended chan struct{} // closed when these are known
	facts consistency.Facts
	err   error // why the guest may still be frozen
}

// hasEnded tells whether the guest has been thawed.
func (t *thawing) hasEnded() bool {
	select {
	case <-t.ended:
		return true
	default:
		return false
	}
}

// Begin records when the first disk of the ItemBlock was about to be cut: Velero has frozen the guests before. From then on each is thawed when it has been
// frozen for as long as limit says, whatever becomes of its disks.
func (w *Window) Begin(at time.Time, limit func(instance kubevirt.ID, windows bool) time.Duration) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if !w.began.IsZero() {
		return
	}
	w.began = at
	for instance, g := range w.guests {
		if g.vmi == nil {
			continue
		}
		g.limit = limit(instance, consistency.IsWindows(g.vmi))
		g.timer = time.AfterFunc(g.limit-time.Since(at), func() { w.thaw(context.Background(), instance, g) })
	}
}

// Frozen returns for how long the guests were frozen that the plugin has thawed, 0 when it has thawed none.
func (w *Window) Frozen() time.Duration {
	w.mu.Lock()
	defer w.mu.Unlock()
	longest := time.Duration(0)
	for _, g := range w.guests {
		if g.thawed != nil && g.thawed.hasEnded() {
			longest = max(longest, g.thawed.facts.Window)
		}
	}
	return longest
}

// HasBegun tells whether a disk of the ItemBlock is known to have been about to be cut.
func (w *Window) HasBegun() bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	return !w.began.IsZero()
}

// Thaw asks each guest whether it is frozen, keeps what is known of it now for its verdict, and thaws it as Velero would: by the post hook of its launcher
// pods. Guests that join later are not thawed. It tells whether all were frozen until then. An error is about a guest that may still be frozen: Velero's own
// hooks come later.
func (w *Window) Thaw(ctx context.Context) (allFrozen bool, err error) {
	now := time.Now()
	w.mu.Lock()
	guests := make(map[kubevirt.ID]*guest, len(w.guests))
	for instance, g := range w.guests {
		if g.vmi != nil {
			guests[instance] = g
		}
	}
	w.mu.Unlock()
	var all sync.WaitGroup
	thawed := make(chan *thawing, len(guests))
	for instance, g := range guests {
		all.Go(func() { thawed <- w.thaw(ctx, instance, g) })
	}
	all.Wait()
	close(thawed)
	allFrozen = true
	var errs []error
	for t := range thawed {
		allFrozen = allFrozen && t.facts.Frozen && !t.began.Before(now)
		errs = append(errs, t.err)
	}
	return allFrozen, errors.Join(errs...)
}

// ThawedAt returns when the plugin began to thaw the guest of an instance; the zero time when it has not.
func (w *Window) ThawedAt(instance kubevirt.ID) time.Time {
	w.mu.Lock()
	defer w.mu.Unlock()
	if g := w.guests[instance]; g != nil && g.thawed != nil {
		return g.thawed.began
	}
	return time.Time{}
}

// thaw asks and thaws a guest, once.
func (w *Window) thaw(ctx context.Context, instance kubevirt.ID, g *guest) *thawing {
	w.mu.Lock()
	t := g.thawed
	if t != nil {
		w.mu.Unlock()
		<-t.ended
		return t
	}
	t = &thawing{began: time.Now(), ended: make(chan struct{})}
	g.thawed = t
	began, limit := w.began, g.limit
	if g.timer != nil {
		g.timer.Stop()
	}
	w.mu.Unlock()
	defer close(t.ended)

	// The guest is not kept frozen by what else is looked at.
	var looking sync.WaitGroup
	looking.Go(func() { t.facts = w.look(ctx, g, vmOf(instance, g), instance) })
	asked := answer{notAsked: errNotAsked, notThawed: errNotAsked}
	if g.session != nil {
		asked = askAndThaw(ctx, w.reader, g.session)
	}
	t.err = w.runThawHooks(ctx, g, asked)
	frozen := time.Since(began)
	looking.Wait()
	t.facts.Frozen, t.facts.NotAsked, t.facts.MaxFreeze = asked.frozen, asked.notAsked, limit
	if !began.IsZero() {
		t.facts.Window = frozen
	}
	return t
}

// vmOf returns the VM of an instance, or the instance itself when it has none.
func vmOf(instance kubevirt.ID, g *guest) kubevirt.ID {
	if owner := metav1.GetControllerOfNoCopy(g.vmi); owner != nil && owner.Kind == "VirtualMachine" {
		return kubevirt.ID{GroupResource: kubevirt.VirtualMachines, Namespace: instance.Namespace, Name: owner.Name}
	}
	return instance
}

// thawIn returns the command that thaws the guest in the container in which the question is asked; nothing when the pod's hook is for another one.
func thawIn(launcher *corev1.Pod) []string {
	if container, command := consistency.ThawHook(launcher); container == computeContainer {
		return command
	}
	return nil
}

// thawLimit is how long a thaw may take: as long as Velero waits for a hook that does not say otherwise. An exec does not end by itself where a node hangs.
const thawLimit = 30 * time.Second

// runThawHooks runs the hooks that thaw the guest, but the one that the session has run.
func (w *Window) runThawHooks(ctx context.Context, g *guest, asked answer) error {
	ctx, cancel := context.WithTimeout(ctx, thawLimit)
	defer cancel()
	var errs []error
	for _, launcher := range g.launchers {
		container, command := consistency.ThawHook(launcher)
		done := asked.notThawed == nil && g.session.launcher == idOf(launcher) && g.session.thaw != nil
		if command == nil || done {
			continue
		}
		_, err := w.reader.Exec(ctx, idOf(launcher), container, command, strings.NewReader(""))
		errs = append(errs, err)
	}
	return errors.Join(errs...)
}
