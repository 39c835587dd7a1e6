//go:build e2e

package cluster

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"testing"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
)

func testStopStart(t *testing.T, c *Cluster) {
	vm := newVM(t, c, "yoyo")
	awaitStatus(t, c, vm, "Running")
	first := live(t, c, instanceOf(vm)).GetUID()
	subresource(t, c, "PUT", "virtualmachines/yoyo/stop", "{}")
	awaitStatus(t, c, vm, "Stopped")
	subresource(t, c, "PUT", "virtualmachines/yoyo/start", "{}")
	awaitStatus(t, c, vm, "Running")
	if live(t, c, instanceOf(vm)).GetUID() == first {
		t.Error("the instance is still the first one")
	}
}

// volume creates a PersistentVolume and, with a name, a claim that is bound to it.
func volume(t *testing.T, c *Cluster, class, claim string, modes ...any) {
	t.Helper()
	resources := map[string]any{"storage": "1Gi"}
	pv := object("v1", "PersistentVolume", "", "pv-"+strings.ToLower(strings.NewReplacer("/", "-", " ", "-", "_", "-").Replace(t.Name())))
	spec := map[string]any{
		"accessModes": modes, "capacity": resources, "hostPath": map[string]any{"path": "/nowhere"}, "storageClassName": class,
		"persistentVolumeReclaimPolicy": "Retain",
	}
	if claim != "" {
		spec["claimRef"] = map[string]any{"namespace": "kv", "name": claim}
	}
	pv.Object["spec"] = spec
	create(t, c, pv)
	t.Cleanup(func() { remove(t, c, pv) })
	if claim == "" { // a claim that comes before the volume is known to be free waits 15 s
		await(t, c, pv, "available", phaseIs("Available"))
		return
	}
	pvc := object("v1", "PersistentVolumeClaim", "kv", claim)
	pvc.Object["spec"] = map[string]any{
		"accessModes": modes, "resources": map[string]any{"requests": resources}, "storageClassName": class, "volumeName": pv.GetName(),
	}
	create(t, c, pvc)
	t.Cleanup(func() { remove(t, c, pvc) })
}

// volumeStatus returns what an instance's status says of a volume.
func volumeStatus(vmi *unstructured.Unstructured, name string) map[string]any {
	list, _, _ := unstructured.NestedSlice(vmi.Object, "status", "volumeStatus")
	for _, item := range list {
		if status := item.(map[string]any); status["name"] == name {
			return status
		}
	}
	return nil
}

func testHotplug(t *testing.T, c *Cluster) {
	volume(t, c, "manual", "hot", "ReadWriteMany")
	vm := newVM(t, c, "plug")
	awaitStatus(t, c, vm, "Running")
	// A hotplugged volume is one that is added to the VM while it runs.
	change(t, c, vm, func(live map[string]any) {
		spec := live["spec"].(map[string]any)["template"].(map[string]any)["spec"].(map[string]any)
		devices := spec["domain"].(map[string]any)["devices"].(map[string]any)
		devices["disks"] = append(devices["disks"].([]any), map[string]any{"name": "hot", "disk": map[string]any{"bus": "scsi"}})
		spec["volumes"] = append(spec["volumes"].([]any), map[string]any{
			"name": "hot", "persistentVolumeClaim": map[string]any{"claimName": "hot", "hotpluggable": true},
		})
	})
	await(t, c, instanceOf(vm), "with the volume", func(vmi *unstructured.Unstructured) bool {
		return volumeStatus(vmi, "hot")["phase"] == "Ready"
	})
	if got := volumeStatus(live(t, c, instanceOf(vm)), "hot")["target"]; got != "sda" {
		t.Errorf("the volume is %v", got)
	}
	change(t, c, vm, func(live map[string]any) {
		spec := live["spec"].(map[string]any)["template"].(map[string]any)["spec"].(map[string]any)
		devices := spec["domain"].(map[string]any)["devices"].(map[string]any)
		isHot := func(item any) bool { return item.(map[string]any)["name"] == "hot" }
		devices["disks"] = slices.DeleteFunc(devices["disks"].([]any), isHot)
		spec["volumes"] = slices.DeleteFunc(spec["volumes"].([]any), isHot)
	})
	await(t, c, instanceOf(vm), "without the volume", func(vmi *unstructured.Unstructured) bool { return volumeStatus(vmi, "hot") == nil })
}

// migration asks for a live migration of a VM.
func migration(t *testing.T, c *Cluster, vm *unstructured.Unstructured) *unstructured.Unstructured {
	t.Helper()
	request := object("kubevirt.io/v1", "VirtualMachineInstanceMigration", vm.GetNamespace(), vm.GetName())
	request.Object["spec"] = map[string]any{"vmiName": vm.GetName()}
	create(t, c, request)
	return request
}

func phaseIs(phase string) func(*unstructured.Unstructured) bool {
	return func(live *unstructured.Unstructured) bool { return nestedString(live, "status", "phase") == phase }
}

func testMigration(t *testing.T, c *Cluster) {
	vm := newVM(t, c, "migrating")
	awaitStatus(t, c, vm, "Running")
	from := nestedString(live(t, c, instanceOf(vm)), "status", "nodeName")
	await(t, c, migration(t, c, vm), "succeeded", phaseIs("Succeeded"))
	if to := nestedString(live(t, c, instanceOf(vm)), "status", "nodeName"); to == from || to == "" {
		t.Errorf("the VM went from %s to %s", from, to)
	}
	run := freezer(t, c, vm)
	if out, code := run("--freeze"); code != 0 || !c.Guest.IsFrozen("kv", "migrating") {
		t.Errorf("freezing after the migration gives %d: %s", code, out)
	}
	if out, code := run("--unfreeze"); code != 0 {
		t.Errorf("thawing after the migration gives %d: %s", code, out)
	}
}

func testTroubledMigration(t *testing.T, c *Cluster) {
	troubled := func(knob string) *unstructured.Unstructured {
		vm := newVM(t, c, knob, func(spec map[string]any) {
			_ = unstructured.SetNestedField(spec, knob, "template", "metadata", "annotations", MigrationAnnotation)
		})
		awaitStatus(t, c, vm, "Running")
		return vm
	}
	failing, lasting := troubled("fail"), troubled("hold")
	run := freezer(t, c, lasting)
	first, second := migration(t, c, failing), migration(t, c, lasting)
	await(t, c, first, "failed", phaseIs("Failed"))
	awaitStatus(t, c, failing, "Running")
	await(t, c, second, "running", phaseIs("Running"))
	awaitStatus(t, c, lasting, "Migrating")
	if out, code := run("--freeze"); code != 1 || !strings.Contains(out, "during migration") {
		t.Errorf("freezing while it migrates gives %d: %s", code, out)
	}
}

func testInstancetype(t *testing.T, c *Cluster) {
	small := object("instancetype.kubevirt.io/v1beta1", "VirtualMachineInstancetype", "kv", "small")
	small.Object["spec"] = map[string]any{"cpu": map[string]any{"guest": int64(1)}, "memory": map[string]any{"guest": "128Mi"}}
	create(t, c, small)
	linux := object("instancetype.kubevirt.io/v1beta1", "VirtualMachinePreference", "kv", "linux")
	linux.Object["spec"] = map[string]any{"devices": map[string]any{"preferredDiskBus": "virtio"}}
	create(t, c, linux)
	vm := newVM(t, c, "typed", func(spec map[string]any) {
		spec["instancetype"] = map[string]any{"kind": "VirtualMachineInstancetype", "name": "small"}
		spec["preference"] = map[string]any{"kind": "VirtualMachinePreference", "name": "linux"}
		unstructured.RemoveNestedField(spec, "template", "spec", "domain", "resources")
	})
	awaitStatus(t, c, vm, "Running")
	for _, ref := range []string{"instancetypeRef", "preferenceRef"} {
		name := nestedString(live(t, c, vm), "status", ref, "controllerRevisionRef", "name")
		if !strings.HasPrefix(name, "typed-") {
			t.Errorf("status.%s names %q", ref, name)
			continue
		}
		live(t, c, object("apps/v1", "ControllerRevision", "kv", name))
	}
}

func testTPM(t *testing.T, c *Cluster) {
	claims, _, err := c.clients.resource(object("v1", "PersistentVolumeClaim", "kv", ""))
	if err != nil {
		t.Fatal(err)
	}
	state := func(ctx context.Context) []unstructured.Unstructured {
		found, err := claims.List(ctx, metav1.ListOptions{LabelSelector: "persistent-state-for=vault"})
		if err != nil {
			t.Fatal(err)
		}
		return found.Items
	}
	t.Cleanup(func() { // after the VM is gone
		err := poll(context.WithoutCancel(t.Context()), "the deletion of the TPM's state", func(ctx context.Context) error {
			if found := state(ctx); len(found) > 0 {
				return fmt.Errorf("%s is still there", describe(&found[0]))
			}
			return nil
		})
		if err != nil {
			t.Error(err)
		}
	})
	vm := newVM(t, c, "vault", func(spec map[string]any) {
		_ = unstructured.SetNestedField(spec, true, "template", "spec", "domain", "devices", "tpm", "persistent")
	})
	awaitStatus(t, c, vm, "Running")
	if found := state(t.Context()); len(found) != 1 || nestedString(&found[0], "status", "phase") != "Bound" {
		t.Fatalf("the claims of the TPM's state: %v", found)
	}
	vmi := live(t, c, instanceOf(vm))
	if volumeStatus(vmi, "persistent-state-for-this-vm") == nil {
		t.Errorf("the instance's volumes: %v", vmi.Object["status"])
	}
}
