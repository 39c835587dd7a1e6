//go:build e2e && soak

package e2e

import (
	"fmt"
	"path/filepath"
	"testing"
	"time"

	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"

	"velero-plugin-for-kubevirt/tests/cluster"
)

// A mishap is something that goes wrong, before a backup begins or while it runs. What it returns ends it.
type mishap struct {
	name           string
	weight         int
	before, during func(s *soak, t *testing.T) (end func())
}

const nothingWrong = "nothing"

// mishaps are the things that go wrong, each as often as its weight says.
var mishaps = []mishap{
	{name: nothingWrong, weight: 16},
	{name: "slow storage", weight: 3, before: slowBy(2 * time.Second)},
	{name: "very slow storage", weight: 1, before: slowBy(30 * time.Second)},
	{name: "full storage", weight: 1, before: failingBy(cluster.CSIFaults{Fail: map[string]string{"CreateSnapshot": "no space left on device"}})},
	{name: "slow API server", weight: 1, before: apiBy(cluster.APIFaults{Delay: 200 * time.Millisecond})},
	{name: "busy API server", weight: 1, before: apiBy(cluster.APIFaults{Busy: 10})},
	{name: "broken API server", weight: 2, before: apiBy(cluster.APIFaults{Broken: 4})},
	{name: "paused guest", weight: 2, before: (*soak).pauses},
	{name: "migrating guest", weight: 2, before: (*soak).migrates},
	{name: "hotplugged disk", weight: 2, before: (*soak).plugs},
	{name: "killed plugin", weight: 2, during: func(s *soak, t *testing.T) func() {
		if _, err := s.KillPlugin(filepath.Base(binary)); err != nil {
			t.Error(err)
		}
		return noEnd
	}},
	{name: "killed Velero", weight: 1, during: func(s *soak, t *testing.T) func() {
		if err := s.KillVelero(t.Context()); err != nil {
			t.Error(err)
		}
		return noEnd
	}},
	{name: "killed API server", weight: 1, during: kills("kube-apiserver")},
	{name: "killed snapshot controller", weight: 1, during: kills("snapshot-controller")},
	{name: "killed CSI sidecar", weight: 1, during: kills("csi-snapshotter")},
}

func noEnd() {}

// slowBy has the storage take so long before it cuts a snapshot.
func slowBy(delay time.Duration) func(*soak, *testing.T) func() {
	return failingBy(cluster.CSIFaults{CutDelay: delay})
}

// failingBy has the storage misbehave.
func failingBy(faults cluster.CSIFaults) func(*soak, *testing.T) func() {
	return func(s *soak, t *testing.T) func() {
		set := func(faults cluster.CSIFaults) {
			if err := s.FailCSI(faults); err != nil {
				t.Error(err)
			}
		}
		set(faults)
		return func() { set(cluster.CSIFaults{}) }
	}
}

// apiBy has the API server misbehave towards Velero and the plugin.
func apiBy(faults cluster.APIFaults) func(*soak, *testing.T) func() {
	return func(s *soak, _ *testing.T) func() {
		s.FailAPI(faults)
		return func() { s.FailAPI(cluster.APIFaults{}) }
	}
}

// kills kills parts of the cluster and starts them again at once.
func kills(parts ...string) func(*soak, *testing.T) func() {
	return func(s *soak, t *testing.T) func() {
		again, err := s.KillParts(parts...)
		if err == nil {
			err = again(t.Context())
		}
		if err != nil {
			t.Fatal(err)
		}
		return noEnd
	}
}

func (s *soak) pauses(t *testing.T) func() {
	vm := s.anyVM()
	s.troubleAsk(t, vm, "pause")
	s.troubleStatus(t, vm, "Paused")
	return func() {
		s.troubleAsk(t, vm, "unpause")
		s.troubleStatus(t, vm, "Running")
	}
}

// migrates begins to move a guest to another node; the backup may see any of it.
func (s *soak) migrates(t *testing.T) func() {
	vm := s.anyVM()
	s.load(t, "{apiVersion: kubevirt.io/v1, kind: VirtualMachineInstanceMigration, metadata: {namespace: soak, name: %[1]s}, spec: {vmiName: %[1]s}}", vm.name)
	return func() {
		var migration *unstructured.Unstructured
		s.await(t, time.Minute, func() string {
			migration = s.find(t, "kubevirt.io/v1", "VirtualMachineInstanceMigration", "soak")[vm.name]
			if phase := text(migration, "status", "phase"); phase != "Succeeded" && phase != "Failed" {
				return fmt.Sprintf("the migration of %s is %q", vm.name, phase)
			}
			return ""
		})
		if err := s.Delete(t.Context(), migration); err != nil {
			t.Fatal(err)
		}
		s.troubleStatus(t, vm, "Running")
	}
}

// plugs gives a running guest one more disk, to which it writes from then on.
func (s *soak) plugs(t *testing.T) func() {
	vm := s.anyVM()
	hot := vm.disk(vm.disks)
	s.load(t, "{apiVersion: cdi.kubevirt.io/v1beta1, kind: DataVolume, metadata: {namespace: soak, name: %s}, spec: {source: {blank: {}}, %s}}", hot, soakStorage)
	s.update(t, "soak", vm.name, func(spec map[string]any) {
		volumes, _, _ := unstructured.NestedSlice(spec, "template", "spec", "volumes")
		volumes = append(volumes, map[string]any{"name": "spare", "dataVolume": map[string]any{"name": hot, "hotpluggable": true}})
		_ = unstructured.SetNestedSlice(spec, volumes, "template", "spec", "volumes")
		disks := []any{map[string]any{"name": "spare", "disk": map[string]any{"bus": "scsi"}}}
		_ = unstructured.SetNestedSlice(spec, disks, "template", "spec", "domain", "devices", "disks")
	})
	s.awaitPlugged(t, "soak", vm.name, "spare")
	vm.disks++
	return func() {
		vm.disks--
		s.update(t, "soak", vm.name, func(spec map[string]any) {
			volumes, _, _ := unstructured.NestedSlice(spec, "template", "spec", "volumes")
			_ = unstructured.SetNestedSlice(spec, volumes[:vm.disks], "template", "spec", "volumes")
			unstructured.RemoveNestedField(spec, "template", "spec", "domain", "devices", "disks")
		})
		s.await(t, time.Minute, func() string {
			if status := s.volumeStatus(t, "soak", vm.name, "spare"); status != nil {
				return fmt.Sprintf("%s still has the disk: %v", vm.name, status)
			}
			return ""
		})
		s.deleteObject(t, "cdi.kubevirt.io/v1beta1", "DataVolume", "soak", hot)
		s.await(t, time.Minute, func() string {
			if s.find(t, "v1", "PersistentVolumeClaim", "soak")[hot] != nil {
				return "there is still the claim " + hot
			}
			return ""
		})
	}
}

func (s *soak) anyVM() *troubleVM { return s.vms[s.random.IntN(len(s.vms))] }

// anyMishap chooses one by their weights.
func (s *soak) anyMishap() mishap {
	var drawn []mishap
	for _, m := range mishaps {
		for range m.weight {
			drawn = append(drawn, m)
		}
	}
	return drawn[s.random.IntN(len(drawn))]
}
