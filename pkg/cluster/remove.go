package cluster

import (
	"context"
	"fmt"
	"time"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	"velero-plugin-for-kubevirt/pkg/kubevirt"
)

// Remove deletes the object that has this UID. What has another one, or is gone, is left alone.
func (l *Live) Remove(ctx context.Context, id kubevirt.ID, uid string, dependents metav1.DeletionPropagation) error {
	client, err := l.resource(l.objects, id)
	if err == nil {
		expected := types.UID(uid)
		err = client.Delete(ctx, id.Name, metav1.DeleteOptions{Preconditions: &metav1.Preconditions{UID: &expected}, PropagationPolicy: &dependents})
	}
	if err != nil && !apierrors.IsNotFound(err) && !apierrors.IsConflict(err) {
		return fmt.Errorf("deleting %s: %w", id, err)
	}
	return nil
}

// Poll looks at an object, nil when it is not there, twice a second until nothing is missing. The error at the end of the context says what was.
func (l *Live) Poll(ctx context.Context, id kubevirt.ID, look func(obj map[string]any) (missing string, err error)) error {
	for {
		obj, err := l.Now(ctx, id)
		if err != nil {
			return err
		}
		missing, err := look(obj)
		if err != nil || missing == "" {
			return err
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("waiting for %s: %s: %w", id, missing, ctx.Err())
		case <-time.After(time.Second / 2):
		}
	}
}
