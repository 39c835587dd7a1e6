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
	return follow(nil, obj, nil, nil, path)
}

// A trail is the way to a place. It becomes a text only for what is found: most paths lead nowhere, and thousands are followed
// for each VM.
type trail struct {
	from     *trail
	name     string
	position int // in a list, or notInList
}

const notInList = -1

func (t *trail) String() string {
	if t == nil {
		return ""
	}
	text := t.name
	if t.from != nil {
		text = t.from.String() + "." + text
	}
	if t.position != notInList {
		text = fmt.Sprintf("%s[%d]", text, t.position)
	}
	return text
}

// follow appends to found what path leads to from the place at, which parent holds.
func follow(found []Field, at any, parent map[string]any, way *trail, path string) ([]Field, error) {
	if path == "" {
		return append(found, Field{Path: way.String(), Value: at, Parent: parent}), nil
	}
	below, ok := at.(map[string]any)
	if !ok {
		return nil, wrongType(way.String(), "an object", at)
	}
	step, rest, _ := strings.Cut(path, ".")
	name, isList := strings.CutSuffix(step, "[]")
	value := below[name]
	if value == nil {
		return found, nil
	}
	if !isList {
		return follow(found, value, below, &trail{way, name, notInList}, rest)
	}
	list, ok := value.([]any)
	if !ok {
		return nil, wrongType((&trail{way, name, notInList}).String(), "a list", value)
	}
	var err error
	for i, element := range list {
		if found, err = follow(found, element, below, &trail{way, name, i}, rest); err != nil {
			return nil, err
		}
	}
	return found, nil
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
