package drill

import (
	"context"
	"errors"
	"fmt"
	"testing"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/runtime/schema"

	"velero-plugin-for-kubevirt/pkg/kubevirt"
)

// A scratchCluster has a namespace of drill "d" with one volume.
type scratchCluster struct {
	Cluster
	patched error
	deleted bool
}

func (c *scratchCluster) Now(context.Context, kubevirt.ID) (map[string]any, error) {
	return map[string]any{"metadata": map[string]any{"annotations": map[string]any{Annotation: "d"}}}, nil
}

func (c *scratchCluster) Each(_ context.Context, _ schema.GroupResource, do func(map[string]any) error) error {
	return do(map[string]any{"metadata": map[string]any{"name": "pv"}, "spec": map[string]any{"claimRef": map[string]any{"namespace": "scratch"}}})
}

func (c *scratchCluster) Patch(context.Context, kubevirt.ID, []byte) error { return c.patched }

func (c *scratchCluster) Delete(context.Context, kubevirt.ID) error {
	c.deleted = true
	return nil
}

func (c *scratchCluster) Poll(_ context.Context, _ kubevirt.ID, look func(map[string]any) (string, error)) error {
	_, err := look(nil)
	return err
}

func TestAScratchNamespaceIsRemovedWithItsVolumes(t *testing.T) {
	gone := fmt.Errorf("patching: %w", apierrors.NewNotFound(schema.GroupResource{Resource: "persistentvolumes"}, "pv"))
	for name, c := range map[string]struct {
		patched error
		removed bool
	}{
		"that are there":         {nil, true},
		"that go meanwhile":      {gone, true},
		"that cannot be patched": {errors.New("refused"), false},
	} {
		t.Run(name, func(t *testing.T) {
			cluster := &scratchCluster{patched: c.patched}
			err := (&Run{Cluster: cluster, ID: "d", Waiting: func(string) {}}).removeNamespace(t.Context(), "scratch")
			if cluster.deleted != c.removed || (err == nil) != c.removed {
				t.Errorf("removed: %t, %v", cluster.deleted, err)
			}
		})
	}
}
