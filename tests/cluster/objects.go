package cluster

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"time"

	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/util/wait"
	"k8s.io/apimachinery/pkg/util/yaml"
	"k8s.io/client-go/discovery"
	"k8s.io/client-go/discovery/cached/memory"
	"k8s.io/client-go/dynamic"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/restmapper"
)

// clients reads and writes objects of any kind.
type clients struct {
	dynamic   dynamic.Interface
	discovery discovery.CachedDiscoveryInterface
	mapper    meta.ResettableRESTMapper
}

func newClients(config *rest.Config) (*clients, error) {
	dyn, err := dynamic.NewForConfig(config)
	if err != nil {
		return nil, fmt.Errorf("creating a client: %w", err)
	}
	disco, err := discovery.NewDiscoveryClientForConfig(config)
	if err != nil {
		return nil, fmt.Errorf("creating a client: %w", err)
	}
	cached := memory.NewMemCacheClient(disco)
	return &clients{dynamic: dyn, discovery: cached, mapper: restmapper.NewDeferredDiscoveryRESTMapper(cached)}, nil
}

// resource returns where an object lives, and its resource's name for looking at subresources.
func (k *clients) resource(obj *unstructured.Unstructured) (dynamic.ResourceInterface, schema.GroupVersionResource, error) {
	gvk := obj.GroupVersionKind()
	k.knows(gvk.GroupKind()) // a kind may be newer than what was discovered last
	mapping, err := k.mapper.RESTMapping(gvk.GroupKind(), gvk.Version)
	if err != nil {
		return nil, schema.GroupVersionResource{}, fmt.Errorf("finding the resource of %s: %w", describe(obj), err)
	}
	if mapping.Scope.Name() == meta.RESTScopeNameNamespace {
		return k.dynamic.Resource(mapping.Resource).Namespace(obj.GetNamespace()), mapping.Resource, nil
	}
	return k.dynamic.Resource(mapping.Resource), mapping.Resource, nil
}

// knows says whether the API server serves a kind.
func (k *clients) knows(kind schema.GroupKind) bool {
	_, err := k.mapper.RESTMapping(kind)
	if err != nil {
		k.mapper.Reset()
		_, err = k.mapper.RESTMapping(kind)
	}
	return err == nil
}

// create creates an object and returns it as the API server stored it.
func (k *clients) create(ctx context.Context, obj *unstructured.Unstructured) (*unstructured.Unstructured, error) {
	resource, _, err := k.resource(obj)
	if err != nil {
		return nil, err
	}
	created, err := resource.Create(ctx, obj, metav1.CreateOptions{})
	if err != nil {
		return nil, fmt.Errorf("creating %s: %w", describe(obj), err)
	}
	return created, nil
}

// get reads the object that has this one's kind, namespace and name.
func (k *clients) get(ctx context.Context, obj *unstructured.Unstructured) (*unstructured.Unstructured, error) {
	resource, _, err := k.resource(obj)
	if err != nil {
		return nil, err
	}
	live, err := resource.Get(ctx, obj.GetName(), metav1.GetOptions{})
	if err != nil {
		return nil, fmt.Errorf("reading %s: %w", describe(obj), err)
	}
	return live, nil
}

// createAll creates objects given as plain maps, in order.
func (k *clients) createAll(ctx context.Context, objects ...map[string]any) error {
	for _, object := range objects {
		if _, err := k.create(ctx, &unstructured.Unstructured{Object: object}); err != nil {
			return err
		}
	}
	return nil
}

// await reads an object again and again until it satisfies a condition.
func (k *clients) await(ctx context.Context, obj *unstructured.Unstructured, what string, within time.Duration, satisfied func(*unstructured.Unstructured) bool) error {
	var last error
	err := wait.PollUntilContextTimeout(ctx, 100*time.Millisecond, within, true, func(ctx context.Context) (bool, error) {
		live, err := k.get(ctx, obj)
		last = err
		return err == nil && satisfied(live), nil
	})
	if err != nil {
		return fmt.Errorf("waiting for %s to be %s: %w", describe(obj), what, errors.Join(err, last))
	}
	return nil
}

// poll tries something again and again until it succeeds.
func poll(ctx context.Context, what string, try func(context.Context) error) error {
	var last error
	err := wait.PollUntilContextTimeout(ctx, 100*time.Millisecond, 30*time.Second, true, func(ctx context.Context) (bool, error) {
		last = try(ctx)
		return last == nil, nil
	})
	if err != nil {
		return fmt.Errorf("waiting for %s: %w", what, errors.Join(err, last))
	}
	return nil
}

// object returns an object that says only what it is.
func object(apiVersion, kind, namespace, name string) *unstructured.Unstructured {
	obj := &unstructured.Unstructured{}
	obj.SetAPIVersion(apiVersion)
	obj.SetKind(kind)
	obj.SetNamespace(namespace)
	obj.SetName(name)
	return obj
}

// describe names an object the way errors do: kind and namespace/name.
func describe(obj *unstructured.Unstructured) string {
	if obj.GetNamespace() == "" {
		return obj.GetKind() + " " + obj.GetName()
	}
	return obj.GetKind() + " " + obj.GetNamespace() + "/" + obj.GetName()
}

// decode reads the objects of a YAML or JSON stream, taking lists apart.
func decode(content []byte) ([]*unstructured.Unstructured, error) {
	decoder := yaml.NewYAMLOrJSONDecoder(bytes.NewReader(content), 4096)
	var objects []*unstructured.Unstructured
	for {
		obj := &unstructured.Unstructured{}
		err := decoder.Decode(&obj.Object)
		switch {
		case errors.Is(err, io.EOF):
			return objects, nil
		case err != nil:
			return nil, fmt.Errorf("reading YAML: %w", err)
		case len(obj.Object) == 0: // nothing between two separators
		case obj.IsList():
			list, err := obj.ToList()
			if err != nil {
				return nil, fmt.Errorf("reading a %s: %w", obj.GetKind(), err)
			}
			for i := range list.Items {
				objects = append(objects, &list.Items[i])
			}
		default:
			objects = append(objects, obj)
		}
	}
}
