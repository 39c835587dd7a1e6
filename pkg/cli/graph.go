package cli

import (
	"errors"
	"fmt"
	"io"
	"os"
	"slices"
	"strings"

	"github.com/spf13/cobra"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/clientcmd"

	"velero-plugin-for-kubevirt/pkg/cluster"
	"velero-plugin-for-kubevirt/pkg/graph"
	"velero-plugin-for-kubevirt/pkg/kubevirt"
)

// kindNames are what a person may call the kinds that a graph can start from.
var kindNames = map[string]schema.GroupResource{
	"vm": kubevirt.VirtualMachines, "virtualmachine": kubevirt.VirtualMachines,
	"vmi": kubevirt.VirtualMachineInstances, "virtualmachineinstance": kubevirt.VirtualMachineInstances,
	"vmirs": kubevirt.VirtualMachineInstanceReplicaSets, "virtualmachineinstancereplicaset": kubevirt.VirtualMachineInstanceReplicaSets,
	"vmpool": kubevirt.VirtualMachinePools, "virtualmachinepool": kubevirt.VirtualMachinePools,
	"dv": kubevirt.DataVolumes, "datavolume": kubevirt.DataVolumes,
	"pvc": kubevirt.PersistentVolumeClaims, "persistentvolumeclaim": kubevirt.PersistentVolumeClaims,
}

// formats are the outputs of the graph command.
var formats = map[string]func(io.Writer, []graph.Node) error{"tree": printTree, "json": printJSON, "dot": printDOT, "svg": printSVG}

type graphOptions struct {
	namespace, output, file, backup string
	kubeconfig, context             string
}

func newGraph() *cobra.Command {
	var o graphOptions
	cmd := &cobra.Command{
		Use:   "graph KIND [NAMESPACE/]NAME",
		Short: "Show what a VM depends on",
		Long: `Show what a VM depends on: everything that a backup of it takes along.

KIND is vm, vmi, vmirs, vmpool, dv or pvc. The objects are read from the cluster, from a file of objects (-f, "-" for
standard input) or from a Velero backup file (--backup).

Exit code: 0 when everything that is needed is there, 1 when something is missing or could not be read.`,
		Example: `  velero-plugin-for-kubevirt graph vm shop/web
  velero-plugin-for-kubevirt graph vm shop/web -o svg > web.svg
  kubectl get vm,vmi,pod,dv,pvc,secret,cm,sa -n shop -o yaml | velero-plugin-for-kubevirt graph vm shop/web -f -
  velero backup download nightly && velero-plugin-for-kubevirt graph vm shop/web --backup nightly-data.tar.gz`,
		Args: cobra.ExactArgs(2),
		RunE: func(cmd *cobra.Command, args []string) error { return o.run(cmd, args[0], args[1]) },
	}
	flags := cmd.Flags()
	flags.StringVarP(&o.namespace, "namespace", "n", "", "the namespace, if NAME does not say it (default: that of the kubeconfig)")
	flags.StringVarP(&o.output, "output", "o", "tree", "tree, json, dot or svg")
	flags.StringVarP(&o.file, "filename", "f", "", "read objects from this YAML or JSON file; - for standard input")
	flags.StringVar(&o.backup, "backup", "", "read objects from this Velero backup file (NAME-data.tar.gz)")
	flags.StringVar(&o.kubeconfig, "kubeconfig", "", "the kubeconfig of the cluster (default: KUBECONFIG, then ~/.kube/config)")
	flags.StringVar(&o.context, "context", "", "the kubeconfig's context")
	cmd.MarkFlagsMutuallyExclusive("filename", "backup")
	return cmd
}

func (o graphOptions) run(cmd *cobra.Command, kind, name string) error {
	resource, known := kindNames[strings.TrimSuffix(strings.ToLower(kind), "s")]
	if !known {
		resource, known = kindNames[strings.ToLower(kind)] // vmirs ends in s
	}
	if !known {
		return fmt.Errorf("unknown kind %q: want vm, vmi, vmirs, vmpool, dv or pvc", kind)
	}
	show, known := formats[o.output]
	if !known {
		return fmt.Errorf("unknown output %q: want tree, json, dot or svg", o.output)
	}
	reader, namespace, err := o.source(cmd.InOrStdin())
	if err != nil {
		return err
	}
	if before, after, found := strings.Cut(name, "/"); found {
		namespace, name = before, after
	}
	nodes, err := graph.Walk(cmd.Context(), kubevirt.ID{GroupResource: resource, Namespace: namespace, Name: name}, reader)
	if err != nil {
		return err
	}
	if err := show(cmd.OutOrStdout(), nodes); err != nil {
		return err
	}
	return missing(nodes)
}

// source returns the reader that the flags ask for, and the namespace of names that have none.
func (o graphOptions) source(stdin io.Reader) (graph.Reader, string, error) {
	switch {
	case o.backup != "":
		memory, err := readFile(o.backup, stdin, cluster.ReadBackup)
		return memory, o.namespace, err
	case o.file != "":
		memory, err := readFile(o.file, stdin, func(r io.Reader) (cluster.Memory, error) {
			objects, err := cluster.ReadObjects(r)
			return cluster.FromObjects(objects), err
		})
		return memory, o.namespace, err
	}
	rules := clientcmd.NewDefaultClientConfigLoadingRules()
	rules.ExplicitPath = o.kubeconfig
	loader := clientcmd.NewNonInteractiveDeferredLoadingClientConfig(rules, &clientcmd.ConfigOverrides{CurrentContext: o.context})
	config, err := loader.ClientConfig()
	if err != nil {
		return nil, "", fmt.Errorf("finding the cluster: %w", err)
	}
	namespace := o.namespace
	if namespace == "" {
		if namespace, _, err = loader.Namespace(); err != nil {
			return nil, "", fmt.Errorf("finding the namespace: %w", err)
		}
	}
	reader, err := cluster.NewLive(rest.AddUserAgent(config, "velero-plugin-for-kubevirt"))
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
	return errors.New("missing: " + strings.Join(names, ", "))
}
