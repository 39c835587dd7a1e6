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
	Relation string            // what it is to the referrer, when it was looked up
	Optional bool              // the referrer works without it
	Because  string            // why it does
	Made     bool              // there is none yet, and KubeVirt or CDI makes it
	Absent   bool              // the reader knows that there is no such object
	Labels   map[string]string // the object's, when the reader knows that there is one
	Unknown  error             // why the reader could not tell whether there is

	guessed    bool   // as Reference.Guessed
	numberedIf string // as Reference.NumberedIf
}

// Neighbours returns what an item refers to directly: each object once, sorted. It is an error when a field is not of the
// type that the API says, or when a lookup could not be answered; a named object whose existence could not be checked is
// returned with the reason.
func Neighbours(ctx context.Context, resource schema.GroupResource, obj map[string]any, reader Reader) ([]Neighbour, error) {
	return find(ctx, Item{resource, obj}, reader, isFinished, func(_ string, err error) error { return err })
}

// find returns the neighbours of an item. What it cannot find out it tells failed, with the question – "" for a field of the item – and goes on
// unless that returns an error. Finished tells whether the item has all its data.
func find(ctx context.Context, item Item, reader Reader, finished func(Item) (bool, error), failed func(question string, err error) error) ([]Neighbour, error) {
	neighbours, err := named(item, finished, func(err error) error { return failed("", err) })
	if err != nil {
		return nil, err
	}
	if neighbours, err = numbered(ctx, item, neighbours, reader); err != nil {
		if err := failed("which of the objects that it names its VMs use, by their numbers", err); err != nil {
			return nil, err
		}
	}
	for _, lookup := range lookups {
		if !slices.Contains(lookup.from, item.GroupResource) {
			continue
		}
		found, err := lookup.find(ctx, item, reader)
		if err != nil {
			if err := failed(lookup.why, err); err != nil {
				return nil, err
			}
		}
		for _, n := range found {
			n.Relation = cmp.Or(n.Relation, lookup.relation)
			if lookup.optional != "" {
				n.Optional, n.Because = true, lookup.optional
			}
			neighbours = append(neighbours, n)
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
	if item.GroupResource == kubevirt.VirtualMachines {
		if err := expectMade(ctx, item, neighbours, reader); err != nil {
			return neighbours, failed("which of the disks that are not there will be made", err)
		}
	}
	return neighbours, nil
}

// Named returns what the fields of obj name, without asking anybody whether it exists.
func Named(resource schema.GroupResource, obj map[string]any) ([]Neighbour, error) {
	neighbours, err := named(Item{resource, obj}, isFinished, func(err error) error { return err })
	return unique(neighbours), err
}

func named(item Item, isFinished func(Item) (bool, error), failed func(error) error) ([]Neighbour, error) {
	finished, err := isFinished(item)
	if err != nil {
		if err := failed(err); err != nil {
			return nil, err
		}
	}
	if prefix := vmiSpec[item.GroupResource]; prefix != "" {
		if err := require(item.Object, prefix); err != nil {
			return nil, failed(err)
		}
	}
	var neighbours []Neighbour
	for _, reference := range references {
		prefix, embeds := reference.From[item.GroupResource]
		if !embeds || (reference.OnlyUnfinished && finished) || (reference.OnlyFinished && !finished) {
			continue
		}
		found, err := reference.find(item, prefix, finished)
		if err != nil {
			if err := failed(err); err != nil {
				return nil, err
			}
		}
		neighbours = append(neighbours, found...)
	}
	return neighbours, nil
}

// find returns the objects that one reference of an item names.
func (r Reference) find(item Item, prefix string, finished bool) ([]Neighbour, error) {
	path := r.Path
	if prefix != "" {
		path = prefix + "." + path
	}
	names, err := object.Strings(item.Object, path)
	if err != nil {
		return nil, err
	}
	because := r.Optional
	if finished {
		because = cmp.Or(because, r.UntilFilled)
	}
	var neighbours []Neighbour
	for _, text := range names {
		id := r.id(item.namespace(), text)
		if r.OnlyUnfinished && id.Namespace != item.namespace() {
			continue
		}
		n := Neighbour{ID: id, Path: text.Path, Optional: because != "", Because: because, guessed: r.Guessed, numberedIf: r.NumberedIf}
		if optional, _ := text.Parent[r.OptionalIf].(bool); optional {
			n.Optional, n.Because = true, "its reference says "+r.OptionalIf
		}
		neighbours = append(neighbours, n)
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
					n.ID = idOf(n.GroupResource, &candidates.All[i])
					result = append(result, n)
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

// unique keeps one neighbour per object, the one that is needed most, and sorts. What has no name, as in "shop/", is no object.
func unique(neighbours []Neighbour) []Neighbour {
	neighbours = slices.DeleteFunc(neighbours, func(n Neighbour) bool { return n.Name == "" })
	slices.SortStableFunc(neighbours, func(a, b Neighbour) int {
		return cmp.Or(
			cmp.Compare(a.Group, b.Group), cmp.Compare(a.Resource, b.Resource),
			cmp.Compare(a.Namespace, b.Namespace), cmp.Compare(a.Name, b.Name),
			compareBool(a.Optional, b.Optional), compareBool(a.guessed, b.guessed),
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
