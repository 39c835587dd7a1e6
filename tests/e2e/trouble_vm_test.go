//go:build e2e

package e2e

import (
	"context"
	"fmt"
	"strings"
	"testing"
	"time"

	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/util/wait"
	"k8s.io/apimachinery/pkg/util/yaml"
	"k8s.io/client-go/kubernetes"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"velero-plugin-for-kubevirt/tests/story"
)

// A troubleVM is a VM in a story about trouble. Its disks are named after it, and KubeVirt makes them from templates.
type troubleVM struct {
	namespace, name string
	disks           int
	storage         string // more of the disks' templates, in YAML: source and storage; by default a blank disk
	diskLabels      string // of the disks' templates, in YAML
	more            string // a claim that is its last disk, if any
	marks           string // the VM's annotations, in YAML
	annotations     string // of the template, in YAML
	uid             types.UID
}

// healthy returns a VM that nothing is wrong with.
func healthy(namespace string) *troubleVM {
	return &troubleVM{namespace: namespace, name: "healthy", disks: 1}
}

func (vm *troubleVM) disk(n int) string { return fmt.Sprintf("%s-%d", vm.name, n) }

// text is what the guest has on a disk.
func (vm *troubleVM) text(n int) string { return "written by the guest to " + vm.disk(n) }

// manifest returns the VM as a person would write it.
func (vm *troubleVM) manifest() string {
	storage := vm.storage
	if storage == "" {
		storage = "source: {blank: {}}, storage: {resources: {requests: {storage: 8Mi}}}"
	}
	var templates, volumes []string
	for n := range vm.disks {
		templates = append(templates, fmt.Sprintf("{metadata: {name: %s, labels: {%s}}, spec: {%s}}", vm.disk(n), vm.diskLabels, storage))
		volumes = append(volumes, fmt.Sprintf("{name: disk%d, dataVolume: {name: %s}}", n, vm.disk(n)))
	}
	if vm.more != "" {
		volumes = append(volumes, fmt.Sprintf("{name: more, persistentVolumeClaim: {claimName: %s}}", vm.more))
	}
	return fmt.Sprintf(`
apiVersion: kubevirt.io/v1
kind: VirtualMachine
metadata: {namespace: %[1]s, name: %[2]s, labels: {app: %[2]s}, annotations: {%[6]s}}
spec:
  runStrategy: Always
  dataVolumeTemplates: [%[3]s]
  template:
    metadata: {labels: {app: %[2]s}, annotations: {%[4]s}}
    spec:
      domain: {devices: {}, resources: {requests: {memory: 64Mi}}}
      volumes: [%[5]s]
`, vm.namespace, vm.name, strings.Join(templates, ", "), vm.annotations, strings.Join(volumes, ", "), vm.marks)
}

// troubleLoad creates an object written in YAML.
func (w *anyCluster) troubleLoad(t *testing.T, text string) {
	t.Helper()
	obj := &unstructured.Unstructured{}
	if err := yaml.Unmarshal([]byte(text), &obj.Object); err != nil {
		t.Fatal(err)
	}
	w.createAll(t, []*unstructured.Unstructured{obj})
}

// troubleMigrate begins a live migration of a VM and waits until it is on its way.
func (w *anyCluster) troubleMigrate(t *testing.T, vm *troubleVM) {
	t.Helper()
	w.troubleLoad(t, fmt.Sprintf(`
apiVersion: kubevirt.io/v1
kind: VirtualMachineInstanceMigration
metadata: {namespace: %s, name: journey}
spec: {vmiName: %s}
`, vm.namespace, vm.name))
	w.troubleStatus(t, vm, "Migrating")
}

// troubleMake creates VMs, which the test's end takes away with their namespaces.
func (w *anyCluster) troubleMake(t *testing.T, vms ...*troubleVM) {
	t.Helper()
	for _, vm := range vms {
		w.troubleLoad(t, vm.manifest())
		t.Cleanup(func() { w.disaster(t, vm.namespace) })
	}
}

// troubleRun creates VMs, waits until they run, and writes to their disks.
func (w *anyCluster) troubleRun(t *testing.T, vms ...*troubleVM) {
	t.Helper()
	w.troubleMake(t, vms...)
	for _, vm := range vms {
		vm.uid = w.troubleRuns(t, vm)
		for n := range vm.disks {
			w.writeDisk(t, vm.namespace, vm.disk(n), vm.text(n))
		}
	}
}

// troubleStatus waits until a VM's status is one that KubeVirt prints.
func (w *anyCluster) troubleStatus(t *testing.T, vm *troubleVM, want string) {
	t.Helper()
	live := &unstructured.Unstructured{}
	live.SetAPIVersion("kubevirt.io/v1")
	live.SetKind("VirtualMachine")
	err := wait.PollUntilContextTimeout(t.Context(), 100*time.Millisecond, 40*time.Second*w.patience, true, func(ctx context.Context) (bool, error) {
		err := w.Get(ctx, client.ObjectKey{Namespace: vm.namespace, Name: vm.name}, live)
		status, _, _ := unstructured.NestedString(live.Object, "status", "printableStatus")
		return status == want, client.IgnoreNotFound(err)
	})
	if err != nil {
		t.Fatalf("VM %s/%s is not %s: %v\n%v", vm.namespace, vm.name, want, err, live.Object["status"])
	}
}

// troubleRuns waits until a VM runs and returns the UID of its instance.
func (w *anyCluster) troubleRuns(t *testing.T, vm *troubleVM) types.UID {
	t.Helper()
	w.troubleStatus(t, vm, "Running")
	vmi := w.find(t, "kubevirt.io/v1", "VirtualMachineInstance", vm.namespace)[vm.name]
	if vmi == nil {
		t.Fatalf("VM %s/%s runs without an instance", vm.namespace, vm.name)
	}
	return vmi.GetUID()
}

// troubleOver checks that restored VMs run anew, and on the disks that were backed up.
func (w *anyCluster) troubleOver(t *testing.T, vms ...*troubleVM) {
	t.Helper()
	for _, vm := range vms {
		if w.troubleRuns(t, vm) == vm.uid {
			t.Errorf("VM %s/%s was never lost", vm.namespace, vm.name)
		}
		w.troubleDisks(t, vm)
	}
}

// troubleDisks checks that a VM's disks hold what its guest wrote.
func (w *anyCluster) troubleDisks(t *testing.T, vm *troubleVM) {
	t.Helper()
	for n := range vm.disks {
		w.readDisk(t, vm.namespace, vm.disk(n), vm.text(n))
	}
}

// troubleBackup makes a backup that may have warnings, and errors of the one kind that a text says.
func (w *anyCluster) troubleBackup(t *testing.T, allowed string, args ...string) *story.BackupReport {
	t.Helper()
	w.removeBackup(t, name(t))
	report, err := w.Backup(t.Context(), name(t), args...)
	if err != nil {
		t.Fatal(err)
	}
	for _, line := range report.Log {
		if line.Level() == "error" && (allowed == "" || !strings.Contains(line["error"], allowed)) {
			t.Errorf("the backup is %s: %s: %s", report.Phase, line.Message(), line["error"])
		}
	}
	return report
}

// troubleHooks checks how many hooks Velero ran.
func troubleHooks(t *testing.T, report *story.BackupReport, attempted, failed int) {
	t.Helper()
	if report.HooksAttempted != attempted || report.HooksFailed != failed {
		t.Errorf("%d hooks ran and %d failed, want %d and %d", report.HooksAttempted, report.HooksFailed, attempted, failed)
	}
}

// troubleAsk sends a request about a VM or an instance to virt-api, as virtctl does.
func (w *anyCluster) troubleAsk(t *testing.T, vm *troubleVM, request string) {
	t.Helper()
	kube, err := kubernetes.NewForConfig(w.config)
	if err != nil {
		t.Fatal(err)
	}
	path := fmt.Sprintf("/apis/subresources.kubevirt.io/v1/namespaces/%s/virtualmachineinstances/%s/%s", vm.namespace, vm.name, request)
	if answer, err := kube.RESTClient().Put().AbsPath(path).Body([]byte("{}")).DoRaw(t.Context()); err != nil {
		t.Fatalf("%s: %v: %s", request, err, answer)
	}
}

// disaster deletes all VMs of a namespace and then the namespace: at finding a VM's finalizers in it, the namespace
// controller would wait for seconds before it looks again.
func (w *anyCluster) disaster(t *testing.T, namespaces ...string) {
	t.Helper()
	ctx := context.WithoutCancel(t.Context())
	for _, namespace := range namespaces {
		for _, kind := range []string{"VirtualMachine", "VirtualMachineInstance"} {
			doomed := &unstructured.Unstructured{}
			doomed.SetAPIVersion("kubevirt.io/v1")
			doomed.SetKind(kind)
			if err := w.DeleteAllOf(ctx, doomed, client.InNamespace(namespace)); err != nil {
				t.Error(err)
			}
		}
		err := wait.PollUntilContextTimeout(ctx, 100*time.Millisecond, 20*time.Second*w.patience, true, func(ctx context.Context) (bool, error) {
			left, err := w.Find(ctx, "kubevirt.io/v1", "VirtualMachineInstance", namespace)
			return len(left) == 0, err
		})
		if err != nil {
			t.Errorf("the instances of namespace %s do not go: %v", namespace, err)
		}
		w.lose(t, namespace)
	}
}
