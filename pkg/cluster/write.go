package cluster

import (
	"context"
	"fmt"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/watch"
	"k8s.io/client-go/dynamic"
	"k8s.io/client-go/tools/cache"
	watchtools "k8s.io/client-go/tools/watch"

	"velero-plugin-for-kubevirt/pkg/graph"
	"velero-plugin-for-kubevirt/pkg/kubevirt"
)

// resource returns a client for the resource of an object. It is an error that the cluster does not serve it.
func (l *Live) resource(clients dynamic.Interface, id kubevirt.ID) (dynamic.ResourceInterface, error) {
	resource, found, err := l.served(id.GroupResource)
	if err == nil && !found {
		err = fmt.Errorf("the cluster does not serve %s", id.GroupResource)
	}
	if err != nil {
		return nil, err
	}
	return clients.Resource(resource).Namespace(id.Namespace), nil
}

// Patch changes an object by a JSON merge patch.
func (l *Live) Patch(ctx context.Context, id kubevirt.ID, patch []byte) error {
	client, err := l.resource(l.objects, id)
	if err == nil {
		_, err = client.Patch(ctx, id.Name, types.MergePatchType, patch, metav1.PatchOptions{})
	}
	if err != nil {
		return fmt.Errorf("patching %s: %w", id, err)
	}
	return nil
}

// Create makes an object, and returns it as the server made it. One of the same name that is there already is returned as it is.
func (l *Live) Create(ctx context.Context, id kubevirt.ID, obj map[string]any) (map[string]any, error) {
	client, err := l.resource(l.objects, id)
	if err != nil {
		return nil, fmt.Errorf("creating %s: %w", id, err)
	}
	made, err := client.Create(ctx, &unstructured.Unstructured{Object: obj}, metav1.CreateOptions{})
	if apierrors.IsAlreadyExists(err) {
		made, err = client.Get(ctx, id.Name, metav1.GetOptions{})
	}
	if err != nil {
		return nil, fmt.Errorf("creating %s: %w", id, err)
	}
	return made.Object, nil
}

// Delete removes an object. One that is gone already is no error.
func (l *Live) Delete(ctx context.Context, id kubevirt.ID) error {
	client, err := l.resource(l.objects, id)
	if err == nil {
		err = client.Delete(ctx, id.Name, metav1.DeleteOptions{})
	}
	if err != nil && !apierrors.IsNotFound(err) {
		return fmt.Errorf("deleting %s: %w", id, err)
	}
	return nil
}

// Follow calls visit with each object that query selects, as it is and whenever it changes, and says whether it was deleted. It makes one call at a time,
// until ctx is over or the server refuses. An API server that goes away meanwhile is asked again.
func (l *Live) Follow(ctx context.Context, query graph.Query, visit func(obj map[string]any, deleted bool)) error {
	client, err := l.resource(l.watches, kubevirt.ID{GroupResource: query.GroupResource, Namespace: query.Namespace})
	if err != nil {
		return err
	}
	selected := func(options metav1.ListOptions) metav1.ListOptions {
		options.LabelSelector, options.FieldSelector = query.Labels, query.Fields
		return options
	}
	// A refusal would be tried again for ever below.
	if _, err := client.List(ctx, selected(metav1.ListOptions{Limit: 1})); err != nil {
		return err
	}
	lists := &cache.ListWatch{
		ListWithContextFunc: func(ctx context.Context, options metav1.ListOptions) (runtime.Object, error) {
			return client.List(ctx, selected(options))
		},
		WatchFuncWithContext: func(ctx context.Context, options metav1.ListOptions) (watch.Interface, error) {
			return client.Watch(ctx, selected(options))
		},
	}
	_, err = watchtools.UntilWithSync(ctx, lists, &unstructured.Unstructured{}, nil, func(event watch.Event) (bool, error) {
		obj, is := event.Object.(*unstructured.Unstructured)
		if !is {
			return false, fmt.Errorf("the server sent a %T", event.Object)
		}
		visit(obj.Object, event.Type == watch.Deleted)
		return false, nil
	})
	return err
}
