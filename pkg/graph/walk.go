package graph

import (
	"context"
	"errors"
	"slices"
	"strings"

	"k8s.io/apimachinery/pkg/runtime/schema"

	"velero-plugin-for-kubevirt/pkg/kubevirt"
)

// A State is what is known of an object that something refers to.
type State string

// The states of an object.
const (
	Present   State = "present"
	NotNeeded State = "not needed" // it is not there, and what names it works without: Because says why
	ToBeMade  State = "will be made"
	Unknown   State = "unknown"   // nobody could tell whether it is there: Err says why
	Malformed State = "malformed" // it is there, and what it refers to cannot be read: Err says why
	Missing   State = "missing"   // it is needed and not there
)

// A Node is an object and what it refers to.
type Node struct {
	kubevirt.ID
	State      State
	Because    string
	Err        error
	Object     map[string]any // when the walk has read it: it has references
	Neighbours []Neighbour
	Questions  []Question
}

// A Question about an object could not be answered.
type Question struct {
	Text string
	Err  error
}

// Walk follows references from root on, and returns every object it comes to once, root first, in the order of a breadth-
// first walk. What it cannot find out is noted with the object; only a root that cannot be read is an error.
func Walk(ctx context.Context, root kubevirt.ID, reader Reader) ([]Node, error) {
	obj, err := reader.Get(ctx, root)
	if err != nil {
		return nil, err
	}
	if obj == nil {
		return []Node{{ID: root, State: Missing}}, nil
	}
	nodes := []Node{{ID: root, State: Present}}
	index := map[kubevirt.ID]int{root: 0}
	for i := 0; i < len(nodes); i++ {
		if err := ctx.Err(); err != nil {
			return nil, err
		}
		node := &nodes[i] // only until nodes grows
		node.look(ctx, reader)
		for _, n := range node.Neighbours {
			at, known := index[n.ID]
			if !known {
				at, index[n.ID] = len(nodes), len(nodes)
				nodes = append(nodes, Node{ID: n.ID, State: Present})
			}
			nodes[at].note(n, known)
		}
	}
	return nodes, nil
}

// look reads an object that seems to be there, and finds its neighbours.
func (n *Node) look(ctx context.Context, reader Reader) {
	if n.State != Unknown && (n.State != Present || !hasReferences(n.GroupResource)) {
		return
	}
	obj, err := reader.Get(ctx, n.ID) // who may not list may still be allowed to get
	switch {
	case err != nil:
		n.State, n.Err = Unknown, err
		return
	case obj == nil:
		n.State, n.Err = Missing, nil
		return
	}
	n.State, n.Err, n.Object = Present, nil, obj
	neighbours, _ := find(ctx, Item{n.GroupResource, obj}, reader, isFilled, func(question string, err error) error {
		switch {
		case question == "" && !mentions(n.Err, err):
			n.State, n.Err = Malformed, errors.Join(n.Err, err)
		case question != "" && !mentions(n.Err, err):
			n.Questions = append(n.Questions, Question{question, err})
		}
		return nil
	})
	n.Neighbours = slices.DeleteFunc(neighbours, func(n Neighbour) bool { return n.Absent && n.guessed })
}

// mentions tells whether an error says what another one says: many references lead through the same malformed field.
func mentions(all, one error) bool {
	return all != nil && strings.Contains(all.Error(), one.Error())
}

// note tells an object how something refers to it. Of several, the one counts that needs it most, but what will be made is not missing.
func (n *Node) note(by Neighbour, known bool) {
	state, because := Present, ""
	switch {
	case by.Unknown != nil:
		state = Unknown
	case by.Absent && by.Made:
		state, because = ToBeMade, by.Because
	case by.Absent && by.Optional:
		state, because = NotNeeded, by.Because
	case by.Absent:
		state = Missing
	}
	if !known || n.State == NotNeeded || state == ToBeMade {
		n.State, n.Because, n.Err = state, because, by.Unknown
	}
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
