package snapshot

import (
	"context"
	"errors"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"velero-plugin-for-kubevirt/pkg/graph"
	"velero-plugin-for-kubevirt/pkg/kubevirt"
)

// driver plays the snapshot controller and a CSI driver that needs a second for each snapshot.
type driver struct {
	refuses string // the claim of which it makes none
	late    string // the claim for which its first attempt fails
	removed string // the one that somebody deletes
	refused error  // why nobody may watch

	mu      sync.Mutex
	created []string
	deleted []string
}

func (d *driver) Create(_ context.Context, id kubevirt.ID, obj map[string]any) (map[string]any, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if id.Name == "forbidden" {
		return nil, errors.New("forbidden")
	}
	d.created = append(d.created, id.Name)
	return obj, nil
}

// Follow shows the states that the snapshots go through, a second each.
func (d *driver) Follow(ctx context.Context, _ graph.Query, visit func(map[string]any, bool)) error {
	trouble := map[string]any{"error": map[string]any{"message": "the array is full"}}
	cut := map[string]any{"creationTime": "2026-11-24T12:00:00Z", "restoreSize": "8Mi"}
	shown := map[string]int{}
	for ctx.Err() == nil {
		d.mu.Lock()
		created := slices.Clone(d.created)
		d.mu.Unlock()
		for _, name := range created {
			states := []map[string]any{{}, cut}
			switch name {
			case d.refuses:
				states = []map[string]any{{}, trouble}
			case d.late:
				states = []map[string]any{trouble, trouble, cut}
			case d.removed:
				visit(map[string]any{"metadata": map[string]any{"name": name}}, true)
				continue
			}
			if n := shown[name]; n < len(states) {
				visit(map[string]any{"metadata": map[string]any{"name": name}, "status": states[n]}, false)
				shown[name]++
			}
		}
		if d.refused != nil {
			return d.refused
		}
		select {
		case <-time.After(time.Second):
		case <-ctx.Done():
		}
	}
	return ctx.Err()
}

func (d *driver) Delete(_ context.Context, id kubevirt.ID) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.deleted = append(d.deleted, id.Name)
	return nil
}

// watched is a watch that has begun before the snapshots are made.
func watched(t *testing.T, d *driver) *Watch {
	t.Helper()
	w := NewWatch(t.Context(), d, graph.Query{GroupResource: kubevirt.VolumeSnapshots, Namespace: "shop", Labels: "velero.io/backup-name=nightly"}, func(map[string]any) {})
	synctest.Wait()
	return w
}

func of(names ...string) []Request {
	var requests []Request
	for _, name := range names {
		requests = append(requests, Request{Name: name, Namespace: "shop", Claim: "claim-" + name, Class: "fast"})
	}
	return requests
}

func TestAllSnapshotsAreTakenAtOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d, begin := &driver{}, time.Now()
		results := Take(t.Context(), d, watched(t, d), of("root", "data", "logs"), func(err error) { t.Error(err) })
		for n, name := range []string{"root", "data", "logs"} {
			r := results[n]
			if r.Err != nil || r.Name != name || r.RestoreSize != 8<<20 || r.At.Sub(begin) != 2*time.Second {
				t.Errorf("of %s: %+v", name, r)
			}
		}
		if took := time.Since(begin); took != 2*time.Second {
			t.Errorf("three snapshots of two seconds took %s", took)
		}
		if len(d.created) != 3 || d.deleted != nil {
			t.Errorf("created %v, deleted %v", d.created, d.deleted)
		}
	})
}

// TestTheSizeOfASnapshot: a driver need not say it.
func TestTheSizeOfASnapshot(t *testing.T) {
	for _, c := range []struct {
		says  any
		want  int64
		wrong bool
	}{{"8Mi", 8 << 20, false}, {nil, 0, false}, {"much", 0, true}, {8, 0, true}} {
		status := map[string]any{"creationTime": "2026-11-24T12:00:00Z"}
		if c.says != nil {
			status["restoreSize"] = c.says
		}
		if got, err := restoreSize(map[string]any{"status": status}); got != c.want || (err != nil) != c.wrong {
			t.Errorf("of %v: %d, %v, want %d", c.says, got, err, c.want)
		}
	}
}

func TestASnapshotThatIsRefusedDoesNotHarmTheOthers(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d, begin := &driver{refuses: "data"}, time.Now()
		ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
		defer cancel()
		var trouble []time.Duration
		results := Take(ctx, d, watched(t, d), of("root", "data"), func(error) { trouble = append(trouble, time.Since(begin)) })
		if results[0].Err != nil {
			t.Error(results[0].Err)
		}
		err := results[1].Err
		for _, want := range []string{"PersistentVolumeClaim shop/claim-data", "VolumeSnapshotClass fast", "the array is full", "deadline exceeded"} {
			if err == nil || !strings.Contains(err.Error(), want) {
				t.Errorf("the error does not say %q: %v", want, err)
			}
		}
		if !slices.Equal(d.deleted, []string{"data"}) {
			t.Errorf("deleted: %v", d.deleted)
		}
		if len(trouble) == 0 || trouble[0] != 2*time.Second {
			t.Errorf("trouble was told after %v, the driver told it after 2s", trouble)
		}
	})
}

func TestADriverMayTryAgain(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		told := 0
		d := &driver{late: "data"}
		results := Take(t.Context(), d, watched(t, d), of("data"), func(error) { told++ })
		if results[0].Err != nil || told != 1 {
			t.Errorf("told %d times, %v", told, results[0].Err)
		}
	})
}

func TestWhatMayNotBeCreatedIsAnError(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		told, d := 0, &driver{}
		results := Take(t.Context(), d, watched(t, d), of("forbidden"), func(error) { told++ })
		if err := results[0].Err; err == nil || !strings.Contains(err.Error(), "forbidden") || told != 1 {
			t.Errorf("told %d times, %v", told, err)
		}
	})
}

func TestWhatCannotBeWatchedIsAnError(t *testing.T) {
	for name, c := range map[string]struct {
		driver *driver
		want   string
	}{
		"deleted":   {&driver{removed: "data"}, "data was deleted"},
		"forbidden": {&driver{refused: errors.New("forbidden")}, `watching volumesnapshots.snapshot.storage.k8s.io in namespace "shop": forbidden`},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				results := Take(t.Context(), c.driver, watched(t, c.driver), of("data"), func(error) {})
				if err := results[0].Err; err == nil || !strings.Contains(err.Error(), c.want) {
					t.Errorf("got %v, want %q", err, c.want)
				}
			})
		})
	}
}
