//go:build e2e

package e2e

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"slices"
	"strings"
	"testing"
	"time"

	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
)

// typed is a command of the plugin's as a person types it, on this cluster.
func (w *testCluster) typed(t *testing.T, args ...string) *exec.Cmd {
	command := exec.CommandContext(t.Context(), binary, args...)
	command.Env = append(os.Environ(), "KUBECONFIG="+w.Kubeconfig)
	return command
}

// types runs a command and returns what it says. It must end with the exit code.
func (w *testCluster) types(t *testing.T, code int, args ...string) string {
	t.Helper()
	command := w.typed(t, args...)
	said, err := command.CombinedOutput()
	var exit *exec.ExitError
	if err != nil && !errors.As(err, &exit) {
		t.Fatal(err)
	}
	if got := command.ProcessState.ExitCode(); got != code {
		t.Fatalf("%q: exit code %d, want %d:\n%s", args, got, code, said)
	}
	return string(said)
}

// killAfter runs a command and kills it when it says that a step has been done.
func (w *testCluster) killAfter(t *testing.T, step string, args ...string) {
	t.Helper()
	command := w.typed(t, args...)
	var stderr bytes.Buffer
	command.Stderr = &stderr
	stdout, err := command.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := command.Start(); err != nil {
		t.Fatal(err)
	}
	var said []string
	found := false
	for lines := bufio.NewScanner(stdout); !found && lines.Scan(); {
		said = append(said, lines.Text())
		found = strings.HasPrefix(lines.Text(), step)
	}
	if !found {
		_ = command.Wait() // what it said is more
		t.Fatalf("%q never said %q:\n%s\n%s", args, step, strings.Join(said, "\n"), &stderr)
	}
	if err := command.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	_ = command.Wait() // it was killed
}

// kills runs a command again and again and kills it after each of its steps in turn. At last it runs to its end.
func (w *testCluster) kills(t *testing.T, steps []string, args ...string) {
	t.Helper()
	for _, step := range steps {
		w.killAfter(t, step, args...)
	}
	w.types(t, 0, args...)
}

// TestRollback puts a running VM in place of itself as it was backed up – disks from templates, a claim of its own, a TPM, an instancetype – and back again.
// Both are killed after each step and go on.
func TestRollback(t *testing.T) {
	w := kubevirtCluster(t)
	const den, vm = "den", "vm/traveller"
	w.create(t, den, "exile.yaml")
	w.createAll(t, []*unstructured.Unstructured{configMap(den, "beside")})
	w.writeDisks(t, den)
	report := w.backup(t, "--include-namespaces", den)
	back := []string{"rollback", report.Name, vm, "-n", den, "--yes", "--timeout", "1m"}
	undo := []string{"rollback", vm, "-n", den, "--undo", "--yes", "--timeout", "1m"}
	finish := []string{"rollback", vm, "-n", den, "--finish", "--yes", "--timeout", "1m"}
	disks := w.find(t, "v1", "PersistentVolumeClaim", den)
	if len(disks) != 3 {
		t.Fatalf("the VM has the disks %v", disks)
	}
	for claim := range disks {
		w.writeDisk(t, den, claim, "later on "+claim)
	}
	first := w.find(t, vmAPI, "VirtualMachine", den)["traveller"]
	volumes := w.volumesOf(t, den)

	w.refusesToRollBack(t, den, back)

	w.killAfter(t, "its volumes are kept", back...)
	w.types(t, 1, finish...) // it is not done
	w.types(t, 0, undo...)
	w.settle(t, den)
	if again := w.find(t, vmAPI, "VirtualMachine", den)["traveller"]; again.GetUID() != first.GetUID() {
		t.Error("a VM that was only stopped was made anew")
	}
	w.volumesAre(t, volumes, "Bound", "Delete")

	w.kills(t, []string{"written down in", "the VM is stopped", "its volumes are kept", "VirtualMachine, DataVolumes and claims are taken away", "restored from", "the VM runs"}, back...)
	w.settle(t, den)
	w.readDisks(t, den)
	if second := w.find(t, vmAPI, "VirtualMachine", den)["traveller"]; second.GetUID() == first.GetUID() || identityOf(second) != identityOf(first) {
		t.Errorf("rolled back is %s %s, before it was %s %s", second.GetUID(), identityOf(second), first.GetUID(), identityOf(first))
	}
	w.volumesAre(t, volumes, "Released", "Retain")
	w.types(t, 1, back...) // it has been done

	w.kills(t, []string{"what was restored is taken away", "the old volumes are bound again", "the VM is there as it was", "the VM runs", "the volumes have their reclaim policy again"}, undo...)
	w.settle(t, den)
	for claim := range disks {
		w.readDisk(t, den, claim, "later on "+claim)
	}
	if third := w.find(t, vmAPI, "VirtualMachine", den)["traveller"]; identityOf(third) != identityOf(first) {
		t.Errorf("undone is %s, before it was %s", identityOf(third), identityOf(first))
	}
	w.volumesAre(t, volumes, "Bound", "Delete")
	w.awaitVolumes(t, den, volumes)
	w.types(t, 1, undo...) // it has been done

	w.types(t, 0, back...)
	w.readDisks(t, den)
	w.types(t, 0, finish...)
	left := w.volumesOf(t, den)
	for _, volume := range volumes {
		if slices.Contains(left, volume) {
			t.Errorf("the old volume %s is still there", volume)
		}
	}
	w.settle(t, den)
	if secrets := w.find(t, "v1", "Secret", den); secrets["velero-rollback-traveller"] != nil {
		t.Error("the record is still there")
	}
	if w.find(t, "v1", "ConfigMap", den)["beside"] == nil {
		t.Error("what is not the VM's was touched")
	}
}

// refusesToRollBack checks that nothing happens to a VM that shares a disk.
func (w *testCluster) refusesToRollBack(t *testing.T, namespace string, back []string) {
	t.Helper()
	other := w.find(t, vmAPI, "VirtualMachine", namespace)["traveller"].DeepCopy()
	other.Object["metadata"] = map[string]any{"namespace": namespace, "name": "companion"}
	other.Object["spec"] = map[string]any{"runStrategy": "Halted", "template": map[string]any{"spec": map[string]any{
		"domain":  map[string]any{"devices": map[string]any{}, "resources": map[string]any{"requests": map[string]any{"memory": "64Mi"}}},
		"volumes": []any{map[string]any{"name": "archive", "persistentVolumeClaim": map[string]any{"claimName": "archive"}}},
	}}}
	delete(other.Object, "status")
	w.createAll(t, []*unstructured.Unstructured{other})
	said := w.types(t, 1, back...)
	if !strings.Contains(said, "archive is a disk of virtualmachines.kubevirt.io/"+namespace+"/companion, too") {
		t.Errorf("refused with:\n%s", said)
	}
	if w.find(t, "v1", "Secret", namespace)["velero-rollback-traveller"] != nil {
		t.Error("a rollback that was refused has begun")
	}
	w.await(t, 30*time.Second, func() string {
		if err := w.Delete(t.Context(), other); err != nil {
			return ""
		}
		return "companion is there"
	})
}

func configMap(namespace, name string) *unstructured.Unstructured {
	obj := &unstructured.Unstructured{}
	obj.SetAPIVersion("v1")
	obj.SetKind("ConfigMap")
	obj.SetNamespace(namespace)
	obj.SetName(name)
	return obj
}

// identityOf is what the guest of a VM is known by.
func identityOf(vm *unstructured.Unstructured) string {
	firmware, _, _ := unstructured.NestedMap(vm.Object, "spec", "template", "spec", "domain", "firmware")
	return fmt.Sprint(firmware)
}

// volumesOf returns the names of the volumes that claims of a namespace have or had.
func (w *testCluster) volumesOf(t *testing.T, namespace string) []string {
	t.Helper()
	var names []string
	for name, volume := range w.find(t, "v1", "PersistentVolume", "") {
		if text(volume, "spec", "claimRef", "namespace") == namespace {
			names = append(names, name)
		}
	}
	slices.Sort(names)
	return names
}

func (w *testCluster) volumesAre(t *testing.T, names []string, phase, policy string) {
	t.Helper()
	found := w.find(t, "v1", "PersistentVolume", "")
	for _, name := range names {
		volume := found[name]
		if volume == nil || text(volume, "status", "phase") != phase || text(volume, "spec", "persistentVolumeReclaimPolicy") != policy {
			t.Errorf("volume %s is not %s with policy %s: %v", name, phase, policy, volume)
		}
	}
}

// awaitVolumes waits until a namespace has these volumes and no others.
func (w *testCluster) awaitVolumes(t *testing.T, namespace string, want []string) {
	t.Helper()
	w.await(t, 30*time.Second, func() string {
		if got := w.volumesOf(t, namespace); !slices.Equal(got, want) {
			return fmt.Sprintf("the volumes are %q, want %q", got, want)
		}
		return ""
	})
}
