package cluster

import (
	"fmt"
	"maps"
	"slices"
	"strings"

	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime"
)

// inOrder returns copies of objects such that each comes after those whose symbolic UID it holds. A status does not
// count: it is written when all exist. Otherwise namespaces come first and pods, which need accounts and classes, last.
func inOrder(objects []*unstructured.Unstructured) ([]*unstructured.Unstructured, error) {
	sorter := sorter{byUID: map[string]*unstructured.Unstructured{}, state: map[*unstructured.Unstructured]visit{}}
	var queue []*unstructured.Unstructured
	for _, original := range objects {
		obj, err := copyJSON(original)
		if err != nil {
			return nil, err
		}
		queue = append(queue, obj)
		uid := string(obj.GetUID())
		if other := sorter.byUID[uid]; other != nil {
			return nil, fmt.Errorf("%s and %s have the same uid %q", describe(other), describe(obj), uid)
		}
		if uid != "" {
			sorter.byUID[uid] = obj
		}
	}
	slices.SortStableFunc(queue, func(a, b *unstructured.Unstructured) int { return rank(a) - rank(b) })
	for _, obj := range queue {
		if err := sorter.visit(obj, nil); err != nil {
			return nil, err
		}
	}
	return sorter.sorted, nil
}

// copyJSON copies an object by way of JSON, because objects read from YAML may hold types that a deep copy rejects.
func copyJSON(obj *unstructured.Unstructured) (*unstructured.Unstructured, error) {
	content, err := obj.MarshalJSON()
	if err != nil {
		return nil, fmt.Errorf("copying %s: %w", describe(obj), err)
	}
	result := &unstructured.Unstructured{}
	if err := result.UnmarshalJSON(content); err != nil {
		return nil, fmt.Errorf("copying %s: %w", describe(obj), err)
	}
	return result, nil
}

func rank(obj *unstructured.Unstructured) int {
	switch obj.GetKind() {
	case "Namespace":
		return 0
	case "Pod":
		return 2
	}
	return 1
}

type visit int

const (
	unseen visit = iota
	underWay
	done
)

type sorter struct {
	byUID  map[string]*unstructured.Unstructured
	state  map[*unstructured.Unstructured]visit
	sorted []*unstructured.Unstructured
}

func (s *sorter) visit(obj *unstructured.Unstructured, path []string) error {
	path = append(path, describe(obj))
	switch s.state[obj] {
	case done:
		return nil
	case underWay:
		return fmt.Errorf("objects refer to each other in a circle: %s", strings.Join(path, " -> "))
	}
	s.state[obj] = underWay
	content := runtime.DeepCopyJSON(obj.Object)
	delete(content, "status")
	unstructured.RemoveNestedField(content, "metadata", "uid")
	var err error
	mapStrings(content, func(text string) string {
		if other := s.byUID[text]; other != nil && err == nil {
			err = s.visit(other, path)
		}
		return text
	})
	if err != nil {
		return err
	}
	s.state[obj] = done
	s.sorted = append(s.sorted, obj)
	return nil
}

// replaceUIDs returns a JSON value in which every text that is a symbolic UID is the real one.
func replaceUIDs(value any, uids map[string]string) any {
	return mapStrings(value, func(text string) string {
		if uid, found := uids[text]; found {
			return uid
		}
		return text
	})
}

// mapStrings returns a JSON value with every text and every key replaced, except names: those may well read like
// somebody's symbolic UID.
func mapStrings(value any, replace func(string) string) any {
	switch value := value.(type) {
	case string:
		return replace(value)
	case []any:
		result := make([]any, len(value))
		for i, item := range value {
			result[i] = mapStrings(item, replace)
		}
		return result
	case map[string]any:
		result := make(map[string]any, len(value))
		for _, key := range slices.Sorted(maps.Keys(value)) { // sorted: the order of creation follows from it
			item := value[key]
			if _, text := item.(string); !text || key != "name" && key != "namespace" {
				item = mapStrings(item, replace)
			}
			result[replace(key)] = item
		}
		return result
	}
	return value
}
