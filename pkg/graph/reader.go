package graph

import (
	"context"

	"k8s.io/apimachinery/pkg/runtime/schema"

	"velero-plugin-for-kubevirt/pkg/kubevirt"
)

// A Query selects objects of one resource, by labels and fields as the Kubernetes API has them.
type Query struct {
	schema.GroupResource
	Namespace string // empty for all namespaces, and for cluster-scoped resources
	Labels    string
	Fields    string
}

// ListsForRunningVM returns the queries that a running VM in a namespace leads to. Its VMI and pods lead to all VMs besides.
func ListsForRunningVM(namespace string) []Query {
	queries := []Query{activePods(namespace)}
	for _, resource := range []schema.GroupResource{
		kubevirt.VirtualMachineInstances, kubevirt.VirtualMachineInstancePresets,
		kubevirt.DataVolumes, kubevirt.PersistentVolumeClaims, kubevirt.Secrets,
	} {
		queries = append(queries, Query{GroupResource: resource, Namespace: namespace})
	}
	return queries
}

// A Reader answers with what exists: in a live cluster, in files or in memory. An error means that it does not know;
// nothing found is no error.
type Reader interface {
	// List returns the metadata of the objects that query selects; managed fields may be missing, and annotations of all but pods.
	List(ctx context.Context, query Query) (*Objects, error)
	// Each calls visit with every whole object of a resource, in all namespaces, page by page: for what metadata does not
	// tell. An error of visit ends it.
	Each(ctx context.Context, resource schema.GroupResource, visit func(obj map[string]any) error) error
	// Get returns the whole object, nil when there is none. Callers must not change it.
	Get(ctx context.Context, id kubevirt.ID) (map[string]any, error)
}
