//go:build e2e

package e2e

import (
	"bytes"
	"encoding/json"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"

	"velero-plugin-for-kubevirt/tests/scenarios"
)

const everything = "everything"

// notNeeded are the objects of the scenario that a restore of the VM does not bring: what belongs to the whole cluster, a
// disk that only the running VMI had, and the service account that KubeVirt 1.9 has in the spec and these definitions of
// 1.8 do not.
var notNeeded = []string{
	"VirtualMachineClusterPreference cluster-wide", "KubeVirt kubevirt", "PersistentVolumeClaim hotplugged-into-the-vmi", "ServiceAccount account",
}

func TestEveryReferenceComesBack(t *testing.T) {
	w := plainCluster(t)
	objects := w.loadEverything(t)
	report := w.backup(t, "--selector", "app=all")
	w.theThreeGraphsAgree(t, report.Name)
	w.lose(t, everything)
	w.removeClusterScoped(t, objects)
	w.restore(t, report.Name, "--include-namespaces", everything)
	for _, obj := range objects {
		name := obj.GetKind() + " " + obj.GetName()
		live := w.find(t, obj.GetAPIVersion(), obj.GetKind(), obj.GetNamespace())[obj.GetName()]
		switch obj.GetKind() {
		case "PersistentVolume": // comes back for the claims that do
		case "Pod", "VirtualMachineInstance":
			if live != nil {
				t.Errorf("%s came back", name)
			}
		default:
			if live == nil && !slices.Contains(notNeeded, name) {
				t.Errorf("%s is missing", name)
			}
		}
	}
}

func (w *testCluster) loadEverything(t *testing.T) []*unstructured.Unstructured {
	objects, err := scenarios.Objects("../scenarios/a-vm-with-every-reference")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		w.lose(t, everything)
		w.removeClusterScoped(t, objects)
	})
	if err := w.Load(t.Context(), objects); err != nil {
		t.Fatal(err)
	}
	return objects
}

// removeClusterScoped empties the cluster of what the namespace did not take along.
func (w *testCluster) removeClusterScoped(t *testing.T, objects []*unstructured.Unstructured) {
	for _, obj := range objects {
		if obj.GetNamespace() == everything || obj.GetKind() == "Namespace" {
			continue
		}
		if err := w.Delete(t.Context(), obj.DeepCopy()); err != nil && !apierrors.IsNotFound(err) && !errors.Is(err, t.Context().Err()) {
			t.Error(err)
		}
	}
}

// theThreeGraphsAgree compares what the graph command finds in the cluster, in YAML that kubectl would print, and in the
// backup file.
func (w *testCluster) theThreeGraphsAgree(t *testing.T, backup string) {
	t.Helper()
	dir := t.TempDir()
	file := filepath.Join(dir, "backup.tar.gz")
	if _, err := w.Velero(t.Context(), "backup", "download", backup, "--output", file); err != nil {
		t.Fatal(err)
	}
	dump := filepath.Join(dir, "objects.json")
	if err := os.WriteFile(dump, w.dumpEverything(t), 0o600); err != nil {
		t.Fatal(err)
	}
	live := w.graphOf(t, "--kubeconfig", w.Kubeconfig)
	if len(live) < 40 {
		t.Errorf("only %d objects: %q", len(live), live)
	}
	if fromFile := w.graphOf(t, "-f", dump); !slices.Equal(live, fromFile) {
		t.Errorf("live: %q\nfile: %q", live, fromFile)
	}
	// Cluster-wide preferences and the KubeVirt configuration are not in a backup of one VM.
	live = slices.DeleteFunc(live, func(id string) bool {
		return strings.Contains(id, "clusterpreferences") || strings.Contains(id, "/passt")
	})
	if inBackup := w.graphOf(t, "--backup", file); !slices.Equal(live, inBackup) {
		t.Errorf("live:   %q\nbackup: %q", live, inBackup)
	}
}

// graphOf runs the graph command of the built binary and returns the objects it found, sorted.
func (w *testCluster) graphOf(t *testing.T, from ...string) []string {
	t.Helper()
	var stderr bytes.Buffer
	cmd := exec.CommandContext(t.Context(), binary, append([]string{"graph", "vm", everything + "/all", "-o", "json"}, from...)...)
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	if err != nil {
		t.Errorf("graph %v: %v: %s", from, err, stderr.String())
	}
	var wholes []struct {
		Objects []struct{ Group, Resource, Namespace, Name, State string }
	}
	if err := json.Unmarshal(out, &wholes); err != nil || len(wholes) != 1 {
		t.Fatalf("%v in %s", err, out)
	}
	var ids []string
	for _, node := range wholes[0].Objects {
		if node.State != "present" {
			continue
		}
		ids = append(ids, strings.Join([]string{node.Resource, node.Group, node.Namespace, node.Name}, "/"))
	}
	slices.Sort(ids)
	return ids
}

// dumpEverything reads the objects of the scenario back from the cluster.
func (w *testCluster) dumpEverything(t *testing.T) []byte {
	objects, err := scenarios.Objects("../scenarios/a-vm-with-every-reference")
	if err != nil {
		t.Fatal(err)
	}
	var dump bytes.Buffer
	for _, obj := range objects {
		live := w.find(t, obj.GetAPIVersion(), obj.GetKind(), obj.GetNamespace())[obj.GetName()]
		if live == nil {
			t.Fatalf("%s %s is not in the cluster", obj.GetKind(), obj.GetName())
		}
		data, err := live.MarshalJSON()
		if err != nil {
			t.Fatal(err)
		}
		dump.Write(data)
		dump.WriteByte('\n')
	}
	return dump.Bytes()
}
