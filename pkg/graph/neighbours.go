package graph

import (
	"cmp"
	"context"
	"fmt"
	"regexp"
	"slices"

	"k8s.io/apimachinery/pkg/runtime/schema"

	"velero-plugin-for-kubevirt/pkg/kubevirt"
	"velero-plugin-for-kubevirt/pkg/object"
)

// A Neighbour is an object that another one refers to.
type Neighbour struct {
	kubevirt.ID
	Path     string            // the field that names it; empty when it was looked up
	Optional bool              // the referrer works without it
	Absent   bool              // the reader knows that there is no such object
	Labels   map[string]string // the object's, when the reader knows that there is one
	Unknown  error             // why the reader could not tell whether there is

	numberedIf string // as Reference.NumberedIf
}

// Neighbours returns what an item refers to directly: each object once, sorted. It is an error when a field is not of the
// type that the API says, or when a lookup could not be answered; a named object whose existence could not be checked is
// returned with the reason.
func Neighbours(ctx context.Context, resource schema.GroupResource, obj map[string]any, reader Reader) ([]Neighbour, error) {
	item := Item{resource, obj}
	neighbours, err := Named(resource, obj)
	if err != nil {
		return nil, err
	}
	if neighbours, err = numbered(ctx, item, neighbours, reader); err != nil {
		return nil, err
	}
	for _, lookup := range lookups {
		if !slices.Contains(lookup.from, resource) {
			continue
		}
		ids, err := lookup.find(ctx, item, reader)
		if err != nil {
			return nil, err
		}
		for _, id := range ids {
			neighbours = append(neighbours, Neighbour{ID: id, Optional: lookup.optional})
		}
	}
	neighbours = slices.DeleteFunc(unique(neighbours), func(n Neighbour) bool { return n.ID == item.id() })
	for i := range neighbours {
		found, err := MetadataOf(ctx, reader, neighbours[i].ID)
		neighbours[i].Absent, neighbours[i].Unknown = err == nil && found == nil, err
		if found != nil {
			neighbours[i].Labels = found.Labels
		}
	}
	return neighbours, nil
}

// Named returns what the fields of obj name, without asking anybody whether it exists.
func Named(resource schema.GroupResource, obj map[string]any) ([]Neighbour, error) {
	item := Item{resource, obj}
	finished, err := isFinished(item)
	if err != nil {
		return nil, err
	}
	var neighbours []Neighbour
	for _, reference := range references {
		prefix, embeds := reference.From[resource]
		if !embeds || (reference.OnlyUnfinished && finished) || (reference.OnlyFinished && !finished) {
			continue
		}
		if prefix == vmiSpec[resource] && prefix != "" {
			if err := require(obj, prefix); err != nil {
				return nil, err
			}
		}
		found, err := reference.find(item, prefix)
		if err != nil {
			return nil, err
		}
		neighbours = append(neighbours, found...)
	}
	return unique(neighbours), nil
}

// find returns the objects that one reference of an item names.
func (r Reference) find(item Item, prefix string) ([]Neighbour, error) {
	path := r.Path
	if prefix != "" {
		path = prefix + "." + path
	}
	names, err := object.Strings(item.Object, path)
	if err != nil {
		return nil, err
	}
	var neighbours []Neighbour
	for _, text := range names {
		id := r.id(item.namespace(), text)
		if r.OnlyUnfinished && id.Namespace != item.namespace() {
			continue
		}
		optional, _ := text.Parent[r.OptionalIf].(bool)
		neighbours = append(neighbours, Neighbour{ID: id, Path: text.Path, Optional: optional || r.Optional, numberedIf: r.NumberedIf})
	}
	return neighbours, nil
}

func (r Reference) id(namespace string, text object.Text) kubevirt.ID {
	switch r.Name {
	case clusterName:
		return kubevirt.ID{GroupResource: r.To, Name: text.Value}
	case namespacedName:
		return namespacedID(r.To, namespace, text.Value)
	case nameBesideNamespace:
		if beside, _ := text.Parent["namespace"].(string); beside != "" {
			namespace = beside
		}
	}
	return kubevirt.ID{GroupResource: r.To, Namespace: namespace, Name: text.Value}
}

// isFinished tells whether an item has all the data it is to have: only a DataVolume may not. What a VM or pool makes
// DataVolumes of counts as finished: the DataVolumes speak for themselves.
func isFinished(item Item) (bool, error) {
	if item.GroupResource != kubevirt.DataVolumes {
		return true, nil
	}
	phase, err := object.String(item.Object, "status.phase")
	return phase == "Succeeded", err
}

// numbered puts the objects that the VMs of a pool use in the place of those that the pool names: KubeVirt appends the
// VM's number to the names of DataVolumes, and of config maps and secrets if the pool says so (KubeVirt 1.9.0,
// pkg/virt-controller/watch/pool/pool.go, indexVMSpec).
func numbered(ctx context.Context, item Item, neighbours []Neighbour, reader Reader) ([]Neighbour, error) {
	if item.GroupResource != kubevirt.VirtualMachinePools {
		return neighbours, nil
	}
	made, err := object.Strings(item.Object, vmSpec[item.GroupResource]+".dataVolumeTemplates[].metadata.name")
	if err != nil {
		return nil, err
	}
	settings, err := object.Map(item.Object, "spec.nameGeneration")
	if err != nil {
		return nil, err
	}
	var result []Neighbour
	for _, n := range neighbours {
		on, _ := settings[n.numberedIf].(bool)
		isDisk := n.GroupResource == kubevirt.DataVolumes || n.GroupResource == kubevirt.PersistentVolumeClaims
		ofEach := isDisk && slices.ContainsFunc(made, func(t object.Text) bool { return t.Value == n.Name })
		switch {
		case on || ofEach:
			candidates, err := reader.List(ctx, Query{GroupResource: n.GroupResource, Namespace: n.Namespace})
			if err != nil {
				return nil, err
			}
			pattern := regexp.MustCompile("^" + regexp.QuoteMeta(n.Name) + "-[0-9]+$")
			for i := range candidates.All {
				if pattern.MatchString(candidates.All[i].Name) {
					result = append(result, Neighbour{ID: idOf(n.GroupResource, &candidates.All[i]), Path: n.Path, Optional: n.Optional})
				}
			}
		default:
			result = append(result, n)
		}
	}
	return result, nil
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
