package cluster

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"time"

	"golang.org/x/sync/errgroup"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/util/wait"
)

// definitions are the CustomResourceDefinitions of Velero, KubeVirt, CDI and the snapshot API. CDI's must be there
// before KubeVirt's processes start: those exit when CDI's appear later.
var definitions = part{
	name: "custom resource definitions",
	programs: []Program{
		kubeVirtManifests,
		{Name: "cdi-manifests", Module: "cdi", Package: "./manifests"},
		veleroProgram,
	},
	start: installDefinitions,
}

func installDefinitions(ctx context.Context, c *Cluster) error {
	objects, err := readDefinitions(ctx, c.builder, c.binaries)
	if err != nil {
		return err
	}
	group, groupCtx := errgroup.WithContext(ctx)
	group.SetLimit(8)
	for _, obj := range objects {
		group.Go(func() error {
			_, err := c.clients.create(groupCtx, obj)
			return err
		})
	}
	if err := group.Wait(); err != nil {
		return err
	}
	for _, obj := range objects {
		if err := c.clients.await(ctx, obj, "established", 30*time.Second, established); err != nil {
			return err
		}
	}
	// An established kind can be used at once, but is found by discovery a little later.
	for _, obj := range objects {
		kind := schema.GroupKind{Group: nestedString(obj, "spec", "group"), Kind: nestedString(obj, "spec", "names", "kind")}
		err := wait.PollUntilContextTimeout(ctx, 100*time.Millisecond, 30*time.Second, true, func(context.Context) (bool, error) {
			return c.clients.knows(kind), nil
		})
		if err != nil {
			return fmt.Errorf("waiting for %s to be discovered: %w", kind, err)
		}
	}
	return nil
}

// readDefinitions returns all definitions, from the components' own sources.
func readDefinitions(ctx context.Context, b *builder, binaries map[string]string) ([]*unstructured.Unstructured, error) {
	documents, err := snapshotDefinitions(ctx, b)
	if err != nil {
		return nil, err
	}
	documents = append(documents, []byte(networkDefinition))
	for _, printed := range []struct {
		program string
		args    []string
	}{
		{"kubevirt-manifests", []string{"--crds"}},
		{"cdi-manifests", []string{"--crds"}},
		{"velero", []string{"install", "--crds-only", "--dry-run", "-o", "yaml"}},
	} {
		document, err := b.output(ctx, binaries[printed.program], printed.program+"-crds.yaml", printed.args...)
		if err != nil {
			return nil, fmt.Errorf("printing the definitions of %s: %w", printed.program, err)
		}
		documents = append(documents, document)
	}
	var all []*unstructured.Unstructured
	for _, document := range documents {
		objects, err := decode(document)
		if err != nil {
			return nil, err
		}
		for _, obj := range objects {
			if obj.GetKind() == "CustomResourceDefinition" {
				dropDescriptions(obj.Object["spec"])
				all = append(all, obj)
			}
		}
	}
	return all, nil
}

// dropDescriptions takes out of schemas the texts for people, which are most of them. A cluster that nobody asks to explain its
// kinds is up sooner. (A field named description has a schema in its place, not a text.)
func dropDescriptions(value any) {
	switch value := value.(type) {
	case map[string]any:
		if _, isText := value["description"].(string); isText {
			delete(value, "description")
		}
		for _, child := range value {
			dropDescriptions(child)
		}
	case []any:
		for _, child := range value {
			dropDescriptions(child)
		}
	}
}

// networkDefinition is what Multus adds to a cluster, as far as the API server is concerned (the Kubernetes Network Custom
// Resource Definition De-facto Standard). Its own is only in a module with far more dependencies than these lines.
const networkDefinition = `
apiVersion: apiextensions.k8s.io/v1
kind: CustomResourceDefinition
metadata: {name: network-attachment-definitions.k8s.cni.cncf.io}
spec:
  group: k8s.cni.cncf.io
  scope: Namespaced
  names: {kind: NetworkAttachmentDefinition, plural: network-attachment-definitions, singular: network-attachment-definition}
  versions:
  - {name: v1, served: true, storage: true, schema: {openAPIV3Schema: {type: object, x-kubernetes-preserve-unknown-fields: true}}}
`

func snapshotDefinitions(ctx context.Context, b *builder) ([][]byte, error) {
	dir, err := b.moduleDir(ctx, "snapshotter", "github.com/kubernetes-csi/external-snapshotter/client/v8")
	if err != nil {
		return nil, err
	}
	files, err := filepath.Glob(filepath.Join(dir, "config", "crd", "*snapshot.storage.k8s.io_*.yaml"))
	if err == nil && len(files) == 0 {
		err = os.ErrNotExist
	}
	if err != nil {
		return nil, fmt.Errorf("finding the snapshot definitions in %s: %w", dir, err)
	}
	var documents [][]byte
	for _, file := range files {
		document, err := os.ReadFile(file)
		if err != nil {
			return nil, fmt.Errorf("reading the snapshot definitions: %w", err)
		}
		documents = append(documents, document)
	}
	return documents, nil
}

func established(definition *unstructured.Unstructured) bool {
	return conditionTrue(definition, "Established")
}

func conditionTrue(obj *unstructured.Unstructured, kind string) bool {
	conditions, _, _ := unstructured.NestedSlice(obj.Object, "status", "conditions")
	for _, item := range conditions {
		condition, _ := item.(map[string]any)
		if condition["type"] == kind && condition["status"] == "True" {
			return true
		}
	}
	return false
}
