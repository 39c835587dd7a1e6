package object

import (
	"testing"

	"github.com/google/go-cmp/cmp"
)

func vm() map[string]any {
	return map[string]any{
		"metadata": map[string]any{"name": "web", "labels": map[string]any{"app": "web", "count": int64(3)}},
		"spec": map[string]any{
			"volumes": []any{
				map[string]any{"name": "root", "dataVolume": map[string]any{"name": "web-root"}},
				map[string]any{"name": "empty", "emptyDisk": map[string]any{}},
				map[string]any{"name": "data", "dataVolume": map[string]any{"name": "web-data"}},
				map[string]any{"name": "unnamed", "dataVolume": map[string]any{"name": ""}},
				map[string]any{"name": "null", "dataVolume": nil},
			},
		},
	}
}

func TestStringsFollowsListsAndSkipsWhatIsAbsent(t *testing.T) {
	texts, err := Strings(vm(), "spec.volumes[].dataVolume.name")
	if err != nil {
		t.Fatal(err)
	}
	var got []string
	for _, text := range texts {
		got = append(got, text.Path+"="+text.Value)
	}
	want := []string{"spec.volumes[0].dataVolume.name=web-root", "spec.volumes[2].dataVolume.name=web-data"}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
}

func TestWrongTypesAreErrorsThatNameThePlace(t *testing.T) {
	for path, want := range map[string]string{
		"metadata.labels.count": "metadata.labels.count: want a string, found a number",
		"metadata.name.first":   "metadata.name: want an object, found a string",
		"metadata[].name":       "metadata: want a list, found an object",
		"spec.volumes.name":     "spec.volumes: want an object, found a list",
	} {
		if _, err := Strings(vm(), path); err == nil || err.Error() != want {
			t.Errorf("%s: want error %q, got %v", path, want, err)
		}
	}
}

func TestEditsTouchNothingElse(t *testing.T) {
	obj := vm()
	if changed, err := SetAnnotation(obj, "example.com/key", "value"); err != nil || !changed {
		t.Fatalf("changed %v, error %v", changed, err)
	}
	if changed, err := SetAnnotation(obj, "example.com/key", "value"); err != nil || changed {
		t.Errorf("setting the same again: changed %v, error %v", changed, err)
	}
	if !DeleteLabel(obj, "app") || DeleteLabel(obj, "app") {
		t.Error("a label is there once")
	}
	want := vm()
	metadata := want["metadata"].(map[string]any)
	metadata["annotations"] = map[string]any{"example.com/key": "value"}
	delete(metadata["labels"].(map[string]any), "app")
	if diff := cmp.Diff(want, obj); diff != "" {
		t.Error(diff)
	}
}
