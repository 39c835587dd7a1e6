//go:build e2e

package e2e

import (
	"context"
	"reflect"
	"strings"
	"testing"

	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"sigs.k8s.io/controller-runtime/pkg/client"
)

func TestAVMKeepsItsInstancetype(t *testing.T) {
	// Where other types are in the namespace, Velero would warn that they look different.
	w := anywhere(t)
	w.changeTypes(t, "office", "instancetype.yaml",
		"--exclude-resources", "virtualmachineinstancetypes.instancetype.kubevirt.io,virtualmachinepreferences.instancetype.kubevirt.io")
}

func TestAVMKeepsItsClusterInstancetype(t *testing.T) {
	// A backup of a namespace does not have the types.
	w := kubevirtCluster(t)
	t.Cleanup(func() { w.removeTypes(t, "tower", "cluster-instancetype.yaml") })
	w.changeTypes(t, "tower", "cluster-instancetype.yaml")
}

// changeTypes restores a VM where its instancetype and preference have become others.
func (w *anyCluster) changeTypes(t *testing.T, namespace, file string, args ...string) {
	t.Helper()
	w.create(t, namespace, file)
	before := w.hardware(t, namespace)
	w.backUpLoseChangeRestore(t, namespace, func() []string {
		w.removeTypes(t, namespace, file)
		var others []*unstructured.Unstructured
		for _, obj := range typesOf(t, namespace, file) {
			other := map[string]any{"devices": map[string]any{"preferredDiskBus": "sata"}}
			if strings.HasSuffix(obj.GetKind(), "type") {
				other = map[string]any{"cpu": map[string]any{"guest": int64(2)}, "memory": map[string]any{"guest": "256Mi"}}
			}
			obj.Object["spec"] = other
			others = append(others, obj)
		}
		w.createAll(t, others)
		return args
	}, "--include-namespaces", namespace)
	if after := w.hardware(t, namespace); !reflect.DeepEqual(after, before) {
		t.Errorf("the VM had %v, now has %v", before, after)
	}
}

// typesOf returns the objects of a file that are not VMs.
func typesOf(t *testing.T, namespace, file string) []*unstructured.Unstructured {
	t.Helper()
	var found []*unstructured.Unstructured
	for _, obj := range manifest(t, namespace, file) {
		if obj.GetKind() != "VirtualMachine" {
			found = append(found, obj)
		}
	}
	return found
}

// removeTypes removes types as far as they are there: those of a namespace were lost with it.
func (w *anyCluster) removeTypes(t *testing.T, namespace, file string) {
	t.Helper()
	for _, obj := range typesOf(t, namespace, file) {
		if err := w.Delete(context.WithoutCancel(t.Context()), obj); client.IgnoreNotFound(err) != nil {
			t.Error(err)
		}
	}
}

// hardware is what a VM's instance has of its instancetype and preference.
func (w *anyCluster) hardware(t *testing.T, namespace string) map[string]any {
	t.Helper()
	has := map[string]any{}
	for _, vmi := range w.find(t, vmAPI, "VirtualMachineInstance", namespace) {
		for _, path := range [][]string{{"cpu", "sockets"}, {"memory", "guest"}, {"devices", "disks"}} {
			has[path[1]], _, _ = unstructured.NestedFieldCopy(vmi.Object, append([]string{"spec", "domain"}, path...)...)
		}
	}
	return has
}

// TestAVMWithARevisionOfOldRunsAgain restores what KubeVirt 1.1 wrote down and newer ones cannot read.
func TestAVMWithARevisionOfOldRunsAgain(t *testing.T) {
	w := anywhere(t)
	w.createAll(t, manifest(t, "museum", "relic.yaml"))
	t.Cleanup(func() { w.loseMachines(t, "museum") })
	report := w.backup(t, "--include-namespaces", "museum")
	w.loseMachines(t, "museum")
	w.restore(t, report.Name, "--include-namespaces", "museum", "--labels", "velero.kubevirt.io/restore-run-strategy=Always")
	w.settle(t, "museum")
	if memory := w.hardware(t, "museum")["guest"]; memory != "96Mi" {
		t.Errorf("the VM has %v of memory", memory)
	}
	if w.find(t, "apps/v1", "ControllerRevision", "museum")["relic-small-1"] == nil {
		t.Error("KubeVirt has removed the revision that the VM names")
	}
}
