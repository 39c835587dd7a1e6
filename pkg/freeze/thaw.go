package freeze

import (
	"context"
	"errors"
	"strings"
	"sync"
	"time"

	"k8s.io/apimachinery/pkg/apis/meta/v1"

	"velero-plugin-for-kubevirt/pkg/consistency"
	"velero-plugin-for-kubevirt/pkg/kubevirt"
)

// How long a guest stays frozen at most while the plugin takes the snapshots. Windows holds its writers for 10 s (VSS), and what it gives up by itself
// cannot be seen.
const (
	maxFreeze        = 60 * time.Second
	maxFreezeWindows = 8 * time.Second
)

// MaxFreeze returns how long the guests of the window may stay frozen: as long as the least patient of them.
func (w *Window) MaxFreeze() time.Duration {
	w.mu.Lock()
	defer w.mu.Unlock()
	limit := maxFreeze
	for _, g := range w.guests {
		limit = min(limit, g.maxFreeze())
	}
	return limit
}

func (g *guest) maxFreeze() time.Duration {
	if g.vmi != nil && consistency.IsWindows(g.vmi) {
		return maxFreezeWindows
	}
	return maxFreeze
}

// Thaw asks each guest whether it is frozen, keeps what is known of it now for its verdict, and thaws it as Velero would: by the post hook of its launcher
// pods. Began is when the first of the snapshots was asked for. Guests that join later are not thawed. An error is about a guest that may still be frozen:
// Velero's own hooks come later.
func (w *Window) Thaw(ctx context.Context, began time.Time) error {
	w.mu.Lock()
	defer w.mu.Unlock()
	var all sync.WaitGroup
	failures := make(chan error, len(w.guests))
	for instance, g := range w.guests {
		if g.vmi == nil || g.thawed != nil {
			continue
		}
		all.Go(func() {
			facts := w.look(ctx, g, vmOf(instance, g), instance)
			facts.Window, facts.MaxFreeze = time.Since(began), g.maxFreeze()
			g.thawed = &facts
			failures <- w.thaw(ctx, g)
		})
	}
	all.Wait()
	close(failures)
	var errs []error
	for err := range failures {
		errs = append(errs, err)
	}
	return errors.Join(errs...)
}

// vmOf returns the VM of an instance, or the instance itself when it has none.
func vmOf(instance kubevirt.ID, g *guest) kubevirt.ID {
	if owner := v1.GetControllerOfNoCopy(g.vmi); owner != nil && owner.Kind == "VirtualMachine" {
		return kubevirt.ID{GroupResource: kubevirt.VirtualMachines, Namespace: instance.Namespace, Name: owner.Name}
	}
	return instance
}

// thawLimit is how long a thaw may take: as long as Velero waits for a hook that does not say otherwise. An exec does not end by itself where a node hangs.
const thawLimit = 30 * time.Second

func (w *Window) thaw(ctx context.Context, g *guest) error {
	ctx, cancel := context.WithTimeout(ctx, thawLimit)
	defer cancel()
	var errs []error
	for _, launcher := range g.launchers {
		container, command := consistency.ThawHook(launcher)
		if command == nil {
			continue
		}
		_, err := w.reader.Exec(ctx, idOf(launcher), container, command, strings.NewReader(""))
		errs = append(errs, err)
	}
	return errors.Join(errs...)
}
