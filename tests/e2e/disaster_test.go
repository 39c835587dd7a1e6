//go:build e2e

package e2e

import (
	"context"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/util/wait"
	"k8s.io/apimachinery/pkg/util/yaml"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"velero-plugin-for-kubevirt/tests/story"
)

const vmAPI = "kubevirt.io/v1"

// create makes what a file of testdata says, in a new namespace, and waits until it runs. The namespace is lost when the
// test ends.
func (w *anyCluster) create(t *testing.T, namespace, file string) {
	t.Helper()
	w.createAll(t, manifest(t, namespace, file))
	t.Cleanup(func() { w.loseMachines(t, namespace) })
	w.settle(t, namespace)
}

// manifest reads a file of testdata as kubectl --namespace does. An object of the whole cluster keeps its place: the API
// server drops the namespace.
func manifest(t *testing.T, namespace, file string) []*unstructured.Unstructured {
	t.Helper()
	content, err := os.ReadFile(filepath.Join("testdata", file))
	if err != nil {
		t.Fatal(err)
	}
	var objects []*unstructured.Unstructured
	for _, document := range strings.Split(goldenSource(string(content)), "\n---\n") {
		obj := &unstructured.Unstructured{}
		if err := yaml.Unmarshal([]byte(document), &obj.Object); err != nil {
			t.Fatal(err)
		}
		obj.SetNamespace(namespace)
		objects = append(objects, obj)
	}
	return objects
}

// settled has the kinds that controllers work on, and how one sees that an object is what its spec says.
var settled = []struct {
	apiVersion, kind string
	is               func(obj *unstructured.Unstructured) bool
}{
	{vmAPI, "VirtualMachine", func(vm *unstructured.Unstructured) bool {
		want := map[string]string{"Always": "Running", "Halted": "Stopped"}[text(vm, "spec", "runStrategy")]
		return text(vm, "status", "printableStatus") == want
	}},
	{vmAPI, "VirtualMachineInstance", phase("Running")},
	{vmAPI, "VirtualMachineInstanceReplicaSet", everyReplicaIsReady},
	{"pool.kubevirt.io/v1beta1", "VirtualMachinePool", everyReplicaIsReady},
	{"cdi.kubevirt.io/v1beta1", "DataVolume", phase("Succeeded")},
	{"v1", "PersistentVolumeClaim", func(claim *unstructured.Unstructured) bool {
		passing := strings.HasPrefix(claim.GetName(), "prime-") // CDI removes those a moment after its DataVolume has succeeded
		return !passing && text(claim, "status", "phase") == "Bound"
	}},
}

func phase(want string) func(*unstructured.Unstructured) bool {
	return func(obj *unstructured.Unstructured) bool { return text(obj, "status", "phase") == want }
}

func everyReplicaIsReady(group *unstructured.Unstructured) bool {
	want, _, _ := unstructured.NestedInt64(group.Object, "spec", "replicas")
	ready, _, _ := unstructured.NestedInt64(group.Object, "status", "readyReplicas")
	return ready == want
}

func text(obj *unstructured.Unstructured, path ...string) string {
	value, _, _ := unstructured.NestedString(obj.Object, path...)
	return value
}

// settle waits until everything in a namespace is what its spec says.
func (w *anyCluster) settle(t *testing.T, namespace string) {
	t.Helper()
	w.await(t, 90*time.Second, func() string {
		volumes := w.find(t, "cdi.kubevirt.io/v1beta1", "DataVolume", namespace)
		for _, vm := range w.find(t, vmAPI, "VirtualMachine", namespace) {
			templates, _, _ := unstructured.NestedSlice(vm.Object, "spec", "dataVolumeTemplates")
			for _, template := range templates { // a stopped VM is Stopped already before it gets them
				if name, _, _ := unstructured.NestedString(template.(map[string]any), "metadata", "name"); volumes[name] == nil {
					return fmt.Sprintf("VirtualMachine %s has no DataVolume %s", vm.GetName(), name)
				}
			}
		}
		for _, kind := range settled {
			for _, obj := range w.find(t, kind.apiVersion, kind.kind, namespace) {
				if !kind.is(obj) {
					return fmt.Sprintf("%s %s is %v", kind.kind, obj.GetName(), obj.Object["status"])
				}
			}
		}
		return ""
	})
}

// volumeStatus returns what an instance's status says of a volume.
func (w *anyCluster) volumeStatus(t *testing.T, namespace, name, volume string) map[string]any {
	t.Helper()
	vmi := w.find(t, vmAPI, "VirtualMachineInstance", namespace)[name]
	if vmi == nil {
		return nil
	}
	list, _, _ := unstructured.NestedSlice(vmi.Object, "status", "volumeStatus")
	for _, item := range list {
		if status := item.(map[string]any); status["name"] == volume {
			return status
		}
	}
	return nil
}

// await asks until nothing is missing.
func (w *anyCluster) await(t *testing.T, limit time.Duration, missing func() string) {
	t.Helper()
	last := ""
	ctx := context.WithoutCancel(t.Context()) // the end of a test waits, too
	err := wait.PollUntilContextTimeout(ctx, 100*time.Millisecond, limit*w.patience, true, func(context.Context) (bool, error) {
		var stop error
		if t.Context().Err() == nil { // a test that is over cleans up whatever happens
			stop = interrupted.Err()
		}
		last = missing()
		return last == "", stop
	})
	if err != nil {
		t.Fatalf("%v: %s", err, last)
	}
}

// backUpLoseRestore tells what all stories have in common: text is written to every disk in the namespace, it is backed
// up as args say, lost, and restored. Then the same runs again, on the same disks with the same text.
func (w *anyCluster) backUpLoseRestore(t *testing.T, namespace string, args ...string) *story.BackupReport {
	t.Helper()
	return w.backUpLoseChangeRestore(t, namespace, func() []string { return nil }, args...)
}

// backUpLoseChangeRestore is the same with something that happens between loss and restore, which returns what the restore
// is told besides.
func (w *anyCluster) backUpLoseChangeRestore(t *testing.T, namespace string, change func() []string, args ...string) *story.BackupReport {
	t.Helper()
	w.writeDisks(t, namespace)
	before := w.inventory(t, namespace)
	report := w.backup(t, args...)
	if want := 2 * len(before.instances); report.HooksAttempted != want || report.HooksFailed != 0 {
		t.Errorf("want %d hooks, had %d and %d failed", want, report.HooksAttempted, report.HooksFailed)
	}
	for _, line := range report.Log {
		if level := line["consistency"]; level == "crash" {
			t.Errorf("%s is only crash-consistent: %s", line.Item(), line["error"])
		}
	}
	w.loseMachines(t, namespace)
	// Without a namespace, Velero also restores the CRDs, and warns that they are there and look different.
	w.restore(t, report.Name, append([]string{"--include-namespaces", namespace}, change()...)...)
	w.settle(t, namespace)
	w.sameAgain(t, namespace, before)
	return report
}

// An inventory is what lives in a namespace.
type inventory struct {
	names     []string    // of everything but instances and pods, with the kind
	instances []types.UID // of VirtualMachineInstances
}

func (w *anyCluster) inventory(t *testing.T, namespace string) inventory {
	t.Helper()
	var has inventory
	for _, kind := range settled {
		found := w.find(t, kind.apiVersion, kind.kind, namespace)
		for _, name := range slices.Sorted(maps.Keys(found)) {
			if kind.kind == "VirtualMachineInstance" { // a replica set gives its instances new names
				has.instances = append(has.instances, found[name].GetUID())
			} else {
				has.names = append(has.names, kind.kind+" "+name)
			}
		}
	}
	return has
}

// sameAgain checks that a namespace has what it had: as many instances, all of them new and each in one pod; the same
// claims with their text; and nothing that is imported again.
func (w *anyCluster) sameAgain(t *testing.T, namespace string, before inventory) {
	t.Helper()
	after := w.inventory(t, namespace)
	if !slices.Equal(after.names, before.names) {
		t.Errorf("there was %q, now there is %q", before.names, after.names)
	}
	if len(after.instances) != len(before.instances) {
		t.Errorf("there were %d instances, now there are %d", len(before.instances), len(after.instances))
	}
	for _, uid := range after.instances {
		if slices.Contains(before.instances, uid) {
			t.Errorf("instance %s was not lost", uid)
		}
	}
	launchers := 0
	for pod := range w.find(t, "v1", "Pod", namespace) {
		switch {
		case strings.HasPrefix(pod, "virt-launcher-"):
			launchers++
		case !strings.HasPrefix(pod, "hp-volume-"):
			t.Errorf("pod %s is not KubeVirt's", pod)
		}
	}
	if launchers != len(after.instances) {
		t.Errorf("%d instances have %d launchers", len(after.instances), launchers)
	}
	w.readDisks(t, namespace)
}

// loseMachines deletes what runs and then the namespace: at finding a VM's finalizers in it, the namespace controller would
// wait for seconds before it looks again.
func (w *anyCluster) loseMachines(t *testing.T, namespace string) {
	t.Helper()
	ctx := context.WithoutCancel(t.Context())
	for _, kind := range []string{"VirtualMachinePool", "VirtualMachineInstanceReplicaSet", "VirtualMachine", "VirtualMachineInstance"} {
		obj := &unstructured.Unstructured{}
		obj.SetKind(kind)
		obj.SetAPIVersion(vmAPI)
		if kind == "VirtualMachinePool" {
			obj.SetAPIVersion("pool.kubevirt.io/v1beta1")
		}
		if err := w.DeleteAllOf(ctx, obj, client.InNamespace(namespace)); err != nil {
			t.Error(err)
		}
	}
	w.await(t, 20*time.Second, func() string {
		left, err := w.Find(ctx, vmAPI, "VirtualMachineInstance", namespace)
		if err != nil || len(left) > 0 {
			return fmt.Sprintf("%d instances are left: %v", len(left), err)
		}
		return ""
	})
	w.lose(t, namespace)
}
