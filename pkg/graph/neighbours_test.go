package graph

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"k8s.io/apimachinery/pkg/runtime/schema"

	"velero-plugin-for-kubevirt/pkg/kubevirt"
)

func TestTenThousandVolumesAreOneNeighbourPerObject(t *testing.T) {
	var volumes []any
	for i := range 10_000 {
		claim := map[string]any{"claimName": fmt.Sprintf("disk-%d", i%100)}
		volumes = append(volumes, map[string]any{"name": fmt.Sprintf("v%d", i), "persistentVolumeClaim": claim})
	}
	vmi := map[string]any{
		"metadata": map[string]any{"namespace": "shop", "name": "huge"},
		"spec":     map[string]any{"volumes": volumes},
	}
	started := time.Now()
	neighbours, err := Named(kubevirt.VirtualMachineInstances, vmi)
	if err != nil {
		t.Fatal(err)
	}
	if len(neighbours) != 200 { // a PVC and perhaps a DataVolume for each name
		t.Errorf("want 200 neighbours, got %d", len(neighbours))
	}
	for i := 1; i < len(neighbours); i++ {
		if neighbours[i-1].String() >= neighbours[i].String() && neighbours[i-1].GroupResource == neighbours[i].GroupResource {
			t.Fatalf("not sorted: %s before %s", neighbours[i-1].ID, neighbours[i].ID)
		}
	}
	if took := time.Since(started); took > 5*time.Second {
		t.Errorf("took %s", took)
	}
}

func TestAMalformedFieldIsAnError(t *testing.T) {
	for resource, obj := range map[schema.GroupResource]map[string]any{
		kubevirt.DataVolumes: {"spec": map[string]any{}, "status": map[string]any{"phase": 5}},
		kubevirt.VirtualMachinePools: {"spec": map[string]any{
			"nameGeneration":         "by number",
			"virtualMachineTemplate": map[string]any{"spec": map[string]any{"template": map[string]any{"spec": map[string]any{}}}},
		}},
	} {
		if _, err := Neighbours(t.Context(), resource, obj, lists{}); err == nil || strings.Contains(err.Error(), "nobody should ask") {
			t.Errorf("%s: %v", resource, err)
		}
	}
}

func TestWhatIsNamedByAMalformedObjectIsNotKnown(t *testing.T) {
	for _, obj := range []map[string]any{
		{"spec": map[string]any{}, "status": map[string]any{"phase": 5}},
		{"spec": map[string]any{"source": map[string]any{"http": map[string]any{"secretRef": 5}}}},
	} {
		if _, err := Named(kubevirt.DataVolumes, obj); err == nil {
			t.Errorf("%v is no error", obj)
		}
	}
}
