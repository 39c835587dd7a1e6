package snapshot

import (
	"context"
	"errors"
	"slices"
	"strings"
	"testing"

	"velero-plugin-for-kubevirt/pkg/graph"
	"velero-plugin-for-kubevirt/pkg/kubevirt"
	"velero-plugin-for-kubevirt/pkg/object"
)

// shelf plays the snapshot controllers and the driver of a storage that has some snapshots.
type shelf struct {
	has     []string // handles
	refuses string   // the VolumeSnapshot that the API server does not take
	objects map[kubevirt.ID]map[string]any
}

func (s *shelf) Create(_ context.Context, id kubevirt.ID, obj map[string]any) (map[string]any, error) {
	if id.Name == s.refuses {
		return nil, errors.New("forbidden")
	}
	s.objects[id] = obj
	return obj, nil
}

func (s *shelf) Delete(_ context.Context, id kubevirt.ID) error {
	delete(s.objects, id)
	return nil
}

func (s *shelf) Follow(ctx context.Context, query graph.Query, visit func(map[string]any, bool)) error {
	name := strings.TrimPrefix(query.Fields, "metadata.name=")
	handle, err := object.String(s.objects[kubevirt.ID{GroupResource: query.GroupResource, Name: name}], "spec.source.snapshotHandle")
	if err != nil {
		return err
	}
	now := map[string]any{"readyToUse": true}
	if !slices.Contains(s.has, handle) {
		now = map[string]any{"readyToUse": false, "error": map[string]any{"message": "there is no " + handle}}
	}
	for _, status := range []map[string]any{nil, {"readyToUse": false}, now} {
		visit(map[string]any{"metadata": map[string]any{"name": name}, "status": status}, false)
	}
	<-ctx.Done()
	return ctx.Err()
}

func stored(names ...string) []Stored {
	var list []Stored
	for _, name := range names {
		list = append(list, Stored{Namespace: "shop", Name: name, Content: "content-of-" + name, Spec: map[string]any{
			"driver": "csi.example.com", "source": map[string]any{"snapshotHandle": "h-" + name},
		}})
	}
	return list
}

func TestWhatTheStorageHasGetsItsVolumeSnapshot(t *testing.T) {
	s := &shelf{has: []string{"h-root", "h-data"}, objects: map[kubevirt.ID]map[string]any{}}
	if err := Adopt(t.Context(), s, stored("root", "data")); err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"root", "data"} {
		snapshot := s.objects[kubevirt.ID{GroupResource: kubevirt.VolumeSnapshots, Namespace: "shop", Name: name}]
		content := s.objects[kubevirt.ID{GroupResource: kubevirt.VolumeSnapshotContents, Name: "content-of-" + name}]
		for path, want := range map[string]string{"spec.deletionPolicy": "Retain", "spec.volumeSnapshotRef.namespace": "shop", "spec.volumeSnapshotRef.name": name, "spec.driver": "csi.example.com"} {
			if got, err := object.String(content, path); got != want || err != nil {
				t.Errorf("%s of the content is %q, want %q: %v", path, got, want, err)
			}
		}
		if of, err := object.String(snapshot, "spec.source.volumeSnapshotContentName"); of != "content-of-"+name || err != nil {
			t.Errorf("VolumeSnapshot %s is of %q: %v", name, of, err)
		}
	}
}

func TestAllVolumeSnapshotsOrNone(t *testing.T) {
	for name, c := range map[string]struct {
		shelf   shelf
		refused bool
		says    string
	}{
		"the storage has one of two":               {shelf{has: []string{"h-root"}}, true, "VolumeSnapshot shop/data: the CSI driver said: there is no h-data"},
		"the API server does not take the other":   {shelf{has: []string{"h-root", "h-data"}, refuses: "data"}, false, "forbidden"},
		"the API server does not take its content": {shelf{has: []string{"h-root", "h-data"}, refuses: "content-of-data"}, false, "forbidden"},
	} {
		t.Run(name, func(t *testing.T) {
			c.shelf.objects = map[kubevirt.ID]map[string]any{}
			err := Adopt(t.Context(), &c.shelf, stored("root", "data"))
			if err == nil || errors.Is(err, ErrRefused) != c.refused || !strings.Contains(err.Error(), c.says) {
				t.Errorf("the error is %v", err)
			}
			if len(c.shelf.objects) != 0 {
				t.Errorf("left behind: %v", c.shelf.objects)
			}
		})
	}
}
