//go:build e2e

package e2e

import (
	"fmt"
	"reflect"
	"strings"
	"testing"

	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
)

// domainOf returns what the VM known says of its guest's identity.
func (w *testCluster) domainOf(t *testing.T, namespace string) []any {
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
func (w *testCluster) shared(t *testing.T) []string {
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
	w := kubevirtCluster(t)
	w.create(t, "home", "known.yaml")
	if err := w.WriteText(t.Context(), "home", "known-root", userData); err != nil {
		t.Fatal(err)
	}
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
		if warned != 4 { // two MAC addresses, serial and UUID
			t.Errorf("%d warnings that the original has the same, want 4", warned)
		}
	}
	for _, namespace := range []string{"copy-1", "copy-2", "copy-3"} {
		w.settle(t, namespace)
		vm := w.find(t, vmAPI, "VirtualMachine", namespace)["known"]
		if vm == nil {
			t.Errorf("namespace %s has no VM", namespace)
			continue
		}
		networks, _, _ := unstructured.NestedSlice(vm.Object, "spec", "template", "spec", "networks")
		templates, _, _ := unstructured.NestedSlice(vm.Object, "spec", "dataVolumeTemplates")
		if said := fmt.Sprint(networks, templates); strings.Contains(said, "home") || !strings.Contains(said, namespace+"/lan") {
			t.Errorf("the VM in %s names %s", namespace, said)
		}
		if w.find(t, "k8s.cni.cncf.io/v1", "NetworkAttachmentDefinition", namespace)["lan"] == nil {
			t.Errorf("the network did not come along to %s", namespace)
		}
		if got, err := w.ReadText(t.Context(), namespace, "known-root"); err != nil || got != userData {
			t.Errorf("the disk in %s has %q: %v", namespace, got, err)
		}
	}
	if shared := w.shared(t); len(shared) != 0 {
		t.Errorf("machines share:\n%s", strings.Join(shared, "\n"))
	}
	if now := w.domainOf(t, "home"); !reflect.DeepEqual(now, original) {
		t.Errorf("the original was %v and is %v", original, now)
	}
}

func TestAVMRestoredAfterItsOriginalIsGoneIsTheSameMachine(t *testing.T) {
	w := kubevirtCluster(t)
	w.create(t, "home", "known.yaml")
	original := w.domainOf(t, "home")
	report := w.backup(t, "--include-namespaces", "home")
	w.loseMachines(t, "home")
	w.restore(t, report.Name, "--include-namespaces", "home")
	w.settle(t, "home")
	if now := w.domainOf(t, "home"); !reflect.DeepEqual(now, original) {
		t.Errorf("the original was %v, the restored is %v", original, now)
	}
	w.loseMachines(t, "home")
	t.Cleanup(func() { w.loseMachines(t, "away") })
	if _, err := w.Restore(t.Context(), name(t)+"-away", report.Name, "--include-namespaces", "home", "--namespace-mappings", "home:away"); err != nil {
		t.Fatal(err)
	}
	w.settle(t, "away")
	if now := w.domainOf(t, "away"); !reflect.DeepEqual(now, original) {
		t.Errorf("the original was %v, the restored one in another namespace is %v", original, now)
	}
}

// TestAPoolAndAReplicaSetBesideTheirOriginalsMakeOtherMachines restores them twice: beside the originals, and when those are gone.
func TestAPoolAndAReplicaSetBesideTheirOriginalsMakeOtherMachines(t *testing.T) {
	w := kubevirtCluster(t)
	w.create(t, "ranch", "ranch.yaml")
	originals := w.identities(t, "ranch")
	report := w.backup(t, "--include-namespaces", "ranch")
	t.Cleanup(func() { w.loseMachines(t, "ranch-copy") })
	if _, err := w.Restore(t.Context(), name(t)+"-copy", report.Name, "--include-namespaces", "ranch", "--namespace-mappings", "ranch:ranch-copy"); err != nil {
		t.Fatal(err)
	}
	w.settle(t, "ranch-copy")
	copies := w.identities(t, "ranch-copy")
	for value := range copies {
		if originals[value] {
			t.Errorf("%s is that of an original and of a copy", value)
		}
	}
	w.loseMachines(t, "ranch")
	w.restore(t, report.Name, "--include-namespaces", "ranch")
	w.settle(t, "ranch")
	if again := w.identities(t, "ranch"); len(again) < 6 || !reflect.DeepEqual(again, originals) {
		t.Errorf("the originals were %v, the restored are %v", originals, again)
	}
}

// identities returns what the instances of a namespace are known by.
func (w *anyCluster) identities(t *testing.T, namespace string) map[string]bool {
	t.Helper()
	known := map[string]bool{}
	for _, vmi := range w.find(t, vmAPI, "VirtualMachineInstance", namespace) {
		spec, _, _ := unstructured.NestedMap(vmi.Object, "spec")
		for _, value := range identityIn(spec) {
			known[value] = true
		}
	}
	return known
}
