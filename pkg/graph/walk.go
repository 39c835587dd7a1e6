package graph

import (
	"context"
	"fmt"
	"slices"

	"k8s.io/apimachinery/pkg/runtime/schema"

	"velero-plugin-for-kubevirt/pkg/kubevirt"
)

// A Node is an object and what it refers to.
type Node struct {
	kubevirt.ID
	Missing    bool // it is named, needed and not there
	Neighbours []Neighbour
}

// Walk follows references from root on, and returns every object it comes to once, root first, in the order of a breadth-
// first walk. Objects that are absent and not needed are left out.
func Walk(ctx context.Context, root kubevirt.ID, reader Reader) ([]Node, error) {
	nodes := []Node{{ID: root}}
	seen := map[kubevirt.ID]bool{root: true}
	for i := 0; i < len(nodes); i++ {
		node := &nodes[i] // only until nodes grows
		if node.Missing || !hasReferences(node.GroupResource) {
			continue
		}
		obj, err := reader.Get(ctx, node.ID)
		if err != nil {
			return nil, err
		}
		if obj == nil {
			node.Missing = true
			continue
		}
		neighbours, err := Neighbours(ctx, node.GroupResource, obj, reader)
		if err != nil {
			return nil, fmt.Errorf("%s: %w", node.ID, err)
		}
		for _, n := range neighbours {
			if n.Unknown != nil {
				return nil, n.Unknown
			}
		}
		neighbours = slices.DeleteFunc(neighbours, func(n Neighbour) bool { return n.Absent && n.Optional })
		node.Neighbours = neighbours
		for _, n := range neighbours {
			if !seen[n.ID] {
				seen[n.ID] = true
				nodes = append(nodes, Node{ID: n.ID, Missing: n.Absent})
			}
		}
	}
	return nodes, nil
}

// hasReferences tells whether the graph knows references from a resource.
func hasReferences(resource schema.GroupResource) bool {
	for _, reference := range references {
		if _, embeds := reference.From[resource]; embeds {
			return true
		}
	}
	return slices.ContainsFunc(lookups, func(l lookup) bool { return slices.Contains(l.from, resource) })
}
