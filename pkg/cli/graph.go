package cli

import (
	"fmt"
	"io"
	"os"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"velero-plugin-for-kubevirt/pkg/cluster"
	"velero-plugin-for-kubevirt/pkg/graph"
)

// formats are the outputs of the graph command.
var formats = map[string]func(io.Writer, []graph.Node) error{"tree": printTree, "json": printJSON, "dot": printDOT, "svg": printSVG}

type graphOptions struct {
	connection
	output       *format
	file, backup string
}

func newGraph() *cobra.Command {
	var o graphOptions
	cmd := &cobra.Command{
		Use:   "graph KIND/NAME",
		Short: "Show what a VM depends on",
		Long: `Show what a VM depends on: everything that a backup of it takes along.

KIND is vm, vmi, vmirs, vmpool, dv or pvc. The objects are read from the cluster, from a file of objects (-f, "-" for
standard input) or from a Velero backup file (--backup).

Exit code: 0 when everything that is needed is there, 1 when something is missing, 2 when that could not be found out.`,
		Example: `  velero-plugin-for-kubevirt graph vm/web -n shop
  velero-plugin-for-kubevirt graph vm/web -n shop -o svg > web.svg
  kubectl get vm,vmi,pod,dv,pvc,secret,cm,sa -n shop -o yaml | velero-plugin-for-kubevirt graph vm shop/web -f -
  velero backup download nightly && velero-plugin-for-kubevirt graph vm shop/web --backup nightly-data.tar.gz`,
		Args: cobra.MinimumNArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error { return o.run(cmd, args) },
	}
	flags := cmd.Flags()
	o.addTo(flags)
	o.output = formatFlag(flags, "tree", "json", "dot", "svg")
	flags.StringVarP(&o.file, "filename", "f", "", "read objects from this YAML or JSON file; - for standard input")
	flags.StringVar(&o.backup, "backup", "", "read objects from this Velero backup file (NAME-data.tar.gz)")
	cmd.MarkFlagsMutuallyExclusive("filename", "backup")
	return cmd
}

func (o *graphOptions) run(cmd *cobra.Command, args []string) error {
	ids, err := namesOf(args, o.givenNamespace())
	if err != nil {
		return err
	}
	id := ids[0]
	reader, namespace, err := o.source(cmd.InOrStdin())
	if err != nil {
		return err
	}
	if id.Namespace == "" {
		id.Namespace = namespace
	}
	nodes, err := graph.Walk(cmd.Context(), id, reader)
	if err != nil {
		return err
	}
	if err := formats[o.output.value](cmd.OutOrStdout(), nodes); err != nil {
		return err
	}
	return missing(nodes)
}

// source returns the reader that the flags ask for, and the namespace of names that have none.
func (o *graphOptions) source(stdin io.Reader) (graph.Reader, string, error) {
	switch {
	case o.backup != "":
		memory, err := readFile(o.backup, stdin, cluster.ReadBackup)
		return memory, o.givenNamespace(), err
	case o.file != "":
		memory, err := readFile(o.file, stdin, func(r io.Reader) (cluster.Memory, error) {
			objects, err := cluster.ReadObjects(r)
			return cluster.FromObjects(objects), err
		})
		return memory, o.givenNamespace(), err
	}
	reader, err := o.reader()
	if err != nil {
		return nil, "", err
	}
	namespace, err := o.namespace()
	return reader, namespace, err
}

func readFile(path string, stdin io.Reader, read func(io.Reader) (cluster.Memory, error)) (cluster.Memory, error) {
	input := stdin
	if path != "-" {
		file, err := os.Open(path)
		if err != nil {
			return nil, err
		}
		defer file.Close()
		input = file
	}
	memory, err := read(input)
	if err != nil {
		return nil, fmt.Errorf("reading %s: %w", path, err)
	}
	return memory, nil
}

// missing is an error that names what is needed and not there.
func missing(nodes []graph.Node) error {
	var names []string
	for _, node := range nodes {
		if node.Missing {
			names = append(names, node.String())
		}
	}
	if len(names) == 0 {
		return nil
	}
	slices.Sort(names)
	return notGood("missing: " + strings.Join(names, ", "))
}
