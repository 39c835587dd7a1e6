//go:build e2e

package e2e

import (
	"context"
	"fmt"
	"reflect"
	"strings"
	"testing"
	"time"

	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/util/yaml"
)

const wellKnown = `
apiVersion: kubevirt.io/v1
kind: VirtualMachine
metadata: {namespace: home, name: known}
spec:
  runStrategy: Always
  dataVolumeTemplates:
  - metadata: {name: known-root}
    spec: {source: {blank: {}}, storage: {resources: {requests: {storage: 8Mi}}}}
  template:
    spec:
      domain:
        firmware: {serial: SN-4711, uuid: 6a0b7c1e-5b8e-4a0e-9d5b-0d5f2b1c9a01}
        resources: {requests: {memory: 64Mi}}
        devices: {interfaces: [{name: default, masquerade: {}, macAddress: "02:00:00:00:47:11"}]}
      networks: [{name: default, pod: {}}]
      volumes: [{name: root, dataVolume: {name: known-root}}]
`

// runKnown makes a VM with an identity of its own.
func (w *world) runKnown(t *testing.T) {
	t.Helper()
	vm := &unstructured.Unstructured{}
	if err := yaml.Unmarshal([]byte(wellKnown), &vm.Object); err != nil {
		t.Fatal(err)
	}
	if err := w.Load(t.Context(), []*unstructured.Unstructured{vm}); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { w.loseMachines(t, "home") })
	w.awaitRunning(t, "home")
}

func (w *world) awaitRunning(t *testing.T, namespace string) {
	t.Helper()
	if err := w.AwaitReady(context.WithoutCancel(t.Context()), namespace, "known", time.Minute); err != nil {
		t.Fatal(err)
	}
}

// domainOf returns what the VM known says of its guest's identity.
func (w *world) domainOf(t *testing.T, namespace string) []any {
	t.Helper()
	vm := w.find(t, vmAPI, "VirtualMachine", namespace)["known"]
	if vm == nil {
		t.Fatalf("namespace %s has no VM", namespace)
	}
	firmware, _, _ := unstructured.NestedMap(vm.Object, "spec", "template", "spec", "domain", "firmware")
	interfaces, _, _ := unstructured.NestedSlice(vm.Object, "spec", "template", "spec", "domain", "devices", "interfaces")
	return []any{firmware, interfaces}
}

// shared returns what more than one machine of the cluster is known by. A VM and its VMI, which have the same name, are one.
func (w *world) shared(t *testing.T) []string {
	t.Helper()
	owners := map[string]map[string]bool{}
	seen := 0
	for _, kind := range []struct {
		kind string
		spec []string
	}{{"VirtualMachine", []string{"spec", "template", "spec"}}, {"VirtualMachineInstance", []string{"spec"}}} {
		list := &unstructured.UnstructuredList{}
		list.SetAPIVersion(vmAPI)
		list.SetKind(kind.kind + "List")
		if err := w.List(t.Context(), list); err != nil {
			t.Fatal(err)
		}
		for _, machine := range list.Items {
			seen++
			spec, _, _ := unstructured.NestedMap(machine.Object, kind.spec...)
			for _, value := range identityIn(spec) {
				if owners[value] == nil {
					owners[value] = map[string]bool{}
				}
				owners[value][machine.GetNamespace()+"/"+machine.GetName()] = true
			}
		}
	}
	if seen < 2 {
		t.Fatalf("only %d machines were seen", seen)
	}
	var shared []string
	for value, names := range owners {
		if len(names) > 1 {
			shared = append(shared, fmt.Sprint(value, " is that of ", names))
		}
	}
	return shared
}

// identityIn returns MAC addresses, serial and UUID of a VMI's spec.
func identityIn(spec map[string]any) []string {
	var values []string
	for _, field := range []string{"serial", "uuid"} {
		if value, _, _ := unstructured.NestedString(spec, "domain", "firmware", field); value != "" {
			values = append(values, field+" "+strings.ToLower(value))
		}
	}
	interfaces, _, _ := unstructured.NestedSlice(spec, "domain", "devices", "interfaces")
	for _, nic := range interfaces {
		if address, _ := nic.(map[string]any)["macAddress"].(string); address != "" {
			values = append(values, "MAC address "+strings.ToLower(address))
		}
	}
	return values
}

func TestAVMRestoredThreeTimesBesideItsOriginalIsFourMachines(t *testing.T) {
	w := living(t)
	w.runKnown(t)
	original := w.domainOf(t, "home")
	report := w.backup(t, "--include-namespaces", "home")
	for _, namespace := range []string{"copy-1", "copy-2", "copy-3"} {
		t.Cleanup(func() { w.loseMachines(t, namespace) })
		restored, err := w.Restore(t.Context(), namespace, report.Name, "--include-namespaces", "home", "--namespace-mappings", "home:"+namespace)
		if err != nil {
			t.Fatal(err)
		}
		wentWell(t, *restored)
		warned := 0
		for _, line := range restored.Log {
			if line.Level() == "warning" && line["neighbour"] == "virtualmachines.kubevirt.io/home/known" && line.Item() == line["neighbour"] && line["target"] == namespace+"/known" {
				warned++
			}
		}
		if warned != 3 {
			t.Errorf("%d warnings that the original has the same, want 3", warned)
		}
	}
	for _, namespace := range []string{"copy-1", "copy-2", "copy-3"} {
		w.awaitRunning(t, namespace)
	}
	if shared := w.shared(t); len(shared) != 0 {
		t.Errorf("machines share:\n%s", strings.Join(shared, "\n"))
	}
	if now := w.domainOf(t, "home"); !reflect.DeepEqual(now, original) {
		t.Errorf("the original was %v and is %v", original, now)
	}
}

func TestAVMRestoredAfterItsOriginalIsGoneIsTheSameMachine(t *testing.T) {
	w := living(t)
	w.runKnown(t)
	original := w.domainOf(t, "home")
	report := w.backup(t, "--include-namespaces", "home")
	w.loseMachines(t, "home")
	w.restore(t, report.Name, "--include-namespaces", "home")
	w.awaitRunning(t, "home")
	if now := w.domainOf(t, "home"); !reflect.DeepEqual(now, original) {
		t.Errorf("the original was %v, the restored is %v", original, now)
	}
	w.loseMachines(t, "home")
	t.Cleanup(func() { w.loseMachines(t, "away") })
	if _, err := w.Restore(t.Context(), name(t)+"-away", report.Name, "--include-namespaces", "home", "--namespace-mappings", "home:away"); err != nil {
		t.Fatal(err)
	}
	w.awaitRunning(t, "away")
	if now := w.domainOf(t, "away"); !reflect.DeepEqual(now, original) {
		t.Errorf("the original was %v, the restored one in another namespace is %v", original, now)
	}
}
