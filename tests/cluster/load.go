package cluster

import (
	"context"
	"fmt"
	"time"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/client-go/util/retry"
)

// Load creates objects of any kind including their status, and the namespaces they need.
//
// The API server gives every object a new UID, and the garbage collector deletes what refers to an owner by a wrong
// one. So in these objects a metadata.uid is a symbolic name: wherever one of the others holds it, in an owner
// reference, a label, an annotation, a status, it is replaced by the real UID. What refers is created after what it
// refers to. An owner that is not among the objects must exist.
func (c *Cluster) Load(ctx context.Context, objects []*unstructured.Unstructured) error {
	ordered, err := inOrder(objects)
	if err != nil {
		return fmt.Errorf("loading objects: %w", err)
	}
	l := loading{clients: c.clients, uids: map[string]string{}}
	for _, obj := range ordered {
		if err := l.load(ctx, obj); err != nil {
			return fmt.Errorf("loading objects: %w", err)
		}
	}
	for _, obj := range ordered {
		if err := l.loadStatus(ctx, obj); err != nil {
			return fmt.Errorf("loading objects: %w", err)
		}
	}
	return nil
}

// A loading is one call of Load.
type loading struct {
	clients *clients
	uids    map[string]string // from symbolic to real
}

func (l loading) load(ctx context.Context, obj *unstructured.Unstructured) error {
	if err := l.ensureNamespace(ctx, obj.GetNamespace()); err != nil {
		return err
	}
	fresh := forCreation(obj, l.uids)
	if err := l.resolveOwners(ctx, obj, fresh); err != nil {
		return err
	}
	if err := l.awaitServiceAccount(ctx, fresh); err != nil {
		return err
	}
	created, err := l.clients.create(ctx, fresh)
	if apierrors.IsAlreadyExists(err) && obj.GetKind() == "Namespace" {
		created, err = l.clients.get(ctx, fresh)
	}
	if err != nil {
		return err
	}
	if symbolic := string(obj.GetUID()); symbolic != "" {
		l.uids[symbolic] = string(created.GetUID())
	}
	obj.SetName(created.GetName()) // the API server may have completed a generateName
	return nil
}

// forCreation returns a copy of an object without what only the API server sets.
func forCreation(obj *unstructured.Unstructured, uids map[string]string) *unstructured.Unstructured {
	fresh := obj.DeepCopy()
	for _, field := range []string{"uid", "resourceVersion", "generation", "creationTimestamp", "deletionTimestamp", "deletionGracePeriodSeconds", "managedFields", "selfLink"} {
		unstructured.RemoveNestedField(fresh.Object, "metadata", field)
	}
	fresh.Object = replaceUIDs(fresh.Object, uids).(map[string]any)
	return fresh
}

func (l loading) ensureNamespace(ctx context.Context, name string) error {
	if name == "" {
		return nil
	}
	_, err := l.clients.create(ctx, object("v1", "Namespace", "", name))
	if apierrors.IsAlreadyExists(err) {
		return nil
	}
	return err
}

// resolveOwners sets the UIDs of the owners that are not among the loaded objects.
func (l loading) resolveOwners(ctx context.Context, obj, fresh *unstructured.Unstructured) error {
	owners := fresh.GetOwnerReferences()
	for i, original := range obj.GetOwnerReferences() {
		if _, loaded := l.uids[string(original.UID)]; loaded {
			continue
		}
		owner := object(original.APIVersion, original.Kind, obj.GetNamespace(), original.Name)
		live, err := l.clients.get(ctx, owner)
		if err != nil {
			return fmt.Errorf("finding the owner of %s, without which it would be garbage: %w", describe(obj), err)
		}
		owners[i].UID = live.GetUID()
	}
	if len(owners) > 0 {
		fresh.SetOwnerReferences(owners)
	}
	return nil
}

// awaitServiceAccount waits for the ServiceAccount of a pod: a new namespace gets its default one a little later.
func (l loading) awaitServiceAccount(ctx context.Context, obj *unstructured.Unstructured) error {
	if obj.GroupVersionKind() != (schema.GroupVersionKind{Version: "v1", Kind: "Pod"}) {
		return nil
	}
	name := nestedString(obj, "spec", "serviceAccountName")
	if name == "" {
		name = "default"
	}
	exists := func(*unstructured.Unstructured) bool { return true }
	return l.clients.await(ctx, object("v1", "ServiceAccount", obj.GetNamespace(), name), "there", 30*time.Second, exists)
}

// loadStatus sets an object's status now that all UIDs are known. Most kinds take it through a subresource only; for
// the others it is an ordinary part of the object, and there already.
func (l loading) loadStatus(ctx context.Context, obj *unstructured.Unstructured) error {
	status, found := obj.Object["status"]
	if !found {
		return nil
	}
	resource, gvr, err := l.clients.resource(obj)
	if err != nil {
		return err
	}
	separate, err := l.clients.hasStatus(gvr)
	if err != nil {
		return err
	}
	update := resource.Update
	if separate {
		update = func(ctx context.Context, obj *unstructured.Unstructured, options metav1.UpdateOptions, _ ...string) (*unstructured.Unstructured, error) {
			return resource.UpdateStatus(ctx, obj, options)
		}
	}
	err = retry.RetryOnConflict(retry.DefaultBackoff, func() error {
		live, err := resource.Get(ctx, obj.GetName(), metav1.GetOptions{})
		if err != nil {
			return err
		}
		live.Object["status"] = replaceUIDs(status, l.uids)
		_, err = update(ctx, live, metav1.UpdateOptions{})
		return err
	})
	if err != nil {
		return fmt.Errorf("setting the status of %s: %w", describe(obj), err)
	}
	return nil
}

// hasStatus says whether a resource's status is a subresource.
func (k *clients) hasStatus(gvr schema.GroupVersionResource) (bool, error) {
	list, err := k.discovery.ServerResourcesForGroupVersion(gvr.GroupVersion().String())
	if err != nil {
		return false, fmt.Errorf("looking up the subresources of %s: %w", gvr.Resource, err)
	}
	for _, r := range list.APIResources {
		if r.Name == gvr.Resource+"/status" {
			return true, nil
		}
	}
	return false, nil
}
