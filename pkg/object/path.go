// Package object reads and edits items as maps, by path. It knows nothing of KubeVirt, and leaves every field it was
// not asked about as it is.
//
// A path is field names joined by dots; a name followed by [] stands for every element of a list:
// "spec.template.spec.volumes[].dataVolume.name".
package object

import (
	"fmt"
	"strings"
)

// A Field is one place in an object that a path led to.
type Field struct {
	Path   string         // with the positions filled in: spec.volumes[2].dataVolume.name
	Value  any            // what stands there
	Parent map[string]any // the map that holds it
}

// Find returns the fields of obj that path leads to, in order; none when a field on the way is absent or null. It is an
// error, naming the place, when something on the way is not the map or list that the path says.
func Find(obj map[string]any, path string) ([]Field, error) {
	fields := []Field{{Value: obj}}
	for _, step := range strings.Split(path, ".") {
		name, isList := strings.CutSuffix(step, "[]")
		var next []Field
		for _, at := range fields {
			found, err := at.step(name, isList)
			if err != nil {
				return nil, err
			}
			next = append(next, found...)
		}
		fields = next
	}
	return fields, nil
}

// step returns the field called name below f or, for a list, each of its elements.
func (f Field) step(name string, isList bool) ([]Field, error) {
	parent, ok := f.Value.(map[string]any)
	if !ok {
		return nil, wrongType(f.Path, "an object", f.Value)
	}
	value := parent[name]
	if value == nil {
		return nil, nil
	}
	path := name
	if f.Path != "" {
		path = f.Path + "." + name
	}
	if !isList {
		return []Field{{Path: path, Value: value, Parent: parent}}, nil
	}
	list, ok := value.([]any)
	if !ok {
		return nil, wrongType(path, "a list", value)
	}
	elements := make([]Field, 0, len(list))
	for i, element := range list {
		elements = append(elements, Field{Path: fmt.Sprintf("%s[%d]", path, i), Value: element, Parent: parent})
	}
	return elements, nil
}

// A Text is a Field whose value is a string.
type Text struct {
	Path   string
	Value  string
	Parent map[string]any
}

// Strings is Find for paths that lead to strings; empty ones are left out. Any other value is an error naming the place.
func Strings(obj map[string]any, path string) ([]Text, error) {
	fields, err := Find(obj, path)
	if err != nil {
		return nil, err
	}
	var texts []Text
	for _, field := range fields {
		value, ok := field.Value.(string)
		if !ok {
			return nil, wrongType(field.Path, "a string", field.Value)
		}
		if value != "" {
			texts = append(texts, Text{Path: field.Path, Value: value, Parent: field.Parent})
		}
	}
	return texts, nil
}

// String returns the string that a path without lists leads to, "" when there is none.
func String(obj map[string]any, path string) (string, error) {
	texts, err := Strings(obj, path)
	if err != nil || len(texts) == 0 {
		return "", err
	}
	return texts[0].Value, nil
}

// Map returns the map that a path without lists leads to, nil when there is none.
func Map(obj map[string]any, path string) (map[string]any, error) {
	fields, err := Find(obj, path)
	if err != nil || len(fields) == 0 {
		return nil, err
	}
	m, ok := fields[0].Value.(map[string]any)
	if !ok {
		return nil, wrongType(path, "an object", fields[0].Value)
	}
	return m, nil
}

func wrongType(path, want string, value any) error {
	if path == "" {
		path = "the item"
	}
	found := ""
	switch value.(type) {
	case map[string]any:
		found = "an object"
	case []any:
		found = "a list"
	case string:
		found = "a string"
	case bool:
		found = "a boolean"
	case nil:
		found = "null"
	default:
		found = "a number"
	}
	return fmt.Errorf("%s: want %s, found %s", path, want, found)
}
