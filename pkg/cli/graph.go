package cli

import (
	"errors"
	"fmt"
	"io"
	"strings"

	"github.com/spf13/cobra"

	"velero-plugin-for-kubevirt/pkg/graph"
	"velero-plugin-for-kubevirt/pkg/kubevirt"
)

// A whole is an object with all that it leads to.
type whole struct {
	root    kubevirt.ID
	nodes   []graph.Node
	volumes map[string]string // as volumesOf
}

// formats are the outputs of the graph command; a picture is of one object.
var formats = map[string]func(io.Writer, []whole) error{
	"tree": printTrees, "table": printWholes, "wide": printNodes, "name": printNames, "json": printJSON, "yaml": printYAML,
	"svg": ofOne(printSVG), "mermaid": ofOne(printMermaid), "dot": ofOne(printDOT),
}

func ofOne(draw func(io.Writer, whole) error) func(io.Writer, []whole) error {
	return func(out io.Writer, wholes []whole) error {
		if len(wholes) != 1 {
			return fmt.Errorf("a picture is of one object, and these are %d: name one", len(wholes))
		}
		return draw(out, wholes[0])
	}
}

func newGraph() *cobra.Command {
	var in input
	var output *format
	cmd := &cobra.Command{
		Use:   "graph [KIND/NAME ...]",
		Short: "Show what a VM depends on",
		Long: `Show what a VM depends on: everything that a backup of it takes along, and what is not there.

KIND is vm, vmi, vmirs, vmpool, dv or pvc; without names it is all VMs. The objects are read from the cluster, or from
files (-f): YAML or JSON as "kubectl get -o yaml" prints it, folders of it, or a Velero backup file.

Something may not be there without being missing: it is "not here, not needed", or "will be made" by KubeVirt or CDI.

-o table has a line for each VM, wide one for each object. svg, mermaid and dot are pictures of one VM.

Exit code: 0 when everything that is needed is there, 1 when something is missing or malformed, 2 when that could not be
found out.`,
		Example: `  velero-plugin-for-kubevirt graph vm/web -n shop
  velero-plugin-for-kubevirt graph -A -o table
  velero-plugin-for-kubevirt graph vm/web -n shop -o svg > web.svg
  velero-plugin-for-kubevirt graph -f vm.yaml
  kubectl get ` + kindsToGet + ` -n shop -o yaml | velero-plugin-for-kubevirt graph vm/web -f -
  velero backup download nightly && velero-plugin-for-kubevirt graph vm/web -n shop -f nightly-data.tar.gz`,
		RunE: func(cmd *cobra.Command, args []string) error {
			wholes, err := in.walk(cmd, args)
			if err != nil {
				return err
			}
			if err := formats[output.value](cmd.OutOrStdout(), wholes); err != nil {
				return err
			}
			return verdict(wholes)
		},
	}
	in.addTo(cmd.Flags())
	output = formatFlag(cmd.Flags(), "tree", "table", "wide", "name", "json", "yaml", "svg", "mermaid", "dot")
	cmd.MarkFlagsMutuallyExclusive("namespace", "all-namespaces")
	return cmd
}

// kindsToGet are those that "kubectl get" has to bring. Every cluster with KubeVirt and CDI serves them; networks of Multus are net-attach-def.
const kindsToGet = "vm,vmi,po,dv,datasources,pvc,secret,cm,sa,controllerrevisions,virtualmachineinstancetypes,virtualmachinepreferences"

// walk returns what the named objects lead to.
func (in *input) walk(cmd *cobra.Command, args []string) ([]whole, error) {
	ids, err := namesOf(args, in.givenNamespace())
	if err != nil {
		return nil, err
	}
	waiting := newProgress(cmd.ErrOrStderr())
	defer waiting.done()
	reader, err := in.open(cmd.InOrStdin())
	if err != nil {
		return nil, err
	}
	roots, err := in.roots(cmd.Context(), ids, reader)
	if err != nil {
		return nil, err
	}
	var wholes []whole
	for i, root := range roots {
		waiting.say("reading %s (%d of %d)", root, i+1, len(roots))
		nodes, err := graph.Walk(cmd.Context(), root, reader)
		if err != nil {
			return nil, err
		}
		if nodes[0].State == graph.Missing {
			return nil, in.notFound(root, nil)
		}
		wholes = append(wholes, whole{root, nodes, volumesOf(root, nodes[0].Object)})
	}
	return wholes, nil
}

// in returns the objects in one state.
func (w whole) in(state graph.State) []kubevirt.ID {
	var ids []kubevirt.ID
	for _, node := range w.nodes {
		if node.State == state {
			ids = append(ids, node.ID)
		}
	}
	return ids
}

// questions is how many could not be answered.
func (w whole) questions() int {
	open := 0
	for _, node := range w.nodes {
		open += len(node.Questions)
	}
	return open
}

// answer says in a few words whether all is there: "2 missing, 18 objects".
func (w whole) answer() string {
	var words []string
	count := func(n int, what string) {
		if n > 0 {
			words = append(words, fmt.Sprintf("%d %s", n, what))
		}
	}
	count(len(w.in(graph.Missing)), "missing")
	count(len(w.in(graph.Malformed)), "malformed")
	count(len(w.in(graph.Unknown))+w.questions(), "unknown")
	if words == nil {
		words = append(words, "complete")
	}
	count(len(w.in(graph.ToBeMade)), "will be made")
	if n := len(w.in(graph.Present)) + len(w.in(graph.Malformed)); n == 1 {
		words = append(words, "1 object")
	} else {
		count(n, "objects")
	}
	return strings.Join(words, ", ")
}

// title is what people call an object.
func title(id kubevirt.ID) string {
	if id.Namespace == "" {
		return id.Name
	}
	return id.Namespace + "/" + id.Name
}

// verdict is nil when everything that is needed is there. What is missing counts more than what is unknown.
func verdict(wholes []whole) error {
	var wrong, open []string
	for _, w := range wholes {
		for _, state := range []graph.State{graph.Missing, graph.Malformed} {
			if ids := w.in(state); len(ids) > 0 {
				wrong = append(wrong, fmt.Sprintf("%s: %d %s: %s", title(w.root), len(ids), state, listed(ids)))
			}
		}
		for _, node := range w.nodes {
			if node.State == graph.Unknown {
				open = append(open, node.Err.Error())
			}
			for _, question := range node.Questions {
				open = append(open, question.Err.Error())
			}
		}
	}
	switch {
	case len(wrong) > 0:
		return notGood(strings.Join(shortened(wrong), "\n"))
	case len(open) > 0:
		return errors.New("could not find out everything: " + strings.Join(shortened(open), "; "))
	}
	return nil
}

// shortened drops what has been said, and what nobody would read.
func shortened(texts []string) []string {
	var kept []string
	said := map[string]bool{}
	for _, text := range texts {
		if !said[text] {
			said[text] = true
			kept = append(kept, text)
		}
	}
	if more := len(kept) - atMost; more > 0 {
		kept = append(kept[:atMost], fmt.Sprintf("and %d more", more))
	}
	return kept
}
