package snapshot

import (
	"context"
	"errors"
	"slices"
	"testing"
	"testing/synctest"

	"velero-plugin-for-kubevirt/pkg/graph"
	"velero-plugin-for-kubevirt/pkg/object"
)

// told is a server that tells of a snapshot that is made, cut and deleted, and then refuses.
type told struct{}

func (told) Follow(_ context.Context, _ graph.Query, visit func(map[string]any, bool)) error {
	for _, uid := range []string{"made", "cut", "deleted"} {
		visit(map[string]any{"metadata": map[string]any{"name": "data", "uid": uid}}, uid == "deleted")
	}
	return errors.New("forbidden")
}

// TestAWatchShowsWhatIsThere: whoever looks at snapshots is not shown one that is gone.
func TestAWatchShowsWhatIsThere(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var seen []string
		w := NewWatch(t.Context(), told{}, graph.Query{}, func(snapshot map[string]any) { seen = append(seen, object.UID(snapshot)) })
		synctest.Wait()
		if want := []string{"made", "cut"}; !slices.Equal(seen, want) {
			t.Errorf("seen %q, want %q", seen, want)
		}
		err := w.Await(t.Context(), "data", func(map[string]any) (bool, error) { return true, nil })
		if err == nil || err.Error() != "data was deleted" {
			t.Errorf("waiting for what is gone: %v", err)
		}
	})
}
