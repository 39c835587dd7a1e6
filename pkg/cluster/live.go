// Package cluster answers what exists: live from the API server, or from objects in memory.
package cluster

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"sync"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/client-go/discovery"
	"k8s.io/client-go/discovery/cached/memory"
	"k8s.io/client-go/dynamic"
	"k8s.io/client-go/metadata"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/restmapper"
	virtv1 "kubevirt.io/api/core/v1"

	"velero-plugin-for-kubevirt/pkg/graph"
	"velero-plugin-for-kubevirt/pkg/kubevirt"
)

// errAbsent says that an object is not there. This is not kept: a restore may bring the object.
var errAbsent = errors.New("not found")

// pageSize is how many objects one request asks for: what kubectl uses.
const pageSize = 500

// Live reads from an API server. It makes each request once and keeps the answer, so an answer may be as old as the backup: Velero starts a plugin process for
// each backup and restore. It is safe for parallel use.
type Live struct {
	lists   metadata.Interface
	objects dynamic.Interface
	watches dynamic.Interface // without a limit of time
	raw     rest.Interface
	config  *rest.Config
	mapper  meta.RESTMapper // knows in which version a resource is served

	// Discovery is what the server serves, asked for once.
	Discovery discovery.AggregatedDiscoveryInterface

	mu      sync.Mutex
	answers map[any]any // by Query or ID
}

// NewLive returns a reader of the cluster that config points at. It makes no request.
func NewLive(config *rest.Config) (*Live, error) {
	lists, err := metadata.NewForConfig(config)
	if err != nil {
		return nil, fmt.Errorf("making a client for %s: %w", config.Host, err)
	}
	objects, err := dynamic.NewForConfig(config)
	if err != nil {
		return nil, fmt.Errorf("making a client for %s: %w", config.Host, err)
	}
	unlimited := rest.CopyConfig(config)
	unlimited.Timeout = 0
	watches, err := dynamic.NewForConfig(unlimited)
	if err != nil {
		return nil, fmt.Errorf("making a client for %s: %w", config.Host, err)
	}
	discoverer, err := discovery.NewDiscoveryClientForConfig(config)
	if err != nil {
		return nil, fmt.Errorf("making a client for %s: %w", config.Host, err)
	}
	cached := memory.NewMemCacheClient(discoverer)
	aggregated, is := cached.(discovery.AggregatedDiscoveryInterface)
	if !is {
		return nil, fmt.Errorf("making a client for %s: client-go's cache of what a server serves has lost a method", config.Host)
	}
	return &Live{
		lists: lists, objects: objects, watches: watches, raw: discoverer.RESTClient(), config: config,
		mapper: restmapper.NewDeferredDiscoveryRESTMapper(cached), Discovery: aggregated, answers: map[any]any{},
	}, nil
}

// List returns the metadata of the objects that query selects. A resource that the cluster does not have is an empty list;
// a refused or failed read is an error, and is asked again next time.
func (l *Live) List(ctx context.Context, query graph.Query) (*graph.Objects, error) {
	items, err := once(l, query, func() (*graph.Objects, error) { return l.list(ctx, query) })
	if err != nil {
		return nil, fmt.Errorf("listing %s in namespace %q: %w", query.GroupResource, query.Namespace, err)
	}
	return items, nil
}

// Each calls visit with every whole object of a resource, page by page, and keeps nothing. A resource that the cluster does
// not have has none.
func (l *Live) Each(ctx context.Context, resource schema.GroupResource, visit func(map[string]any) error) error {
	served, found, err := l.served(resource)
	if err != nil || !found {
		return failed(err, resource)
	}
	options := metav1.ListOptions{Limit: pageSize}
	for {
		page, err := l.objects.Resource(served).List(ctx, options)
		if err != nil {
			return failed(err, resource)
		}
		for i := range page.Items {
			if err := visit(page.Items[i].Object); err != nil {
				return err
			}
		}
		if options.Continue = page.GetContinue(); options.Continue == "" {
			return nil
		}
	}
}

func failed(err error, resource schema.GroupResource) error {
	if err == nil {
		return nil
	}
	return fmt.Errorf("listing %s: %w", resource, err)
}

// Get returns the whole object, nil when there is none.
func (l *Live) Get(ctx context.Context, id kubevirt.ID) (map[string]any, error) {
	obj, err := once(l, id, func() (map[string]any, error) { return l.get(ctx, id) })
	if errors.Is(err, errAbsent) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("reading %s: %w", id, err)
	}
	return obj, nil
}

// Now returns the whole object as it is now, nil when there is none. The answer is not kept.
func (l *Live) Now(ctx context.Context, id kubevirt.ID) (map[string]any, error) {
	obj, err := l.get(ctx, id)
	if errors.Is(err, errAbsent) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("reading %s: %w", id, err)
	}
	return obj, nil
}

// GuestInfo returns what the guest agent of a VirtualMachineInstance says of itself. KubeVirt answers without apiVersion and kind
// (KubeVirt 1.8.4, subresource guestosinfo), which a dynamic client does not read.
func (l *Live) GuestInfo(ctx context.Context, namespace, name string) (map[string]any, error) {
	var info map[string]any
	answer, err := l.raw.Get().AbsPath("apis", virtv1.SubresourceGroupName, "v1", "namespaces", namespace, "virtualmachineinstances", name, "guestosinfo").DoRaw(ctx)
	if err == nil {
		err = json.Unmarshal(answer, &info)
	}
	if err != nil {
		return nil, fmt.Errorf("asking the guest agent of VirtualMachineInstance %s/%s: %w", namespace, name, err)
	}
	return info, nil
}

// An answer is locked while it is being fetched, so that parallel askers wait for one request instead of each making it.
type answer[T any] struct {
	mu    sync.Mutex
	known bool
	value T
}

// once fetches the answer to a query, or returns the one that was fetched before. A failed fetch is tried again the next time.
func once[T any](l *Live, query any, fetch func() (T, error)) (T, error) {
	l.mu.Lock()
	a, asked := l.answers[query].(*answer[T])
	if !asked {
		a = &answer[T]{}
		l.answers[query] = a
	}
	l.mu.Unlock()

	a.mu.Lock()
	defer a.mu.Unlock()
	if a.known {
		return a.value, nil
	}
	value, err := fetch()
	if err == nil {
		a.value, a.known = value, true
	}
	return value, err
}

// served finds the version of a resource; false when the cluster does not have it, say CDI is not installed.
func (l *Live) served(resource schema.GroupResource) (schema.GroupVersionResource, bool, error) {
	full, err := l.mapper.ResourceFor(resource.WithVersion(""))
	if meta.IsNoMatchError(err) {
		return full, false, nil
	}
	return full, err == nil, err
}

func (l *Live) list(ctx context.Context, query graph.Query) (*graph.Objects, error) {
	resource, found, err := l.served(query.GroupResource)
	if err != nil || !found {
		return &graph.Objects{}, err
	}
	client := l.lists.Resource(resource).Namespace(query.Namespace)
	options := metav1.ListOptions{Limit: pageSize, LabelSelector: query.Labels, FieldSelector: query.Fields}
	var items []metav1.PartialObjectMetadata
	for {
		page, err := client.List(ctx, options)
		if err != nil {
			return nil, err
		}
		for i := range page.Items {
			page.Items[i].ManagedFields = nil // the bulk of it, and never read
			if query.GroupResource != kubevirt.Pods {
				page.Items[i].Annotations = nil // the same
			}
		}
		items = append(items, page.Items...)
		if page.Continue == "" {
			return &graph.Objects{All: items}, nil
		}
		options.Continue = page.Continue
	}
}

func (l *Live) get(ctx context.Context, id kubevirt.ID) (map[string]any, error) {
	resource, found, err := l.served(id.GroupResource)
	if err != nil {
		return nil, err
	}
	if !found {
		return nil, errAbsent
	}
	obj, err := l.objects.Resource(resource).Namespace(id.Namespace).Get(ctx, id.Name, metav1.GetOptions{})
	if apierrors.IsNotFound(err) {
		return nil, errAbsent
	}
	if err != nil {
		return nil, err
	}
	return obj.Object, nil
}

// Serves tells whether the cluster has a resource: without KubeVirt there are no VirtualMachines to look for.
func (l *Live) Serves(resource schema.GroupResource) (bool, error) {
	_, found, err := l.served(resource)
	return found, err
}
