//go:build e2e

package cluster

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/kubernetes/scheme"
	"k8s.io/client-go/tools/remotecommand"
	utilexec "k8s.io/utils/exec"
)

// echo is an Exec that shows what it was asked, and ends with 42.
func echo(_ context.Context, namespace, pod, container string, argv []string, stdin io.Reader, stdout, stderr io.Writer) (int, error) {
	if stdin != nil {
		if _, err := io.Copy(stdout, stdin); err != nil {
			return 0, err
		}
	}
	fmt.Fprintln(stdout, namespace, pod, container, argv)
	fmt.Fprintln(stderr, "complaint")
	return 42, nil
}

// TestCluster starts two clusters side by side, one with the Guest and one with its own Exec.
func TestCluster(t *testing.T) {
	var guest, other *Cluster
	var guestErr, otherErr error
	var wg sync.WaitGroup
	if err := Build(t.Context(), os.Stderr); err != nil {
		t.Fatal(err)
	}
	started := time.Now()
	without := []string{KubeVirt, CDI}
	wg.Go(func() { guest, guestErr = Start(t.Context(), Options{Without: without}) })
	wg.Go(func() { other, otherErr = Start(t.Context(), Options{Exec: echo, Without: without}) })
	wg.Wait()
	for _, c := range []*Cluster{guest, other} {
		if c != nil {
			t.Cleanup(func() { _ = c.Stop() })
		}
	}
	if err := errors.Join(guestErr, otherErr); err != nil {
		t.Fatal(err)
	}
	t.Logf("two clusters up after %s", time.Since(started))
	t.Run("loads objects", func(t *testing.T) { testLoad(t, guest) })
	t.Run("runs hooks in a backup", func(t *testing.T) { testHooks(t, guest) })
	t.Run("fails as a guest is told to", func(t *testing.T) { testGuest(t, guest) })
	t.Run("restarts Velero for a plugin", func(t *testing.T) { testPlugin(t, guest) })
	t.Run("executes commands", func(t *testing.T) { testExec(t, other) })
	t.Run("deletes pods and namespaces", func(t *testing.T) { testDeletion(t, guest) })
	t.Run("restores", func(t *testing.T) { testRestore(t, guest) })
	t.Run("notices a death", func(t *testing.T) { testDeath(t, other) })
	t.Run("leaves nothing behind", func(t *testing.T) { testStop(t, guest) })
}

const virtualMachine = `
apiVersion: v1
kind: Pod
metadata:
  name: virt-launcher-web
  namespace: shop
  uid: uid-pod
  labels: {kubevirt.io: virt-launcher, kubevirt.io/created-by: uid-vmi}
  annotations:
    pre.hook.backup.velero.io/command: '["/usr/bin/virt-freezer", "--freeze", "--name", "web", "--namespace", "shop"]'
    pre.hook.backup.velero.io/container: compute
    post.hook.backup.velero.io/command: '["/usr/bin/virt-freezer", "--unfreeze", "--name", "web", "--namespace", "shop"]'
    post.hook.backup.velero.io/container: compute
  ownerReferences: [{apiVersion: kubevirt.io/v1, kind: VirtualMachineInstance, name: web, uid: uid-vmi, controller: true}]
spec:
  nodeName: node01
  terminationGracePeriodSeconds: 60
  containers: [{name: compute, image: launcher}]
---
apiVersion: kubevirt.io/v1
kind: VirtualMachineInstance
metadata:
  name: web
  namespace: shop
  uid: uid-vmi
  ownerReferences: [{apiVersion: kubevirt.io/v1, kind: VirtualMachine, name: web, uid: uid-vm, controller: true}]
spec: {domain: {devices: {}}}
status:
  phase: Running
  activePods: {uid-pod: node01}
---
apiVersion: kubevirt.io/v1
kind: VirtualMachine
metadata: {name: web, namespace: shop, uid: uid-vm}
spec: {runStrategy: Always, template: {spec: {domain: {devices: {}}}}}
status: {printableStatus: Running, ready: true}
---
apiVersion: v1
kind: PersistentVolume
metadata: {name: pv-web, uid: uid-pv}
spec:
  accessModes: [ReadWriteOnce]
  capacity: {storage: 1Gi}
  hostPath: {path: /nowhere}
  storageClassName: manual
  claimRef: {apiVersion: v1, kind: PersistentVolumeClaim, namespace: shop, name: root, uid: uid-pvc}
status: {phase: Bound}
---
apiVersion: v1
kind: PersistentVolumeClaim
metadata: {name: root, namespace: shop, uid: uid-pvc, annotations: {pv.kubernetes.io/bind-completed: "yes"}}
spec:
  accessModes: [ReadWriteOnce]
  resources: {requests: {storage: 1Gi}}
  storageClassName: manual
  volumeName: pv-web
status: {phase: Bound, accessModes: [ReadWriteOnce], capacity: {storage: 1Gi}}
`

func live(t *testing.T, c *Cluster, obj *unstructured.Unstructured) *unstructured.Unstructured {
	t.Helper()
	found, err := c.clients.get(t.Context(), obj)
	if err != nil {
		t.Fatal(err)
	}
	return found
}

func testLoad(t *testing.T, c *Cluster) {
	objects, err := decode([]byte(virtualMachine))
	if err != nil {
		t.Fatal(err)
	}
	if err := c.Load(t.Context(), objects); err != nil {
		t.Fatal(err)
	}
	vm := live(t, c, object("kubevirt.io/v1", "VirtualMachine", "shop", "web"))
	vmi := live(t, c, object("kubevirt.io/v1", "VirtualMachineInstance", "shop", "web"))
	pod := object("v1", "Pod", "shop", "virt-launcher-web")
	if err := c.clients.await(t.Context(), pod, "ready", 10*time.Second, func(pod *unstructured.Unstructured) bool { return conditionTrue(pod, "Ready") }); err != nil {
		t.Fatal(err)
	}
	pod = live(t, c, pod)
	if got := nestedString(vm, "status", "printableStatus"); got != "Running" {
		t.Errorf("the VM's status is %q", got)
	}
	if got := vmi.GetOwnerReferences()[0].UID; got != vm.GetUID() {
		t.Errorf("the VMI's owner is %s, not %s", got, vm.GetUID())
	}
	if got := pod.GetLabels()["kubevirt.io/created-by"]; got != string(vmi.GetUID()) {
		t.Errorf("the pod is labelled as created by %s, not %s", got, vmi.GetUID())
	}
	if got := nestedString(vmi, "status", "activePods", string(pod.GetUID())); got != NodeName {
		t.Errorf("the VMI's active pods are %v", vmi.Object["status"])
	}
	claim := object("v1", "PersistentVolumeClaim", "shop", "root")
	if err := c.clients.await(t.Context(), claim, "bound", 10*time.Second, func(claim *unstructured.Unstructured) bool {
		return nestedString(claim, "status", "phase") == "Bound"
	}); err != nil {
		t.Error(err)
	}
}

func testHooks(t *testing.T, c *Cluster) {
	out, err := c.Velero(t.Context(), "backup", "create", "hooks", "--include-namespaces", "shop", "--wait")
	if err != nil {
		t.Fatal(err)
	}
	backup := live(t, c, object("velero.io/v1", "Backup", VeleroNamespace, "hooks"))
	if got := nestedString(backup, "status", "phase"); got != "Completed" {
		t.Errorf("the backup is %s: %s", got, out)
	}
	if got, _, _ := unstructured.NestedInt64(backup.Object, "status", "hookStatus", "hooksAttempted"); got != 2 {
		t.Errorf("%d hooks were attempted: %v", got, backup.Object["status"])
	}
	var actions []Action
	for _, event := range c.Guest.Events() {
		actions = append(actions, event.Action)
	}
	if got := fmt.Sprint(actions); got != "[frozen thawed]" {
		t.Errorf("the guest was %s", got)
	}
	if logs, err := c.Velero(t.Context(), "backup", "logs", "hooks"); err != nil || !strings.Contains(logs, "level=info") {
		t.Errorf("the backup's log: %v\n%s", err, logs)
	}
}

func testGuest(t *testing.T, c *Cluster) {
	freeze := []string{"/usr/bin/virt-freezer", "--freeze", "--name", "web", "--namespace", "shop", "--unfreezeTimeoutSeconds", "1"}
	vmi := object("kubevirt.io/v1", "VirtualMachineInstance", "shop", "web")
	run := func(argv ...string) string {
		stdout, stderr, code := execute(t, c, "shop", "virt-launcher-web", "compute", "", argv...)
		return fmt.Sprintf("%s%s%d", stdout, stderr, code)
	}
	if got := run("ls", "/"); !strings.HasSuffix(got, "127") {
		t.Errorf("an unknown command gives %s", got)
	}
	if got := run(freeze...); !strings.HasSuffix(got, "0") {
		t.Errorf("freezing gives %s", got)
	}
	if got := nestedString(live(t, c, vmi), "status", "fsFreezeStatus"); got != "frozen" || !c.Guest.IsFrozen("shop", "web") {
		t.Errorf("the frozen VMI shows %q", got)
	}
	if err := c.clients.await(t.Context(), vmi, "thawed", 5*time.Second, func(vmi *unstructured.Unstructured) bool {
		return nestedString(vmi, "status", "fsFreezeStatus") == ""
	}); err != nil {
		t.Error(err)
	}
	for annotation, want := range map[string]string{FreezeErrorAnnotation: "VSS provider failed", AgentAnnotation: "No guest agent"} {
		changed := live(t, c, vmi)
		changed.SetAnnotations(map[string]string{annotation: strings.Replace(want, "No guest agent", "false", 1)})
		resource, _, err := c.clients.resource(changed)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := resource.Update(t.Context(), changed, metav1.UpdateOptions{}); err != nil {
			t.Fatal(err)
		}
		if got := run(freeze...); !strings.Contains(got, want) || c.Guest.IsFrozen("shop", "web") {
			t.Errorf("with %s freezing gives %s", annotation, got)
		}
	}
}

// testPlugin installs the S3 plugin under a second name, which registers the same kind of plugin once more.
func testPlugin(t *testing.T, c *Cluster) {
	started := time.Now()
	if err := c.InstallPlugin(t.Context(), c.binaries[objectStorePlugin]); err != nil {
		t.Fatal(err)
	}
	t.Logf("installed a plugin in %s", time.Since(started))
	if out, err := c.Velero(t.Context(), "plugin", "get"); err != nil || !strings.Contains(out, "velero.io/aws") {
		t.Errorf("the plugins are: %s %v", out, err)
	}
	if err := c.RemovePlugin(t.Context(), "no-such-plugin"); err == nil {
		t.Error("removing a plugin that is not there succeeded")
	}
	broken := filepath.Join(t.TempDir(), "broken")
	if err := os.WriteFile(broken, []byte("#!/bin/sh\nexit 1\n"), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := c.InstallPlugin(t.Context(), broken); err == nil || !strings.Contains(err.Error(), "velero exited") {
		t.Errorf("installing a broken plugin gives %v", err)
	}
	if err := c.RemovePlugin(t.Context(), "broken"); err != nil {
		t.Error(err)
	}
	if err := c.Err(); err != nil {
		t.Errorf("the cluster counts as dead: %v", err)
	}
	if _, err := c.Velero(t.Context(), "backup", "get", "no-such-backup"); err == nil || !strings.Contains(err.Error(), "not found") {
		t.Errorf("a failing command gives %v", err)
	}
}

// execute does what kubectl exec does.
func execute(t *testing.T, c *Cluster, namespace, pod, container, stdin string, argv ...string) (stdout, stderr string, code int) {
	t.Helper()
	client, err := kubernetes.NewForConfig(c.RESTConfig)
	if err != nil {
		t.Fatal(err)
	}
	options := &corev1.PodExecOptions{Container: container, Command: argv, Stdin: stdin != "", Stdout: true, Stderr: true}
	request := client.CoreV1().RESTClient().Post().Resource("pods").Namespace(namespace).Name(pod).SubResource("exec").VersionedParams(options, scheme.ParameterCodec)
	spdy, err := remotecommand.NewSPDYExecutor(c.RESTConfig, http.MethodPost, request.URL())
	if err != nil {
		t.Fatal(err)
	}
	websocket, err := remotecommand.NewWebSocketExecutor(c.RESTConfig, http.MethodGet, request.URL().String())
	if err != nil {
		t.Fatal(err)
	}
	for _, executor := range []remotecommand.Executor{spdy, websocket} {
		var out, errs bytes.Buffer
		streams := remotecommand.StreamOptions{Stdout: &out, Stderr: &errs}
		if stdin != "" {
			streams.Stdin = strings.NewReader(stdin)
		}
		err = executor.StreamWithContext(t.Context(), streams)
		stdout, stderr, code = out.String(), errs.String(), 0
		var exit utilexec.ExitError
		if errors.As(err, &exit) {
			code = exit.ExitStatus()
		} else if err != nil {
			t.Fatal(err)
		}
	}
	return stdout, stderr, code
}

func testExec(t *testing.T, c *Cluster) {
	pod := object("v1", "Pod", "default", "box")
	pod.Object["spec"] = map[string]any{"nodeName": NodeName, "containers": []any{map[string]any{"name": "main", "image": "box"}}}
	if err := c.Load(t.Context(), []*unstructured.Unstructured{pod}); err != nil {
		t.Fatal(err)
	}
	stdout, stderr, code := execute(t, c, "default", "box", "main", "input ", "say", "it twice")
	if stdout != "input default box main [say it twice]\n" || stderr != "complaint\n" || code != 42 {
		t.Errorf("exec gives %q, %q, %d", stdout, stderr, code)
	}
}

func testDeletion(t *testing.T, c *Cluster) {
	client, err := kubernetes.NewForConfig(c.RESTConfig)
	if err != nil {
		t.Fatal(err)
	}
	started := time.Now()
	if err := client.CoreV1().Namespaces().Delete(t.Context(), "shop", metav1.DeleteOptions{}); err != nil {
		t.Fatal(err)
	}
	for {
		_, err := client.CoreV1().Namespaces().Get(t.Context(), "shop", metav1.GetOptions{})
		if apierrors.IsNotFound(err) {
			t.Logf("namespace deleted in %s", time.Since(started))
			return
		}
		if time.Since(started) > 30*time.Second {
			t.Fatalf("the namespace is still there: %v", err)
		}
		time.Sleep(100 * time.Millisecond)
	}
}

func testRestore(t *testing.T, c *Cluster) {
	out, err := c.Velero(t.Context(), "restore", "create", "again", "--from-backup", "hooks", "--wait")
	if err != nil {
		t.Fatal(err)
	}
	restore := live(t, c, object("velero.io/v1", "Restore", VeleroNamespace, "again"))
	if got := nestedString(restore, "status", "phase"); got != "Completed" {
		t.Errorf("the restore is %s: %s", got, out)
	}
	live(t, c, object("kubevirt.io/v1", "VirtualMachine", "shop", "web"))
}

// TestCancelledStart breaks off a start half way.
func TestCancelledStart(t *testing.T) {
	if err := Build(t.Context(), os.Stderr); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	out, in := io.Pipe()
	go func() {
		buffer := make([]byte, 1)
		if _, err := out.Read(buffer); err == nil { // the first line: the control plane is up
			cancel()
		}
		_, _ = io.Copy(io.Discard, out)
	}()
	dir := t.TempDir()
	if _, err := Start(ctx, Options{Dir: dir, Progress: in}); !errors.Is(err, context.Canceled) {
		t.Fatalf("starting gives %v", err)
	}
	// Nobody holds the folder any more, and no process has a file open in it.
	held, err := filepath.Glob("/proc/[0-9]*/cwd")
	if err != nil {
		t.Fatal(err)
	}
	for _, link := range held {
		if target, err := os.Readlink(link); err == nil && target == dir {
			t.Errorf("%s is still there", filepath.Dir(link))
		}
	}
}

func testDeath(t *testing.T, c *Cluster) {
	etcd := c.supervisor.list()[0]
	if err := etcd.cmd.Process.Signal(syscall.SIGKILL); err != nil {
		t.Fatal(err)
	}
	select {
	case <-c.Done():
	case <-time.After(5 * time.Second):
		t.Fatal("nobody noticed")
	}
	if err := c.Err(); err == nil || !strings.HasPrefix(err.Error(), "etcd exited: signal: killed") {
		t.Errorf("the cause is %v", err)
	}
	testStop(t, c)
	if err := os.RemoveAll(c.Dir); err != nil { // kept for its logs
		t.Error(err)
	}
}

func testStop(t *testing.T, c *Cluster) {
	processes := c.supervisor.list()
	started := time.Now()
	if err := c.Stop(); err != nil {
		t.Error(err)
	}
	t.Logf("stopped %d processes in %s", len(processes), time.Since(started))
	if took := time.Since(started); took > 10*time.Second {
		t.Errorf("stopping took %s", took)
	}
	for _, p := range processes {
		if err := syscall.Kill(-p.cmd.Process.Pid, 0); !errors.Is(err, syscall.ESRCH) {
			t.Errorf("%s left something behind: %v", p.command.name, err)
		}
	}
	for _, port := range c.ports {
		listener, err := net.Listen("tcp", loopback(port))
		if err != nil {
			t.Errorf("port %d is not free: %v", port, err)
			continue
		}
		listener.Close()
	}
}
