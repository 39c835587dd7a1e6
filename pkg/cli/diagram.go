package cli

import (
	"fmt"
	"io"
	"strings"

	"velero-plugin-for-kubevirt/pkg/graph"
)

// printMermaid prints a diagram for READMEs and issues: GitHub draws it.
func printMermaid(out io.Writer, w whole) error {
	cards, arrows := w.cards()
	names := map[*card]string{}
	var b strings.Builder
	b.WriteString("---\ntitle: " + mermaidText(title(w.root)+" – "+w.answer()) + "\n---\nflowchart LR\n")
	box := func(c *card) {
		names[c] = fmt.Sprintf("n%d", len(names))
		text := mermaidText(c.kind) + "<br/>" + mermaidText(c.name)
		if c.detail != "" {
			text += "<br/>" + mermaidText(c.detail)
		}
		fmt.Fprintf(&b, "  %s[\"%s\"]:::%s\n", names[c], text, c.sort.class)
	}
	box(cards[0])
	for members := range grouped(cards[1:]) {
		fmt.Fprintf(&b, "  subgraph g%s [\"%s\"]\n", members[0].sort.class, members[0].sort.title)
		for _, c := range members {
			box(c)
		}
		b.WriteString("  end\n")
	}
	for _, a := range arrows {
		if a.to.from == a.from { // what others refer to as well would hide the rest
			fmt.Fprintf(&b, "  %s -->|\"%s\"| %s\n", names[a.from], mermaidText(a.reason), names[a.to])
		}
	}
	for _, colour := range looks[0].Colours {
		fmt.Fprintf(&b, "  classDef %s stroke:%s,stroke-width:2px\n", colour.Class, colour.Strong)
	}
	_, err := io.WriteString(out, b.String())
	return err
}

// mermaidText writes what has a meaning in a diagram as an entity.
func mermaidText(text string) string {
	return strings.NewReplacer("#", "#35;", `"`, "#quot;", "<", "#lt;", ">", "#gt;", "`", "#96;", ";", "#59;").Replace(printable(text))
}

// printDOT prints the graph for Graphviz, object by object.
func printDOT(out io.Writer, w whole) error {
	var b strings.Builder
	fmt.Fprintf(&b, "digraph {\n  rankdir=LR\n  label=%s\n  labelloc=t\n  node [shape=box, style=rounded]\n", dotText(title(w.root)+" – "+w.answer()))
	for _, node := range w.nodes {
		look := map[graph.State]string{graph.Missing: ", color=red, fontcolor=red", graph.Malformed: ", color=red, fontcolor=red",
			graph.NotNeeded: ", style=\"rounded,dashed\"", graph.ToBeMade: ", style=\"rounded,dashed\"", graph.Unknown: ", color=orange"}[node.State]
		fmt.Fprintf(&b, "  %s [label=%s%s]\n", dotText(node.String()), dotText(label(node.ID, w.root.Namespace)+note(node)), look)
	}
	for _, node := range w.nodes {
		for _, n := range node.Neighbours {
			fmt.Fprintf(&b, "  %s -> %s [label=%s]\n", dotText(node.String()), dotText(n.String()), dotText(w.reason(n)))
		}
	}
	b.WriteString("}\n")
	_, err := io.WriteString(out, b.String())
	return err
}

// dotText quotes a text as Graphviz does.
func dotText(text string) string {
	return `"` + strings.NewReplacer(`\`, `\\`, `"`, `\"`).Replace(printable(text)) + `"`
}
