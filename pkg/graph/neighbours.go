package graph

import (
	"cmp"
	"context"
	"fmt"
	"slices"

	"k8s.io/apimachinery/pkg/runtime/schema"

	"velero-plugin-for-kubevirt/pkg/kubevirt"
	"velero-plugin-for-kubevirt/pkg/object"
)

// A Neighbour is an object that another one refers to.
type Neighbour struct {
	kubevirt.ID
	Path     string // the field that names it; empty when it was looked up
	Optional bool   // the referrer works without it
	Absent   bool   // the reader knows that there is no such object
	Unknown  error  // why the reader could not tell whether there is
}

// Neighbours returns what obj, an item of the given resource, refers to directly: each object once, sorted. It is an
// error when a field is not of the type that the API says, or when a lookup could not be answered; a named object whose
// existence could not be checked is returned with the reason.
func Neighbours(ctx context.Context, resource schema.GroupResource, obj map[string]any, reader Reader) ([]Neighbour, error) {
	neighbours, err := Named(resource, obj)
	if err != nil {
		return nil, err
	}
	for _, lookup := range lookups {
		if lookup.from != resource {
			continue
		}
		ids, err := lookup.find(ctx, obj, reader)
		if err != nil {
			return nil, err
		}
		for _, id := range ids {
			neighbours = append(neighbours, Neighbour{ID: id, Optional: lookup.unsure})
		}
	}
	self := kubevirt.ID{GroupResource: resource, Namespace: object.Namespace(obj), Name: object.Name(obj)}
	neighbours = slices.DeleteFunc(unique(neighbours), func(n Neighbour) bool { return n.ID == self })
	for i := range neighbours {
		found, err := exists(ctx, reader, neighbours[i].ID)
		neighbours[i].Absent, neighbours[i].Unknown = err == nil && !found, err
	}
	return neighbours, nil
}

// Named returns what the fields of obj name, without asking anybody whether it exists.
func Named(resource schema.GroupResource, obj map[string]any) ([]Neighbour, error) {
	var neighbours []Neighbour
	for _, reference := range references {
		prefix, embeds := reference.From[resource]
		if !embeds {
			continue
		}
		path := reference.Path
		if prefix != "" {
			if err := require(obj, prefix); err != nil {
				return nil, err
			}
			path = prefix + "." + path
		}
		names, err := object.Strings(obj, path)
		if err != nil {
			return nil, err
		}
		for _, name := range names {
			optional, _ := name.Parent[reference.OptionalIf].(bool)
			neighbours = append(neighbours, Neighbour{
				ID:       kubevirt.ID{GroupResource: reference.To, Namespace: object.Namespace(obj), Name: name.Value},
				Path:     name.Path,
				Optional: optional || reference.Unsure,
			})
		}
	}
	return unique(neighbours), nil
}

// require makes an item without the part that its kind embeds an error: what it refers to cannot be known.
func require(obj map[string]any, path string) error {
	part, err := object.Map(obj, path)
	if err == nil && part == nil {
		return fmt.Errorf("%s: missing", path)
	}
	return err
}

// unique keeps one neighbour per object, the one that is needed most, and sorts.
func unique(neighbours []Neighbour) []Neighbour {
	slices.SortStableFunc(neighbours, func(a, b Neighbour) int {
		return cmp.Or(
			cmp.Compare(a.Group, b.Group), cmp.Compare(a.Resource, b.Resource),
			cmp.Compare(a.Namespace, b.Namespace), cmp.Compare(a.Name, b.Name),
			compareBool(a.Optional, b.Optional),
		)
	})
	return slices.CompactFunc(neighbours, func(a, b Neighbour) bool { return a.ID == b.ID })
}

func compareBool(a, b bool) int {
	switch {
	case a == b:
		return 0
	case b:
		return -1
	}
	return 1
}
