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

	"velero-plugin-for-kubevirt/pkg/kubevirt"
)

// driver plays the snapshot controller and a CSI driver that needs a second for each snapshot.
type driver struct {
	refuses string // the claim of which it makes none
	late    string // the claim for which its first attempt fails

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

func (d *driver) Await(ctx context.Context, id kubevirt.ID, done func(map[string]any) (bool, error)) error {
	states := []map[string]any{{"status": map[string]any{"boundVolumeSnapshotContentName": "content-of-" + id.Name}}}
	if snapshot, is := strings.CutPrefix(id.Name, "content-of-"); is {
		trouble := map[string]any{"status": map[string]any{"error": map[string]any{"message": "the array is full"}}}
		handle := map[string]any{"spec": map[string]any{"driver": "csi.example.com"}, "status": map[string]any{"snapshotHandle": "h-" + snapshot, "restoreSize": int64(8 << 20)}}
		switch snapshot {
		case d.refuses:
			states = []map[string]any{{}, trouble}
		case d.late:
			states = []map[string]any{trouble, trouble, handle}
		default:
			states = []map[string]any{{}, handle}
		}
	}
	for _, state := range states {
		if is, err := done(state); is || err != nil {
			return err
		}
		time.Sleep(time.Second)
	}
	<-ctx.Done()
	return ctx.Err()
}

func (d *driver) Delete(_ context.Context, id kubevirt.ID) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.deleted = append(d.deleted, id.Name)
	return nil
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
		results := Take(t.Context(), d, of("root", "data", "logs"), func(err error) { t.Error(err) })
		for n, name := range []string{"root", "data", "logs"} {
			r := results[n]
			if r.Err != nil || r.Name != name || r.Driver != "csi.example.com" || r.RestoreSize != 8<<20 || r.At.Sub(begin) != time.Second {
				t.Errorf("of %s: %+v", name, r)
			}
		}
		if took := time.Since(begin); took != time.Second {
			t.Errorf("three snapshots of a second took %s", took)
		}
		if len(d.created) != 3 || d.deleted != nil {
			t.Errorf("created %v, deleted %v", d.created, d.deleted)
		}
	})
}

func TestASnapshotThatIsRefusedDoesNotHarmTheOthers(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d, begin := &driver{refuses: "data"}, time.Now()
		ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
		defer cancel()
		var trouble []time.Duration
		results := Take(ctx, d, of("root", "data"), func(error) { trouble = append(trouble, time.Since(begin)) })
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
		if len(trouble) == 0 || trouble[0] != time.Second {
			t.Errorf("trouble was told after %v, the driver told it after 1s", trouble)
		}
	})
}

func TestADriverMayTryAgain(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		told := 0
		results := Take(t.Context(), &driver{late: "data"}, of("data"), func(error) { told++ })
		if results[0].Err != nil || told != 1 {
			t.Errorf("told %d times, %v", told, results[0].Err)
		}
	})
}

func TestWhatMayNotBeCreatedIsAnError(t *testing.T) {
	told := 0
	results := Take(t.Context(), &driver{}, of("forbidden"), func(error) { told++ })
	if err := results[0].Err; err == nil || !strings.Contains(err.Error(), "forbidden") || told != 1 {
		t.Errorf("told %d times, %v", told, err)
	}
}
