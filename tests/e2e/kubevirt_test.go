//go:build e2e

package e2e

import (
	"context"
	"slices"
	"strings"
	"testing"
	"time"

	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/util/wait"
	"k8s.io/apimachinery/pkg/util/yaml"
)

// diner is a VM as a person would write it, and what it needs. KubeVirt makes the rest.
const diner = `
apiVersion: v1
kind: List
items:
- apiVersion: v1
  kind: ConfigMap
  metadata: {name: menu, namespace: diner}
  data: {soup: tomato}
- apiVersion: instancetype.kubevirt.io/v1beta1
  kind: VirtualMachineInstancetype
  metadata: {name: small, namespace: diner}
  spec: {cpu: {guest: 1}, memory: {guest: 128Mi}}
- apiVersion: instancetype.kubevirt.io/v1beta1
  kind: VirtualMachinePreference
  metadata: {name: linux, namespace: diner}
  spec: {devices: {preferredDiskBus: virtio}}
- apiVersion: kubevirt.io/v1
  kind: VirtualMachine
  metadata: {name: cook, namespace: diner, labels: {app: cook}}
  spec:
    runStrategy: Always
    instancetype: {kind: VirtualMachineInstancetype, name: small}
    preference: {kind: VirtualMachinePreference, name: linux}
    template:
      metadata: {labels: {app: cook}}
      spec:
        domain: {devices: {}}
        volumes:
        - {name: menu, configMap: {name: menu}}
        - {name: scratch, emptyDisk: {capacity: 1Gi}}
`

// instance waits until the VM runs and returns its VirtualMachineInstance.
func (w *anyCluster) instance(t *testing.T) *unstructured.Unstructured {
	t.Helper()
	var vm, vmi *unstructured.Unstructured
	err := wait.PollUntilContextTimeout(t.Context(), 100*time.Millisecond, 30*time.Second*w.patience, true, func(context.Context) (bool, error) {
		vm = w.inDiner(t, "kubevirt.io/v1", "VirtualMachine")["cook"]
		vmi = w.inDiner(t, "kubevirt.io/v1", "VirtualMachineInstance")["cook"]
		if vm == nil || vmi == nil {
			return false, nil
		}
		status, _, _ := unstructured.NestedString(vm.Object, "status", "printableStatus")
		return status == "Running", nil
	})
	if err != nil {
		t.Fatalf("the VM does not run: %v\n%v\n%v", err, vm, vmi)
	}
	return vmi
}

func (w *anyCluster) inDiner(t *testing.T, apiVersion, kind string) map[string]*unstructured.Unstructured {
	t.Helper()
	found, err := w.Find(t.Context(), apiVersion, kind, "diner")
	if err != nil {
		t.Fatal(err)
	}
	return found
}

// pinned returns the ControllerRevisions that a VM's status names.
func pinned(vm *unstructured.Unstructured) []string {
	var names []string
	for _, ref := range []string{"instancetypeRef", "preferenceRef"} {
		name, _, _ := unstructured.NestedString(vm.Object, "status", ref, "controllerRevisionRef", "name")
		names = append(names, name)
	}
	return names
}

// TestKubeVirtRunsWhatWasRestored makes VMs by KubeVirt's own controllers, loses and restores them, and leaves it to
// KubeVirt whether they run again.
func TestKubeVirtRunsWhatWasRestored(t *testing.T) {
	w := anywhere(t)
	for _, how := range []struct {
		name string
		args []string
	}{
		{"ByNamespace", []string{"--include-namespaces", "diner"}},
		{"ByLabel", []string{"--selector", "app=cook"}},
	} {
		t.Run(how.name, func(t *testing.T) { w.loseAndRestore(t, how.args...) })
	}
}

func dinerObjects(t *testing.T) []*unstructured.Unstructured {
	t.Helper()
	all := &unstructured.Unstructured{}
	if err := yaml.Unmarshal([]byte(diner), &all.Object); err != nil {
		t.Fatal(err)
	}
	list, err := all.ToList()
	if err != nil {
		t.Fatal(err)
	}
	var objects []*unstructured.Unstructured
	for n := range list.Items {
		objects = append(objects, &list.Items[n])
	}
	return objects
}

func (w *anyCluster) loseAndRestore(t *testing.T, args ...string) {
	w.createAll(t, dinerObjects(t))
	t.Cleanup(func() { w.loseMachines(t, "diner") })
	first := w.instance(t)
	revisions := pinned(w.inDiner(t, "kubevirt.io/v1", "VirtualMachine")["cook"])
	before := w.guestEvents()
	backup := w.backup(t, args...)
	w.frozenAndThawed(t, backup, before)
	w.loseMachines(t, "diner")
	// Without a namespace, Velero also restores the CRDs, and warns that they are there and look different.
	w.restore(t, backup.Name, "--include-namespaces", "diner")
	second := w.instance(t)
	if second.GetUID() == first.GetUID() {
		t.Error("the instance is the one that was lost")
	}
	if got := pinned(w.inDiner(t, "kubevirt.io/v1", "VirtualMachine")["cook"]); !slices.Equal(got, revisions) {
		t.Errorf("the VM runs with %s, was backed up with %s", got, revisions)
	}
	if w.inDiner(t, "v1", "ConfigMap")["menu"] == nil {
		t.Error("the ConfigMap is missing")
	}
	pods := w.inDiner(t, "v1", "Pod")
	for name := range pods {
		if !strings.HasPrefix(name, "virt-launcher-cook-") || len(pods) != 1 {
			t.Errorf("the VM has pods %v", pods)
		}
	}
}
