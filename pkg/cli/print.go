package cli

import (
	"encoding/json"
	"fmt"
	"io"
	"strconv"
	"strings"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/yaml"

	"velero-plugin-for-kubevirt/pkg/graph"
	"velero-plugin-for-kubevirt/pkg/kubevirt"
)

// printTrees prints each object below the first that refers to it, and below each tree what is to be said of it.
func printTrees(out io.Writer, wholes []whole) error {
	for i, w := range wholes {
		if i > 0 {
			if _, err := fmt.Fprintln(out); err != nil {
				return err
			}
		}
		t := tree{out: out, nodes: map[kubevirt.ID]graph.Node{}, printed: map[kubevirt.ID]bool{}, home: w.root.Namespace}
		for _, node := range w.nodes {
			t.nodes[node.ID] = node
		}
		t.line("", label(w.root, t.home), note(w.nodes[0]))
		t.printed[w.root] = true
		t.children("", w.nodes[0])
		t.line("", "", "")
		if t.line("", title(w.root)+": "+w.answer(), ""); t.err != nil {
			return t.err
		}
	}
	return nil
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
	last := len(fresh) + len(node.Questions) - 1
	branches := func(i int) (string, string) {
		if i == last {
			return "└── ", "    "
		}
		return "├── ", "│   "
	}
	for i, neighbour := range fresh {
		branch, below := branches(i)
		child := t.nodes[neighbour.ID]
		notes := note(child)
		if reason := reason(neighbour); reason != "" {
			notes = "  (" + reason + ")" + notes
		}
		t.line(indent+branch, label(child.ID, t.home), notes)
		t.children(indent+below, child)
	}
	for i, question := range node.Questions {
		branch, _ := branches(len(fresh) + i)
		t.line(indent+branch, question.Text, "  unknown: "+short(question.Err))
	}
}

func (t *tree) line(indent, text, note string) {
	if _, err := fmt.Fprintln(t.out, printable(indent+text+note)); t.err == nil {
		t.err = err
	}
}

// reason is why something refers to an object.
func reason(n graph.Neighbour) string {
	if n.Path != "" {
		return n.Path
	}
	return n.Relation
}

// note says what is special about an object.
func note(node graph.Node) string {
	switch node.State {
	case graph.Missing:
		return "  MISSING"
	case graph.NotNeeded:
		return "  not here, not needed: " + node.Because
	case graph.ToBeMade:
		return "  will be made: " + node.Because
	case graph.Unknown:
		return "  unknown: " + short(node.Err)
	case graph.Malformed:
		return "  MALFORMED: " + short(node.Err)
	}
	return ""
}

// short is an error in a word or two; the whole error is said once, at the end.
func short(err error) string {
	if reason := apierrors.ReasonForError(err); reason == metav1.StatusReasonForbidden || reason == metav1.StatusReasonUnauthorized {
		return strings.ToLower(string(reason))
	}
	return strings.ReplaceAll(err.Error(), "\n", "; ")
}

// label is how people write an object: resource/name, with its namespace where that is not the usual one.
func label(id kubevirt.ID, home string) string {
	if id.Namespace == "" || id.Namespace == home {
		return id.Resource + "/" + id.Name
	}
	return id.Resource + "/" + id.Name + " in " + id.Namespace
}

// printWholes prints a row for each object that was asked for.
func printWholes(out io.Writer, wholes []whole) error {
	var rows [][]string
	for _, w := range wholes {
		rows = append(rows, []string{w.root.Namespace, w.root.Resource + "/" + w.root.Name, strconv.Itoa(len(w.in(graph.Present))), w.answer(), listed(w.in(graph.Missing))})
	}
	return printTable(out, []string{"NAMESPACE", "NAME", "OBJECTS", "ANSWER", "MISSING"}, rows)
}

// printNodes prints a row for each object that one leads to.
func printNodes(out io.Writer, wholes []whole) error {
	var rows [][]string
	for _, w := range wholes {
		by := w.namedBy()
		for _, node := range w.nodes {
			from := by[node.ID]
			rows = append(rows, []string{w.root.Name, node.Namespace, node.Resource + "/" + node.Name, string(node.State), from.from, from.reason, strings.TrimSpace(note(node))})
			for _, question := range node.Questions {
				rows = append(rows, []string{w.root.Name, node.Namespace, "?", string(graph.Unknown), node.Resource + "/" + node.Name, question.Text, short(question.Err)})
			}
		}
	}
	return printTable(out, []string{"OF", "NAMESPACE", "OBJECT", "STATE", "NAMED BY", "WHERE", "NOTE"}, rows)
}

// A mention is what names an object first, and where.
type mention struct{ from, reason string }

func (w whole) namedBy() map[kubevirt.ID]mention {
	by := map[kubevirt.ID]mention{}
	for _, node := range w.nodes {
		for _, n := range node.Neighbours {
			if _, known := by[n.ID]; !known {
				by[n.ID] = mention{node.Resource + "/" + node.Name, reason(n)}
			}
		}
	}
	return by
}

// printNames prints what is there, as "kubectl get -o name" does.
func printNames(out io.Writer, wholes []whole) error {
	printed := map[kubevirt.ID]bool{}
	for _, w := range wholes {
		for _, id := range w.in(graph.Present) {
			if printed[id] {
				continue
			}
			printed[id] = true
			if _, err := fmt.Fprintln(out, printable(id.GroupResource.String()+"/"+id.Name)); err != nil {
				return err
			}
		}
	}
	return nil
}

// What the json output has for what was asked for, for an object, and for a reference.
type (
	jsonWhole struct {
		jsonID
		Answer  string     `json:"answer"`
		Objects []jsonNode `json:"objects"`
	}
	jsonNode struct {
		jsonID
		State      graph.State     `json:"state"`
		Because    string          `json:"because,omitempty"`
		Error      string          `json:"error,omitempty"`
		References []jsonReference `json:"references,omitempty"`
		Unanswered []jsonQuestion  `json:"unanswered,omitempty"`
	}
	jsonReference struct {
		jsonID
		Field    string `json:"field,omitempty"`
		Relation string `json:"relation,omitempty"`
		Optional bool   `json:"optional,omitempty"`
	}
	jsonQuestion struct {
		Question string `json:"question"`
		Error    string `json:"error"`
	}
	jsonID struct {
		Group     string `json:"group,omitempty"`
		Resource  string `json:"resource"`
		Namespace string `json:"namespace,omitempty"`
		Name      string `json:"name"`
	}
)

func toJSON(id kubevirt.ID) jsonID { return jsonID{id.Group, id.Resource, id.Namespace, id.Name} }

func jsonOf(wholes []whole) []jsonWhole {
	list := []jsonWhole{}
	for _, w := range wholes {
		entry := jsonWhole{jsonID: toJSON(w.root), Answer: w.answer()}
		for _, node := range w.nodes {
			object := jsonNode{jsonID: toJSON(node.ID), State: node.State, Because: node.Because}
			if node.Err != nil {
				object.Error = node.Err.Error()
			}
			for _, n := range node.Neighbours {
				object.References = append(object.References, jsonReference{toJSON(n.ID), n.Path, n.Relation, n.Optional})
			}
			for _, question := range node.Questions {
				object.Unanswered = append(object.Unanswered, jsonQuestion{question.Text, question.Err.Error()})
			}
			entry.Objects = append(entry.Objects, object)
		}
		list = append(list, entry)
	}
	return list
}

func printJSON(out io.Writer, wholes []whole) error {
	encoder := json.NewEncoder(out)
	encoder.SetIndent("", "  ")
	return encoder.Encode(jsonOf(wholes))
}

func printYAML(out io.Writer, wholes []whole) error {
	text, err := yaml.Marshal(jsonOf(wholes))
	if err == nil {
		_, err = out.Write(text)
	}
	return err
}
