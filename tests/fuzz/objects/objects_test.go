// Package objects gives what reads objects, those of the scenarios with changes that nobody would make.
package objects

import (
	"encoding/binary"
	"math/rand/v2"
	"path/filepath"
	"slices"
	"testing"

	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime/schema"

	"velero-plugin-for-kubevirt/pkg/kubevirt"
	"velero-plugin-for-kubevirt/tests/scenarios"
)

// known are all objects of the scenarios of a kind that the plugin knows.
func known(f *testing.F) []*unstructured.Unstructured {
	f.Helper()
	folders, err := filepath.Glob("../../scenarios/*/objects.yaml")
	if err != nil || len(folders) == 0 {
		f.Fatalf("no scenarios: %v", err)
	}
	var found []*unstructured.Unstructured
	for _, folder := range folders {
		objects, err := scenarios.Objects(filepath.Dir(folder))
		if err != nil {
			f.Fatal(err)
		}
		for _, obj := range objects {
			if _, is := kubevirt.ResourceOf(obj.GetAPIVersion(), obj.GetKind()); is {
				found = append(found, obj)
			}
		}
	}
	return found
}

func resourceOf(obj map[string]any) schema.GroupResource {
	u := unstructured.Unstructured{Object: obj}
	resource, _ := kubevirt.ResourceOf(u.GetAPIVersion(), u.GetKind())
	return resource
}

// addScripts gives the fuzzer scripts to begin with; a plain "go test" runs these alone.
func addScripts(f *testing.F) {
	random := rand.New(rand.NewPCG(1, 2))
	for range 200 {
		script := make([]byte, 4+random.IntN(60))
		for n := range script {
			script[n] = byte(random.Uint32())
		}
		f.Add(script)
	}
}

// A script is what the fuzzer makes: each two bytes choose one of several things. Text would hardly ever be an object.
type script []byte

func (s *script) choose(n int) int {
	if len(*s) < 2 || n <= 0 {
		return 0
	}
	chosen := int(binary.BigEndian.Uint16(*s))
	*s = (*s)[2:]
	return chosen % n
}

// object returns one of the objects with changes at places that the script chooses: things missing, doubled, unknown or of another type.
func (s *script) object(objects []*unstructured.Unstructured) map[string]any {
	obj := objects[s.choose(len(objects))].DeepCopy().Object
	for changes := s.choose(6); changes > 0; changes-- {
		places := placesIn(obj, nil)
		s.change(places[s.choose(len(places))])
	}
	return obj
}

// A place is a map or a list in an object.
type place struct {
	fields map[string]any
	list   []any
	put    func([]any) // puts a longer list in the place of the list
}

func placesIn(at any, places []place) []place {
	fields, is := at.(map[string]any)
	if !is {
		return places
	}
	places = append(places, place{fields: fields})
	for _, key := range sortedKeys(fields) {
		if list, is := fields[key].([]any); is {
			places = append(places, place{list: list, put: func(longer []any) { fields[key] = longer }})
			for _, element := range list {
				places = placesIn(element, places)
			}
			continue
		}
		places = placesIn(fields[key], places)
	}
	return places
}

func sortedKeys(m map[string]any) []string {
	keys := make([]string, 0, len(m))
	for key := range m {
		keys = append(keys, key)
	}
	slices.Sort(keys)
	return keys
}

func (s *script) change(at place) {
	if at.fields == nil {
		if len(at.list) == 0 || s.choose(3) == 0 {
			at.put(append(slices.Clone(at.list), s.value()))
			return
		}
		at.list[s.choose(len(at.list))] = s.value()
		return
	}
	keys := sortedKeys(at.fields)
	switch s.choose(4) {
	case 0:
		at.fields["unknown"] = s.value()
	case 1:
		at.fields[annotations[s.choose(len(annotations))]] = s.value()
	case 2:
		if len(keys) > 0 {
			delete(at.fields, keys[s.choose(len(keys))])
		}
	default:
		if len(keys) > 0 {
			at.fields[keys[s.choose(len(keys))]] = s.value()
		}
	}
}

// annotations are what the plugin reads from metadata, and fields that it looks for.
var annotations = []string{
	kubevirt.AdditionalItems, kubevirt.ResolvedSource, kubevirt.HeldRunStrategy, kubevirt.MultusNetworks, kubevirt.MultusDefaultNetwork, kubevirt.HookSidecars,
	kubevirt.CloneRequest, kubevirt.OwnedByDataVolume, kubevirt.EventsSource, kubevirt.DataSourceNamespace, kubevirt.CreatedByLabel, kubevirt.PodRoleLabel,
	"velero.kubevirt.io/identity", "running", "runStrategy", "sourceRef", "source", "dataSourceRef", "annotations", "labels", "ownerReferences", "namespace", "name",
}

// value returns what may stand where something else is expected.
func (s *script) value() any {
	values := []any{
		"", "a", "shop", "shop/net", "../../secrets/x", "true", "new", "Always", "[]", "{}", "[", "null", `["secrets/vault/key"]`, `{"pvc":{"namespace":"vault","name":"db"}}`,
		`[{"name":"net","namespace":"shop"}]`, `[{"name":"net","rate":123456789012345678}]`, `{"execute":"x"}`, "\x1b[31m", "a\nb", "02:00:00:00:00:01", "00:00", nil, true, int64(7),
		int64(1) << 60, 1.5, []any{}, []any{nil}, []any{"a", int64(1)}, map[string]any{}, map[string]any{"name": int64(3)}, map[string]any{"name": "a", "namespace": "shop"},
		map[string]any{"pvc": nil}, map[string]any{"unknown": []any{map[string]any{"deep": "value"}}},
	}
	return values[s.choose(len(values))]
}
