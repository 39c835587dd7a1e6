package cli

import (
	"encoding/json"
	"fmt"
	"io"

	"velero-plugin-for-kubevirt/pkg/graph"
	"velero-plugin-for-kubevirt/pkg/kubevirt"
)

// printTree prints each object below the first that refers to it.
func printTree(out io.Writer, nodes []graph.Node) error {
	t := tree{out: out, nodes: map[kubevirt.ID]graph.Node{}, printed: map[kubevirt.ID]bool{}, home: nodes[0].Namespace}
	for _, node := range nodes {
		t.nodes[node.ID] = node
	}
	t.line("", nodes[0], "")
	t.printed[nodes[0].ID] = true
	t.children("", nodes[0])
	return t.err
}

type tree struct {
	out     io.Writer
	nodes   map[kubevirt.ID]graph.Node
	printed map[kubevirt.ID]bool
	home    string // the namespace that goes without saying
	err     error
}

func (t *tree) children(indent string, node graph.Node) {
	var fresh []graph.Neighbour
	for _, neighbour := range node.Neighbours {
		if !t.printed[neighbour.ID] {
			t.printed[neighbour.ID] = true
			fresh = append(fresh, neighbour)
		}
	}
	for i, neighbour := range fresh {
		branch, below := "├── ", "│   "
		if i == len(fresh)-1 {
			branch, below = "└── ", "    "
		}
		child := t.nodes[neighbour.ID]
		t.line(indent+branch, child, neighbour.Path)
		t.children(indent+below, child)
	}
}

func (t *tree) line(indent string, node graph.Node, path string) {
	note := ""
	if path != "" {
		note = "  (" + path + ")"
	}
	if node.Missing {
		note += "  MISSING"
	}
	if _, err := fmt.Fprintf(t.out, "%s%s%s\n", indent, label(node.ID, t.home), note); t.err == nil {
		t.err = err
	}
}

// label is how people write an object: resource/name, with its namespace where that is not the usual one.
func label(id kubevirt.ID, home string) string {
	if id.Namespace == "" || id.Namespace == home {
		return id.Resource + "/" + id.Name
	}
	return id.Resource + "/" + id.Name + " in " + id.Namespace
}

// What the json output has for an object, and for a reference.
type (
	jsonNode struct {
		jsonID
		Missing    bool            `json:"missing,omitempty"`
		References []jsonReference `json:"references,omitempty"`
	}
	jsonReference struct {
		jsonID
		Field    string `json:"field,omitempty"`
		Optional bool   `json:"optional,omitempty"`
	}
	jsonID struct {
		Group     string `json:"group,omitempty"`
		Resource  string `json:"resource"`
		Namespace string `json:"namespace,omitempty"`
		Name      string `json:"name"`
	}
)

func toJSON(id kubevirt.ID) jsonID { return jsonID{id.Group, id.Resource, id.Namespace, id.Name} }

func printJSON(out io.Writer, nodes []graph.Node) error {
	list := []jsonNode{}
	for _, node := range nodes {
		entry := jsonNode{jsonID: toJSON(node.ID), Missing: node.Missing}
		for _, n := range node.Neighbours {
			entry.References = append(entry.References, jsonReference{toJSON(n.ID), n.Path, n.Optional})
		}
		list = append(list, entry)
	}
	encoder := json.NewEncoder(out)
	encoder.SetIndent("", "  ")
	return encoder.Encode(list)
}

// printDOT prints the graph for Graphviz.
func printDOT(out io.Writer, nodes []graph.Node) error {
	if _, err := fmt.Fprintln(out, "digraph {\n  rankdir=LR\n  node [shape=box, style=rounded]"); err != nil {
		return err
	}
	home := nodes[0].Namespace
	for _, node := range nodes {
		color := ""
		if node.Missing {
			color = ", color=red, fontcolor=red"
		}
		fmt.Fprintf(out, "  %q [label=%q%s]\n", node.ID, label(node.ID, home), color)
	}
	for _, node := range nodes {
		for _, n := range node.Neighbours {
			fmt.Fprintf(out, "  %q -> %q\n", node.ID, n.ID)
		}
	}
	_, err := fmt.Fprintln(out, "}")
	return err
}
