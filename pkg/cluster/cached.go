package cluster

import (
	"context"
	"fmt"
	"reflect"
	"sync"

	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"

	"velero-plugin-for-kubevirt/pkg/graph"
	"velero-plugin-for-kubevirt/pkg/kubevirt"
)

// Cached reads from objects at hand that do not change, such as a file of many VMs: each question is answered once, an object is found by index.
type Cached struct {
	Memory
	objects map[kubevirt.ID]*unstructured.Unstructured

	mu    sync.Mutex
	lists map[graph.Query]*graph.Objects
}

// NewCached returns a reader of objects. It is an error when one of them is there in two versions: nobody knows which counts.
func NewCached(memory Memory) (*Cached, error) {
	c := &Cached{Memory: Memory{}, objects: map[kubevirt.ID]*unstructured.Unstructured{}, lists: map[graph.Query]*graph.Objects{}}
	for resource, objects := range memory {
		for _, obj := range objects {
			id := kubevirt.ID{GroupResource: resource, Namespace: obj.GetNamespace(), Name: obj.GetName()}
			switch other := c.objects[id]; {
			case other == nil:
				c.objects[id] = obj
				c.Memory[resource] = append(c.Memory[resource], obj)
			case !reflect.DeepEqual(other, obj):
				return nil, fmt.Errorf("%s is there in two versions", id)
			}
		}
	}
	return c, nil
}

// List returns the metadata of the objects that query selects.
func (c *Cached) List(ctx context.Context, query graph.Query) (*graph.Objects, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if found, asked := c.lists[query]; asked {
		return found, nil
	}
	found, err := c.Memory.List(ctx, query)
	if err == nil {
		c.lists[query] = found
	}
	return found, err
}

// Get returns the whole object, nil when there is none.
func (c *Cached) Get(_ context.Context, id kubevirt.ID) (map[string]any, error) {
	if obj := c.objects[id]; obj != nil {
		return obj.Object, nil
	}
	return nil, nil
}
