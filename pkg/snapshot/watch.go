package snapshot

import (
	"context"
	"fmt"
	"sync"

	"velero-plugin-for-kubevirt/pkg/graph"
	"velero-plugin-for-kubevirt/pkg/object"
)

// A Follower watches objects.
type Follower interface {
	// Follow calls visit with each object that query selects, as it is and whenever it changes, and says whether it was deleted. It makes one call at a
	// time, until ctx is over or the server refuses.
	Follow(ctx context.Context, query graph.Query, visit func(obj map[string]any, deleted bool)) error
}

// A Watch knows the VolumeSnapshots of one backup in one namespace as they are now, whoever makes them.
type Watch struct {
	mu        sync.Mutex
	snapshots map[string]map[string]any // by name; nil for one that was deleted
	changed   chan struct{}             // closed with each change
	err       error                     // why the watch has ended
}

// NewWatch follows the VolumeSnapshots, or contents, that query selects until ctx is over. It calls seen with each, as it is and whenever it changes.
func NewWatch(ctx context.Context, cluster Follower, query graph.Query, seen func(snapshot map[string]any)) *Watch {
	w := &Watch{snapshots: map[string]map[string]any{}, changed: make(chan struct{})}
	go func() {
		err := cluster.Follow(ctx, query, func(snapshot map[string]any, deleted bool) {
			w.record(snapshot, deleted)
			if !deleted {
				seen(snapshot)
			}
		})
		w.change(func() {
			w.err = fmt.Errorf("watching %s in namespace %q: %w", query.GroupResource, query.Namespace, err)
		})
	}()
	return w
}

func (w *Watch) record(snapshot map[string]any, deleted bool) {
	name := object.Name(snapshot)
	if deleted {
		snapshot = nil
	}
	w.change(func() { w.snapshots[name] = snapshot })
}

func (w *Watch) change(change func()) {
	w.mu.Lock()
	defer w.mu.Unlock()
	change()
	close(w.changed)
	w.changed = make(chan struct{})
}

// Await calls done with a VolumeSnapshot as it is and whenever it changes, until done says so or fails, the VolumeSnapshot is deleted, the watch ends, or ctx
// is over. One that is not there yet is waited for.
func (w *Watch) Await(ctx context.Context, name string, done func(snapshot map[string]any) (bool, error)) error {
	for {
		w.mu.Lock()
		snapshot, known := w.snapshots[name]
		changed, err := w.changed, w.err
		w.mu.Unlock()
		switch {
		case known && snapshot == nil:
			return fmt.Errorf("%s was deleted", name)
		case known:
			if is, err := done(snapshot); is || err != nil {
				return err
			}
		}
		if err != nil {
			return err
		}
		select {
		case <-changed:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}
