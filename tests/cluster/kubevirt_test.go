//go:build e2e

package cluster

import (
	"context"
	"fmt"
	"os"
	"strings"
	"syscall"
	"testing"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/util/wait"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/util/retry"
)

// TestWholeCluster looks at bytes in volumes, and lets CDI's own processes treat DataVolumes and KubeVirt's treat VMs.
func TestWholeCluster(t *testing.T) {
	if err := Build(t.Context(), os.Stderr); err != nil {
		t.Fatal(err)
	}
	started := time.Now()
	c, err := Start(t.Context(), Options{Progress: os.Stderr})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = c.Stop() })
	t.Logf("cluster up after %s", time.Since(started))
	for _, test := range []struct {
		name string
		run  func(*testing.T, *Cluster)
	}{
		{"volumes keep bytes", testVolumes},
		{"a group of volumes is snapshotted", testGroupSnapshot},
		{"a volume waits for its consumer", testOnDemand},
		{"the driver fails as it is told to", testCSIFaults},
		{"DataVolumes are filled", testDataVolumes},
		{"DataVolumes are restored", testRestoredDataVolumes},
		{"runs a VM", testRun},
		{"freezes a guest", testFreeze},
		{"fails as a guest is told to, with virt-freezer", testTroubledGuest},
		{"serves subresources", testSubresources},
		{"stops and starts a VM", testStopStart},
		{"hotplugs a volume", testHotplug},
		{"migrates a VM", testMigration},
		{"holds and fails migrations", testTroubledMigration},
		{"pins revisions of an instancetype", testInstancetype},
		{"keeps the state of a TPM", testTPM},
		{"lets a guest write", testWrites},
		{"restarts what wants to begin anew", testReinitialisation},
		{"notices the death of virt-controller", testControllerDeath},
	} {
		if !t.Run(test.name, func(t *testing.T) { test.run(t, c) }) && c.Err() != nil {
			t.Fatal(c.Err())
		}
	}
}

// manifest is a VM without any disk that would have to come from somewhere. Its name goes twice into it.
const manifest = `
apiVersion: kubevirt.io/v1
kind: VirtualMachine
metadata: {name: %[1]s, namespace: kv, labels: {app: %[1]s}}
spec:
  runStrategy: Always
  template:
    metadata: {labels: {app: %[1]s}}
    spec:
      domain:
        resources: {requests: {memory: 64Mi}}
        devices:
          disks: [{name: scratch, disk: {bus: virtio}}]
      volumes: [{name: scratch, emptyDisk: {capacity: 1Gi}}]
`

// newVM creates a VM in namespace kv, changed by the test, and returns what says only which it is.
func newVM(t *testing.T, c *Cluster, name string, changes ...func(spec map[string]any)) *unstructured.Unstructured {
	t.Helper()
	objects, err := decode(fmt.Appendf(nil, manifest, name))
	if err != nil {
		t.Fatal(err)
	}
	for _, change := range changes {
		change(objects[0].Object["spec"].(map[string]any))
	}
	create(t, c, objects[0])
	vm := object("kubevirt.io/v1", "VirtualMachine", "kv", name)
	t.Cleanup(func() { remove(t, c, vm) })
	return vm
}

func create(t *testing.T, c *Cluster, obj *unstructured.Unstructured) {
	t.Helper()
	if err := c.Load(t.Context(), []*unstructured.Unstructured{obj}); err != nil {
		t.Fatal(err)
	}
}

// remove deletes an object and waits until it is gone.
func remove(t *testing.T, c *Cluster, obj *unstructured.Unstructured) {
	t.Helper()
	ctx := context.WithoutCancel(t.Context())
	resource, _, err := c.clients.resource(obj)
	if err != nil {
		t.Error(err)
		return
	}
	if err := resource.Delete(ctx, obj.GetName(), metav1.DeleteOptions{}); err != nil {
		t.Error(err)
		return
	}
	err = poll(ctx, "the deletion of "+describe(obj), func(ctx context.Context) error {
		if _, err := resource.Get(ctx, obj.GetName(), metav1.GetOptions{}); err == nil {
			return fmt.Errorf("it is still there")
		}
		return nil
	})
	if err != nil {
		t.Error(err)
	}
}

// change updates an object.
func change(t *testing.T, c *Cluster, obj *unstructured.Unstructured, how func(map[string]any)) {
	t.Helper()
	resource, _, err := c.clients.resource(obj)
	if err != nil {
		t.Fatal(err)
	}
	err = retry.RetryOnConflict(retry.DefaultBackoff, func() error {
		live, err := resource.Get(t.Context(), obj.GetName(), metav1.GetOptions{})
		if err != nil {
			return err
		}
		how(live.Object)
		_, err = resource.Update(t.Context(), live, metav1.UpdateOptions{})
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
}

func await(t *testing.T, c *Cluster, obj *unstructured.Unstructured, what string, satisfied func(*unstructured.Unstructured) bool) {
	t.Helper()
	if err := c.clients.await(t.Context(), obj, what, 20*time.Second, satisfied); err != nil {
		t.Fatalf("%v\n%v", err, live(t, c, obj).Object["status"])
	}
}

func awaitStatus(t *testing.T, c *Cluster, vm *unstructured.Unstructured, status string) {
	t.Helper()
	await(t, c, vm, status, func(live *unstructured.Unstructured) bool {
		return nestedString(live, "status", "printableStatus") == status
	})
}

// instanceOf says only which VirtualMachineInstance a VM has.
func instanceOf(vm *unstructured.Unstructured) *unstructured.Unstructured {
	return object("kubevirt.io/v1", "VirtualMachineInstance", vm.GetNamespace(), vm.GetName())
}

// launcherOf returns the pod in which a VM runs.
func launcherOf(t *testing.T, c *Cluster, vm *unstructured.Unstructured) *unstructured.Unstructured {
	t.Helper()
	resource, _, err := c.clients.resource(object("v1", "Pod", vm.GetNamespace(), ""))
	if err != nil {
		t.Fatal(err)
	}
	var pods *unstructured.UnstructuredList
	// A migration has succeeded a moment before the pod that the VM left ends.
	err = wait.PollUntilContextTimeout(t.Context(), 100*time.Millisecond, 30*time.Second, true, func(ctx context.Context) (bool, error) {
		pods, err = resource.List(ctx, metav1.ListOptions{
			LabelSelector: "kubevirt.io=virt-launcher,vm.kubevirt.io/name=" + vm.GetName(), FieldSelector: "status.phase=Running",
		})
		return err == nil && len(pods.Items) == 1, err
	})
	if err != nil {
		t.Fatalf("waiting for the one pod that %s runs in: %v", describe(vm), err)
	}
	return &pods.Items[0]
}

func testRun(t *testing.T, c *Cluster) {
	started := time.Now()
	vm := newVM(t, c, "web")
	awaitStatus(t, c, vm, "Running")
	t.Logf("running after %s", time.Since(started))
	pod := launcherOf(t, c, vm)
	if got, want := pod.GetAnnotations()["pre.hook.backup.velero.io/command"], `["/usr/bin/virt-freezer", "--freeze", "--name", "web", "--namespace", "kv"]`; got != want {
		t.Errorf("the hook before a backup is %s", got)
	}
	for _, condition := range []string{"Ready", "AgentConnected", "LiveMigratable"} {
		await(t, c, instanceOf(vm), condition, func(live *unstructured.Unstructured) bool { return conditionTrue(live, condition) })
	}
	// Nobody but KubeVirt writes an instance's status.
	change(t, c, instanceOf(vm), func(live map[string]any) { live["status"].(map[string]any)["fsFreezeStatus"] = "frozen" })
	if got := nestedString(live(t, c, instanceOf(vm)), "status", "fsFreezeStatus"); got != "" {
		t.Errorf("a stranger could set fsFreezeStatus to %q", got)
	}
}

// freezer returns a function that runs virt-freezer in a VM's launcher and returns what it printed and its exit code.
func freezer(t *testing.T, c *Cluster, vm *unstructured.Unstructured) func(args ...string) (string, int) {
	pod := launcherOf(t, c, vm)
	return func(args ...string) (string, int) {
		t.Helper()
		argv := append([]string{freezerProgram, "--name", vm.GetName(), "--namespace", vm.GetNamespace()}, args...)
		stdout, stderr, code := execute(t, c, pod.GetNamespace(), pod.GetName(), "compute", "", argv...)
		return stdout + stderr, code
	}
}

func awaitFreezeStatus(t *testing.T, c *Cluster, vm *unstructured.Unstructured, want string) {
	t.Helper()
	await(t, c, instanceOf(vm), "fsFreezeStatus "+want, func(live *unstructured.Unstructured) bool {
		return nestedString(live, "status", "fsFreezeStatus") == want
	})
}

func testFreeze(t *testing.T, c *Cluster) {
	vm := newVM(t, c, "frosty")
	awaitStatus(t, c, vm, "Running")
	run, before := freezer(t, c, vm), len(c.Guest.Events())
	for _, args := range [][]string{{"--freeze"}, {"--unfreeze"}, {"--freeze", "--unfreezeTimeoutSeconds", "1"}} {
		started := time.Now()
		if out, code := run(args...); code != 0 || !strings.Contains(out, "Operation completed successfully") {
			t.Fatalf("%s gives %d: %s", args, code, out)
		}
		t.Logf("%s twice took %s", args, time.Since(started))
		want := ""
		if args[0] == "--freeze" {
			want = "frozen"
		}
		awaitFreezeStatus(t, c, vm, want)
		if len(args) == 1 && c.Guest.IsFrozen("kv", "frosty") != (want == "frozen") {
			t.Errorf("after %s the guest's state is wrong: %v", args, c.Guest.Events()[before:])
		}
	}
	awaitFreezeStatus(t, c, vm, "")
	var actions []Action
	for _, event := range c.Guest.Events()[before:] {
		actions = append(actions, event.Action)
	}
	if got := fmt.Sprint(actions); got != "[frozen thawed frozen thawed by timeout]" {
		t.Errorf("the guest was %s", got)
	}
	if out, code := freezeElsewhere(t, c); code != 127 {
		t.Errorf("another program gives %d: %s", code, out)
	}
}

func freezeElsewhere(t *testing.T, c *Cluster) (string, int) {
	pod := launcherOf(t, c, object("kubevirt.io/v1", "VirtualMachine", "kv", "frosty"))
	stdout, stderr, code := execute(t, c, "kv", pod.GetName(), "compute", "", "ls", "/")
	return stdout + stderr, code
}

func testTroubledGuest(t *testing.T, c *Cluster) {
	vm := newVM(t, c, "troubled")
	awaitStatus(t, c, vm, "Running")
	run := freezer(t, c, vm)
	for _, knob := range []struct {
		annotation, value, want string
		code                    int
	}{
		{FreezeErrorAnnotation, "VSS provider failed", "VSS provider failed", 1},
		{AgentAnnotation, "false", "No guest agent, exiting", 0},
	} {
		change(t, c, instanceOf(vm), func(live map[string]any) {
			_ = unstructured.SetNestedField(live, knob.value, "metadata", "annotations", knob.annotation)
		})
		err := poll(t.Context(), "virt-freezer to notice "+knob.annotation, func(context.Context) error {
			if out, code := run("--freeze"); code != knob.code || !strings.Contains(out, knob.want) {
				return fmt.Errorf("it gives %d: %s", code, out)
			}
			return nil
		})
		if err != nil {
			t.Error(err)
		}
	}
	await(t, c, instanceOf(vm), "without agent", func(live *unstructured.Unstructured) bool { return !conditionTrue(live, "AgentConnected") })
	held := newVM(t, c, "held", func(spec map[string]any) {
		_ = unstructured.SetNestedField(spec, "true", "template", "metadata", "annotations", HoldAnnotation)
	})
	await(t, c, instanceOf(held), "scheduled", func(live *unstructured.Unstructured) bool {
		return nestedString(live, "status", "phase") == "Scheduled"
	})
}

// subresource sends a request to virt-api through the API server.
func subresource(t *testing.T, c *Cluster, verb, path, body string) string {
	t.Helper()
	client, err := kubernetes.NewForConfig(c.RESTConfig)
	if err != nil {
		t.Fatal(err)
	}
	answer, err := client.RESTClient().Verb(verb).AbsPath("/apis/subresources.kubevirt.io/v1/namespaces/kv", path).Body([]byte(body)).DoRaw(t.Context())
	if err != nil {
		t.Fatalf("%s %s: %v: %s", verb, path, err, answer)
	}
	return string(answer)
}

func testSubresources(t *testing.T, c *Cluster) {
	vm := newVM(t, c, "sub")
	awaitStatus(t, c, vm, "Running")
	subresource(t, c, "PUT", "virtualmachineinstances/sub/freeze", `{"unfreezeTimeout": "5m0s"}`)
	if !c.Guest.IsFrozen("kv", "sub") {
		t.Error("the guest is not frozen")
	}
	if info := subresource(t, c, "GET", "virtualmachineinstances/sub/guestosinfo", ""); !strings.Contains(info, "guest-fsfreeze-freeze") {
		t.Errorf("the guest says of itself: %s", info)
	}
	subresource(t, c, "PUT", "virtualmachineinstances/sub/unfreeze", "")
	subresource(t, c, "PUT", "virtualmachineinstances/sub/pause", "{}")
	awaitStatus(t, c, vm, "Paused")
	if out, code := freezer(t, c, vm)("--freeze"); code != 0 || !strings.Contains(out, "VM domain not running") {
		t.Errorf("freezing a paused guest gives %d: %s", code, out)
	}
	subresource(t, c, "PUT", "virtualmachineinstances/sub/unpause", "{}")
	awaitStatus(t, c, vm, "Running")
}

func testReinitialisation(t *testing.T, c *Cluster) {
	controller := processNamed(t, c, "virt-controller")
	before := controller.pid()
	// It watches this one definition, and exits with 0 when it goes and when it comes.
	crd := live(t, c, object("apiextensions.k8s.io/v1", "CustomResourceDefinition", "", "datavolumes.cdi.kubevirt.io"))
	remove(t, c, crd)
	create(t, c, crd)
	err := poll(t.Context(), "virt-controller to begin anew", func(ctx context.Context) error {
		if controller.pid() == before {
			return fmt.Errorf("it is still process %d", before)
		}
		return controller.command.ready(ctx)
	})
	if err != nil {
		t.Fatal(err)
	}
	if err := processNamed(t, c, "virt-api").command.ready(t.Context()); err != nil {
		t.Error(err)
	}
	awaitStatus(t, c, newVM(t, c, "late"), "Running")
}

func processNamed(t *testing.T, c *Cluster, name string) *process {
	t.Helper()
	for _, p := range c.supervisor.list() {
		if p.command.name == name {
			return p
		}
	}
	t.Fatalf("no process %s", name)
	return nil
}

func testControllerDeath(t *testing.T, c *Cluster) {
	if err := syscall.Kill(processNamed(t, c, "virt-controller").pid(), syscall.SIGKILL); err != nil {
		t.Fatal(err)
	}
	select {
	case <-c.Done():
	case <-time.After(5 * time.Second):
		t.Fatal("nobody noticed")
	}
	if err := c.Err(); err == nil || !strings.HasPrefix(err.Error(), "virt-controller exited: signal: killed") {
		t.Errorf("the cause is %v", err)
	}
	testStop(t, c)
	if err := os.RemoveAll(c.Dir); err != nil { // kept for its logs
		t.Error(err)
	}
}
