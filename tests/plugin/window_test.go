package plugin

import (
	"testing"
	"time"

	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime"

	"velero-plugin-for-kubevirt/pkg/cluster"
	"velero-plugin-for-kubevirt/pkg/consistency"
	"velero-plugin-for-kubevirt/tests/scenarios"
)

// windowLimit is what the plugin may make a freeze longer by.
const windowLimit = 50 * time.Millisecond

// BenchmarkWindow is all that Velero calls the plugin for while a guest with two disks is frozen, over Velero's gRPC: the VMI, the disks with
// their snapshots, and the VM. The guest answers at once; what a real one takes comes on top.
func BenchmarkWindow(b *testing.B) {
	objects, err := scenarios.Objects("../scenarios/how-consistent-a-vm-is")
	if err != nil {
		b.Fatal(err)
	}
	joins := []scenarios.Request{
		{Phase: "itemblock", Kind: "Pod", Namespace: "shop", Item: "virt-launcher-frozen"},
		{Phase: "itemblock", Kind: "VirtualMachineInstance", Namespace: "shop", Item: "frozen"},
		{Phase: "itemblock", Kind: "VirtualMachine", Namespace: "shop", Item: "frozen"},
	}
	window := []scenarios.Request{
		{Phase: "backup", Kind: "VirtualMachineInstance", Namespace: "shop", Item: "frozen"},
		{Phase: "consistency", Kind: "VirtualMachineInstance", Namespace: "shop", Item: "frozen"},
		{Phase: "backup", Kind: "VirtualMachine", Namespace: "shop", Item: "frozen"},
		{Phase: "backup", Kind: "PersistentVolumeClaim", Namespace: "shop", Item: "frozen-root"},
		{Phase: "backup", Kind: "PersistentVolumeClaim", Namespace: "shop", Item: "frozen-data"},
		{Phase: "consistency", Kind: "VirtualMachine", Namespace: "shop", Item: "frozen"},
	}
	for b.Loop() {
		b.StopTimer()
		// A process of its own, as for each backup: a guest is asked once.
		plugin := start(b, startAPIServer(b, cluster.FromObjects(objects)))
		for _, request := range joins {
			item, err := scenarios.Find(objects, request)
			if err != nil {
				b.Fatal(err)
			}
			if _, err := plugin.Call(request, item.DeepCopy(), item); err != nil {
				b.Fatal(err)
			}
		}
		var calls []func() (runtime.Unstructured, error)
		for _, request := range window {
			item, err := scenarios.Find(objects, request)
			if err != nil {
				b.Fatal(err)
			}
			for _, item := range []*unstructured.Unstructured{item, scenarios.SnapshotOf(item)} {
				if item == nil {
					continue
				}
				action, err := plugin.backupAction(request.Phase, item)
				if err != nil {
					b.Fatal(err)
				}
				calls = append(calls, func() (runtime.Unstructured, error) {
					updated, _, _, _, err := action.Execute(item.DeepCopy(), scenarios.Backup(request))
					return updated, err
				})
			}
		}
		var last runtime.Unstructured
		b.StartTimer()
		for _, call := range calls {
			if last, err = call(); err != nil {
				b.Fatal(err)
			}
		}
		b.StopTimer()
		if level, message := consistency.Stamped(last.UnstructuredContent()); level != consistency.Filesystem {
			b.Fatalf("the guest was not frozen, or not asked: %s %s", level, message)
		}
		b.StartTimer()
	}
	if took := b.Elapsed() / time.Duration(b.N); took > windowLimit {
		b.Errorf("the plugin makes a freeze %s longer, more than %s", took, windowLimit)
	}
}
