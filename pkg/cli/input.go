package cli

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/spf13/pflag"
	"k8s.io/apimachinery/pkg/runtime/schema"

	"velero-plugin-for-kubevirt/pkg/cluster"
	"velero-plugin-for-kubevirt/pkg/graph"
	"velero-plugin-for-kubevirt/pkg/kubevirt"
)

// An input is where a command reads objects: files, when some are given, else the cluster.
type input struct {
	connection
	files         []string
	recursive     bool
	allNamespaces bool
	selector      string
}

func (in *input) addTo(flags *pflag.FlagSet) {
	in.connection.addTo(flags)
	flags.StringArrayVarP(&in.files, "filename", "f", nil, "read objects from this YAML or JSON file, folder of such, or Velero backup file; - for standard input; may be repeated")
	flags.StringArrayVar(&in.files, "backup", nil, "the same, for a Velero backup file (NAME-data.tar.gz)")
	flags.BoolVarP(&in.recursive, "recursive", "R", false, "read the folders of a folder, too")
	flags.BoolVarP(&in.allNamespaces, "all-namespaces", "A", false, "all that is in any namespace")
	flags.StringVarP(&in.selector, "selector", "l", "", "only what has these labels, such as app=web")
}

// open returns a reader of the files or of the cluster.
func (in *input) open(stdin io.Reader) (graph.Reader, error) {
	if len(in.files) == 0 {
		return in.reader()
	}
	all := cluster.Memory{}
	for _, name := range in.files {
		paths, err := in.expand(name)
		if err != nil {
			return nil, err
		}
		for _, path := range paths {
			memory, err := readFile(path, stdin)
			if err != nil {
				return nil, fmt.Errorf("reading %s: %w", path, err)
			}
			for resource, objects := range memory {
				all[resource] = append(all[resource], objects...)
			}
		}
	}
	if len(all) == 0 {
		return nil, fmt.Errorf("reading %s: no objects", in.from())
	}
	in.fillNamespaces(all)
	reader, err := cluster.NewCached(all)
	if err != nil {
		return nil, fmt.Errorf("reading %s: %w", in.from(), err)
	}
	return reader, nil
}

// from names the files, for people.
func (in *input) from() string { return strings.Join(in.files, ", ") }

// expand returns the files of a folder that kubectl reads, and a file as it is.
func (in *input) expand(name string) ([]string, error) {
	info, err := os.Stat(name)
	if name == "-" || err == nil && !info.IsDir() {
		return []string{name}, nil
	}
	if err != nil {
		return nil, err
	}
	var paths []string
	err = filepath.WalkDir(name, func(path string, entry os.DirEntry, err error) error {
		switch {
		case err != nil:
			return err
		case entry.IsDir() && path != name && !in.recursive:
			return filepath.SkipDir
		case !entry.IsDir() && slices.Contains([]string{".yaml", ".yml", ".json"}, filepath.Ext(path)):
			paths = append(paths, path)
		}
		return nil
	})
	if err == nil && len(paths) == 0 {
		err = fmt.Errorf("reading %s: no .yaml, .yml or .json files in this folder", name)
	}
	return paths, err
}

func readFile(path string, stdin io.Reader) (cluster.Memory, error) {
	if path == "-" {
		return cluster.Read(stdin)
	}
	file, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer file.Close()
	return cluster.Read(file)
}

// fillNamespaces puts objects without a namespace into that of the flag, where "kubectl apply" would put them.
func (in *input) fillNamespaces(memory cluster.Memory) {
	for resource, objects := range memory {
		if in.givenNamespace() == "" || resource == kubevirt.PriorityClasses || slices.Contains(kubevirt.SharedTypes, resource) {
			continue
		}
		for _, obj := range objects {
			if obj.GetNamespace() == "" {
				obj.SetNamespace(in.givenNamespace())
			}
		}
	}
}

// roots returns the objects that a person named; all VMs when nobody named any.
func (in *input) roots(ctx context.Context, ids []kubevirt.ID, reader graph.Reader) ([]kubevirt.ID, error) {
	if ids == nil {
		ids = []kubevirt.ID{{GroupResource: kubevirt.VirtualMachines, Namespace: in.givenNamespace()}}
	}
	var roots []kubevirt.ID
	for _, id := range ids {
		found, err := in.find(ctx, id, reader)
		if err != nil {
			return nil, err
		}
		roots = append(roots, found...)
	}
	return roots, nil
}

// find returns the object that a person named, or all of a kind when there is no name.
func (in *input) find(ctx context.Context, id kubevirt.ID, reader graph.Reader) ([]kubevirt.ID, error) {
	live, isLive := reader.(*cluster.Live)
	if isLive {
		if served, err := live.Serves(id.GroupResource); err != nil || !served {
			return nil, unserved(id.GroupResource, err)
		}
	}
	switch {
	case id.Name != "" && (in.allNamespaces || in.selector != ""):
		return nil, fmt.Errorf("%s is named: --all-namespaces and --selector are for what is not", id.Name)
	case id.Namespace == "" && isLive && !in.allNamespaces:
		namespace, err := in.namespace()
		if err != nil {
			return nil, err
		}
		id.Namespace = namespace
	}
	query := graph.Query{GroupResource: id.GroupResource, Namespace: id.Namespace, Labels: in.selector}
	if id.Name != "" && isLive {
		return []kubevirt.ID{id}, nil // who may not list may still be allowed to get
	}
	list, err := reader.List(ctx, query)
	if err != nil {
		return nil, err
	}
	var found, others []kubevirt.ID
	for i := range list.All {
		other := kubevirt.ID{GroupResource: id.GroupResource, Namespace: list.All[i].Namespace, Name: list.All[i].Name}
		if others = append(others, other); id.Name == "" || id.Name == other.Name {
			found = append(found, other)
		}
	}
	switch {
	case len(found) == 0:
		return nil, in.notFound(id, others)
	case id.Name != "" && len(found) > 1:
		return nil, fmt.Errorf("%s is in several namespaces: say which with --namespace: %s", id.Name, listed(found))
	}
	return found, nil
}

func unserved(resource schema.GroupResource, err error) error {
	if err != nil {
		return fmt.Errorf("asking the cluster for %s: %w", resource, err)
	}
	return fmt.Errorf("this cluster does not serve %s: KubeVirt or CDI is not installed, or this is another cluster", resource)
}

// notFound says what was looked for where, and what is there instead.
func (in *input) notFound(id kubevirt.ID, others []kubevirt.ID) error {
	what := "no " + id.GroupResource.String()
	if id.Name != "" {
		what = "no " + id.String()
	}
	if id.Namespace != "" && id.Name == "" {
		what += " in namespace " + id.Namespace
	}
	if in.selector != "" {
		what += " with labels " + in.selector
	}
	if len(in.files) > 0 {
		what = in.from() + ": " + what
	}
	if len(others) > 0 {
		what += "; there is " + listed(others)
	}
	return errors.New(what)
}

// atMost is how many names a sentence has.
const atMost = 10

// listed names some objects.
func listed(ids []kubevirt.ID) string {
	var names []string
	for _, id := range ids[:min(len(ids), atMost)] {
		names = append(names, id.String())
	}
	if more := len(ids) - atMost; more > 0 {
		names = append(names, fmt.Sprintf("and %d more", more))
	}
	return strings.Join(names, ", ")
}
