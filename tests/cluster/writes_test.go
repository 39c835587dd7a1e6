//go:build e2e

package cluster

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"testing"
	"time"

	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
)

// diskVolume creates a claim and its volume, whose bytes are in a new file, and returns the file's name.
func diskVolume(t *testing.T, c *Cluster, name string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "disk.img")
	if err := os.WriteFile(path, make([]byte, 1<<20), 0o644); err != nil {
		t.Fatal(err)
	}
	resources, modes := map[string]any{"storage": "1Mi"}, []any{"ReadWriteOnce"}
	pv := object("v1", "PersistentVolume", "", "pv-"+name)
	pv.Object["spec"] = map[string]any{
		"accessModes": modes, "capacity": resources, "storageClassName": "manual", "persistentVolumeReclaimPolicy": "Retain",
		"claimRef": map[string]any{"namespace": "kv", "name": name},
		"csi":      map[string]any{"driver": "files.csi.test", "volumeHandle": name, "volumeAttributes": map[string]any{"path": path}},
	}
	pvc := object("v1", "PersistentVolumeClaim", "kv", name)
	pvc.Object["spec"] = map[string]any{
		"accessModes": modes, "resources": map[string]any{"requests": resources}, "storageClassName": "manual", "volumeName": pv.GetName(),
	}
	for _, obj := range []*unstructured.Unstructured{pv, pvc} {
		create(t, c, obj)
		t.Cleanup(func() { remove(t, c, obj) })
	}
	return path
}

func testWrites(t *testing.T, c *Cluster) {
	disks := []string{diskVolume(t, c, "even"), diskVolume(t, c, "odd")}
	vm := newVM(t, c, "scribe", func(spec map[string]any) {
		_ = unstructured.SetNestedField(spec, "5ms", "template", "metadata", "annotations", WritesAnnotation)
		_ = unstructured.SetNestedSlice(spec, []any{
			map[string]any{"name": "even", "persistentVolumeClaim": map[string]any{"claimName": "even"}},
			map[string]any{"name": "odd", "persistentVolumeClaim": map[string]any{"claimName": "odd"}},
		}, "template", "spec", "volumes")
		unstructured.RemoveNestedField(spec, "template", "spec", "domain", "devices", "disks")
	})
	awaitStatus(t, c, vm, "Running")
	written := func() (even, odd []int64) {
		var records [2][]int64
		for i, disk := range disks {
			var err error
			if records[i], err = Records(disk); err != nil {
				t.Fatal(err)
			}
		}
		return records[0], records[1]
	}
	awaitMore := func(than int) {
		t.Helper()
		if err := poll(t.Context(), "the guest to write", func(context.Context) error {
			if even, _ := written(); len(even) <= than {
				return fmt.Errorf("%d records", len(even))
			}
			return nil
		}); err != nil {
			t.Fatal(err)
		}
	}
	awaitMore(10)
	run := freezer(t, c, vm)
	if out, code := run("--freeze"); code != 0 {
		t.Fatalf("freezing gives %d: %s", code, out)
	}
	even, odd := written()
	if distance := even[len(even)-1] - odd[len(odd)-1]; distance != 1 && distance != -1 {
		t.Errorf("the disks end with %d and %d", even[len(even)-1], odd[len(odd)-1])
	}
	time.Sleep(50 * time.Millisecond)
	if again, _ := written(); len(again) != len(even) {
		t.Errorf("the frozen guest wrote %d records", len(again)-len(even))
	}
	if out, code := run("--unfreeze"); code != 0 {
		t.Fatalf("thawing gives %d: %s", code, out)
	}
	awaitMore(len(even))
	subresource(t, c, "PUT", "virtualmachines/scribe/restart", "{}")
	even, _ = written()
	awaitMore(len(even) + 10)
	even, _ = written()
	for i, number := range even {
		if number != int64(2*(i+1)) { // the guest went on where it had stopped
			t.Fatalf("record %d is number %d", i, number)
		}
	}
}
