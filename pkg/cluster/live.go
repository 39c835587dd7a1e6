// Package cluster answers what exists: live from the API server, or from objects in memory.
package cluster

import (
	"context"
	"fmt"
	"sync"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/metadata"
	"k8s.io/client-go/rest"

	"velero-plugin-for-kubevirt/pkg/graph"
	"velero-plugin-for-kubevirt/pkg/kubevirt"
)

// pageSize is how many objects one request asks for: what kubectl uses.
const pageSize = 500

// Live reads from an API server. It asks each query once and keeps the answer, so it is as old as the backup that it
// serves: Velero starts a plugin process for each backup and restore. It is safe for parallel use.
type Live struct {
	client  metadata.Interface
	mu      sync.Mutex
	answers map[graph.Query]*answer
}

// An answer is locked while it is being fetched, so that parallel askers wait for one list instead of each making it.
type answer struct {
	mu    sync.Mutex
	known bool
	items []metav1.PartialObjectMetadata
}

// NewLive returns a reader of the cluster that config points at. It makes no request.
func NewLive(config *rest.Config) (*Live, error) {
	client, err := metadata.NewForConfig(config)
	if err != nil {
		return nil, fmt.Errorf("making a client for %s: %w", config.Host, err)
	}
	return &Live{client: client, answers: map[graph.Query]*answer{}}, nil
}

// List returns the metadata of the objects that query selects. A resource that the cluster does not have is an empty list;
// a refused or failed read is an error, and is asked again next time.
func (l *Live) List(ctx context.Context, query graph.Query) ([]metav1.PartialObjectMetadata, error) {
	l.mu.Lock()
	a := l.answers[query]
	if a == nil {
		a = &answer{}
		l.answers[query] = a
	}
	l.mu.Unlock()

	a.mu.Lock()
	defer a.mu.Unlock()
	if a.known {
		return a.items, nil
	}
	items, err := l.fetch(ctx, query)
	if err != nil {
		return nil, fmt.Errorf("listing %s in namespace %q: %w", query.GroupResource, query.Namespace, err)
	}
	a.items, a.known = items, true
	return items, nil
}

func (l *Live) fetch(ctx context.Context, query graph.Query) ([]metav1.PartialObjectMetadata, error) {
	version, known := kubevirt.Version(query.GroupResource)
	if !known {
		return nil, fmt.Errorf("no API version is known for it")
	}
	client := l.client.Resource(query.WithVersion(version)).Namespace(query.Namespace)
	options := metav1.ListOptions{Limit: pageSize, LabelSelector: query.Labels, FieldSelector: query.Fields}
	var items []metav1.PartialObjectMetadata
	for {
		page, err := client.List(ctx, options)
		if apierrors.IsNotFound(err) {
			return nil, nil // the resource itself: CDI, say, is not installed
		}
		if err != nil {
			return nil, err
		}
		for i := range page.Items {
			page.Items[i].ManagedFields = nil // the bulk of it, and never read
		}
		items = append(items, page.Items...)
		if page.Continue == "" {
			return items, nil
		}
		options.Continue = page.Continue
	}
}
