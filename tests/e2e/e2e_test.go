//go:build e2e

// Package e2e tells the stories of backup and restore on real components: the API server, Velero and its object store.
package e2e

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/shlex"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"

	"velero-plugin-for-kubevirt/tests/cluster"
	"velero-plugin-for-kubevirt/tests/readme"
	"velero-plugin-for-kubevirt/tests/scenarios"
	"velero-plugin-for-kubevirt/tests/story"
)

const (
	situation = "../scenarios/running-vm-with-every-volume-type"
	shop      = "shop"
)

// loadShop puts the scenario's VM into the cluster, and takes it away when the test ends.
func (w *testCluster) loadShop(t *testing.T) []*unstructured.Unstructured {
	objects, err := scenarios.Objects(situation)
	if err != nil {
		t.Fatal(err)
	}
	for _, obj := range objects {
		obj.SetFinalizers(nil) // nobody here would remove them
	}
	if err := w.Load(t.Context(), objects); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { w.lose(t, shop) })
	return objects
}

func (w *anyCluster) lose(t *testing.T, namespace string) {
	if err := w.LoseNamespace(context.WithoutCancel(t.Context()), namespace); err != nil {
		t.Error(err)
	}
}

func (w *anyCluster) backup(t *testing.T, args ...string) *story.BackupReport {
	w.removeBackup(t, name(t))
	report, err := w.Backup(t.Context(), name(t), args...)
	if err != nil {
		t.Fatal(err)
	}
	wentWell(t, report.Report)
	return report
}

func (w *anyCluster) restore(t *testing.T, from string, args ...string) *story.Report {
	report, err := w.Restore(t.Context(), name(t), from, args...)
	if err != nil {
		t.Fatal(err)
	}
	wentWell(t, *report)
	return report
}

// name makes a name of the test's, which a Backup and a Restore may both have.
func name(t *testing.T) string { return strings.ToLower(strings.ReplaceAll(t.Name(), "/", "-")) + run }

// wentWell checks that Velero completed without errors and without warnings, but those about the consistency of VMs (which a
// restore logs without counting them): whether
// they are right, checkVerdicts tells.
func wentWell(t *testing.T, report story.Report) {
	t.Helper()
	verdicts := 0
	for _, line := range report.Log {
		if line["consistency"] != "" && line.Level() == "warning" {
			verdicts++
		}
	}
	if report.Phase != "Completed" || report.Errors != 0 || report.Warnings > verdicts {
		t.Errorf("%s: %s, %d errors, %d warnings:\n%s", report.Name, report.Phase, report.Errors, report.Warnings, strings.Join(report.Trouble(), "\n"))
	}
}

// frozenAndThawed checks that Velero ran both hooks of the VM and that the guest noticed.
func (w *anyCluster) frozenAndThawed(t *testing.T, report *story.BackupReport, before int) {
	t.Helper()
	if report.HooksAttempted != 2 || report.HooksFailed != 0 {
		t.Errorf("want 2 hooks, had %d and %d failed", report.HooksAttempted, report.HooksFailed)
	}
	if w.guest == nil {
		return
	}
	var got []cluster.Action
	for _, event := range w.guest.Events()[before:] {
		got = append(got, event.Action)
	}
	if !slices.Equal(got, []cluster.Action{cluster.Frozen, cluster.Thawed}) {
		t.Errorf("the guest was %v", got)
	}
}

// wholeVM are the objects a restored VM needs, by kind.
var wholeVM = map[string][]string{
	"kubevirt.io/v1 VirtualMachine":      {"web"},
	"cdi.kubevirt.io/v1beta1 DataVolume": {"web-hot", "web-root"},
	"v1 PersistentVolumeClaim":           {"persistent-state-for-web-x7k2p", "web-data", "web-hot", "web-root"},
	"v1 Secret":                          {"web-network-data", "web-ssh-key", "web-tls", "web-user-data"},
	"v1 ConfigMap":                       {"web-config"},
	"v1 ServiceAccount":                  {"web"},
	"apps/v1 ControllerRevision":         {"web-linux-v1beta1-1f6b7a30-1", "web-small-v1beta1-9d1a1d2e-1"},
	"instancetype.kubevirt.io/v1beta1 VirtualMachineInstancetype": {"small"},
	"instancetype.kubevirt.io/v1beta1 VirtualMachinePreference":   {"linux"},
}

// isBack checks that the whole VM is in the namespace, marked for CDI and pinned to its revisions, and nothing that
// KubeVirt makes by itself.
func (w *testCluster) isBack(t *testing.T, namespace string) {
	t.Helper()
	for kind, names := range wholeVM {
		apiVersion, kind, _ := strings.Cut(kind, " ")
		found := w.find(t, apiVersion, kind, namespace)
		for _, name := range names {
			if found[name] == nil {
				t.Errorf("%s %s is missing", kind, name)
			}
		}
	}
	if pods := w.find(t, "v1", "Pod", namespace); len(pods) != 0 {
		t.Errorf("pods came back: %v", pods)
	}
	if w.find(t, "kubevirt.io/v1", "VirtualMachineInstance", namespace)["web"] != nil {
		t.Error("the VirtualMachineInstance came back")
	}
	pvcs := w.find(t, "v1", "PersistentVolumeClaim", namespace)
	for dv, obj := range w.find(t, "cdi.kubevirt.io/v1beta1", "DataVolume", namespace) {
		if got := obj.GetAnnotations()["cdi.kubevirt.io/storage.prePopulated"]; got != dv {
			t.Errorf("DataVolume %s is marked prePopulated: %q", dv, got)
		}
		if pvcs[dv] != nil && pvcs[dv].GetAnnotations()["cdi.kubevirt.io/storage.populatedFor"] != dv {
			t.Errorf("PVC %s is not marked populatedFor", dv)
		}
	}
	if state := pvcs["persistent-state-for-web-x7k2p"]; state != nil && state.GetLabels()["persistent-state-for"] != "web" {
		t.Errorf("the backend storage lost its label: %v", state.GetLabels())
	}
	vm := w.find(t, "kubevirt.io/v1", "VirtualMachine", namespace)["web"]
	if vm == nil {
		return
	}
	for path, want := range map[string]string{"instancetype": "web-small-v1beta1-9d1a1d2e-1", "preference": "web-linux-v1beta1-1f6b7a30-1"} {
		if got, _, _ := unstructured.NestedString(vm.Object, "spec", path, "revisionName"); got != want {
			t.Errorf("spec.%s.revisionName is %q, want %q", path, got, want)
		}
	}
	if list := vm.GetAnnotations()["velero.kubevirt.io/additional-items"]; list != "" {
		t.Errorf("the list of additional items was restored: %s", list)
	}
}

func (w *anyCluster) find(t *testing.T, apiVersion, kind, namespace string) map[string]*unstructured.Unstructured {
	t.Helper()
	found, err := w.Find(t.Context(), apiVersion, kind, namespace)
	if err != nil {
		t.Fatal(err)
	}
	return found
}

func TestANamespaceIsLostAndRestored(t *testing.T) {
	w := plainCluster(t)
	w.loadShop(t)
	before := len(w.Guest.Events())
	report := w.backup(t, "--include-namespaces", shop)
	w.frozenAndThawed(t, report, before)
	w.lose(t, shop)
	left := w.restore(t, report.Name, "--include-namespaces", shop).LeftOut()
	var items []string
	for _, line := range left {
		items = append(items, line.Rule()+" "+line.Item())
	}
	slices.Sort(items)
	want := []string{
		"launcher-pod pods/shop/hp-volume-4kq9s",
		"launcher-pod pods/shop/virt-launcher-db-2x8vf",
		"launcher-pod pods/shop/virt-launcher-web-7bqxm",
		"vmi-owned virtualmachineinstances.kubevirt.io/shop/web",
	}
	if !slices.Equal(items, want) {
		t.Errorf("left out: %q\nwant: %q", items, want)
	}
	w.isBack(t, shop)
}

func TestAVMIsBackedUpByItsLabel(t *testing.T) {
	w := plainCluster(t)
	w.loadShop(t)
	before := len(w.Guest.Events())
	report := w.backup(t, "--selector", "app=web")
	w.frozenAndThawed(t, report, before)
	// VM, VMI, 2 pods, 2 DataVolumes, 4 PVCs and their 4 volumes, 4 secrets, a config map, a service account, an instancetype, a
	// preference and the 2 revisions of them.
	oneBlockHeldEveryDisk(t, report, 24)
	w.lose(t, shop)
	w.restore(t, report.Name, "--include-namespaces", shop)
	w.isBack(t, shop)
}

// oneBlockHeldEveryDisk checks that so many items, the VM's, were one ItemBlock, by what Velero logs about it.
func oneBlockHeldEveryDisk(t *testing.T, report *story.BackupReport, items int) {
	t.Helper()
	var blocks []string
	for _, line := range report.Log {
		if strings.HasPrefix(line.Message(), "Backing Up Item Block including ") && !strings.Contains(line.Message(), " namespaces ") {
			blocks = append(blocks, line.Message())
		}
	}
	if len(blocks) != 1 || !strings.HasSuffix(blocks[0], fmt.Sprintf("(%d items in block)", items)) {
		t.Errorf("want one block of %d items, got %q", items, blocks)
	}
}

func TestARestoreByLabelBringsTheWholeVM(t *testing.T) {
	w := plainCluster(t)
	w.loadShop(t)
	report := w.backup(t, "--include-namespaces", shop)
	w.lose(t, shop)
	w.restore(t, report.Name, "--include-namespaces", shop, "--selector", "app=web")
	w.isBack(t, shop)
	if w.find(t, "kubevirt.io/v1", "VirtualMachineInstance", shop)["db"] != nil {
		t.Error("what has not the label came back")
	}
}

func TestAVMIsRestoredIntoAnotherNamespace(t *testing.T) {
	w := plainCluster(t)
	w.loadShop(t)
	report := w.backup(t, "--include-namespaces", shop)
	w.lose(t, shop)
	t.Cleanup(func() { w.lose(t, "branch") })
	w.restore(t, report.Name, "--include-namespaces", shop, "--namespace-mappings", shop+":branch")
	w.isBack(t, "branch")
}

func TestAScheduleMakesABackup(t *testing.T) {
	w := plainCluster(t)
	w.loadShop(t)
	before := len(w.Guest.Events())
	if _, err := w.Velero(t.Context(), "schedule", "create", "every-second", "--schedule", "@every 1s", "--include-namespaces", shop); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if _, err := w.Velero(context.WithoutCancel(t.Context()), "schedule", "delete", "every-second", "--confirm"); err != nil {
			t.Error(err)
		}
	})
	name, err := w.AwaitScheduled(t.Context(), "every-second", 2*time.Minute)
	if err != nil {
		t.Fatal(err)
	}
	report, err := w.BackupReport(t.Context(), name)
	if err != nil {
		t.Fatal(err)
	}
	wentWell(t, report.Report)
	w.frozenAndThawed(t, report, before)
	w.lose(t, shop)
	w.restore(t, report.Name, "--include-namespaces", shop)
	w.isBack(t, shop)
}

func TestABackupMadeWithoutThePluginIsRestoredWithIt(t *testing.T) {
	w := plainCluster(t)
	w.loadShop(t)
	if err := w.RemovePlugin(t.Context(), filepath.Base(binary)); err != nil {
		t.Fatal(err)
	}
	report := w.backup(t, "--include-namespaces", shop)
	if err := w.InstallPlugin(t.Context(), binary); err != nil {
		t.Fatal(err)
	}
	if len(report.Decisions()) != 0 {
		t.Fatalf("the plugin was there: %v", report.Decisions())
	}
	w.lose(t, shop)
	w.restore(t, report.Name, "--include-namespaces", shop)
	w.isBack(t, shop)
}

// TestTheReadmesCommandsWork types what the README tells a person to type.
func TestTheReadmesCommandsWork(t *testing.T) {
	w := plainCluster(t)
	w.loadShop(t)
	t.Cleanup(func() { w.lose(t, "staging") })
	commands, err := readme.Commands("../..")
	if err != nil {
		t.Fatal(err)
	}
	ran := 0
	for _, command := range commands {
		words, err := shlex.Split(command)
		if err != nil {
			t.Fatal(err)
		}
		if words[0] == filepath.Base(binary) {
			typed := exec.CommandContext(t.Context(), binary, words[1:]...)
			typed.Env = append(os.Environ(), "KUBECONFIG="+w.Kubeconfig)
			out, err := typed.CombinedOutput()
			var exit *exec.ExitError
			found := errors.As(err, &exit) && exit.ExitCode() == 1 && (words[1] == "check" || words[1] == "verify") // something is not well, and is told
			if err != nil && !found {
				t.Errorf("%s: %v\n%s", command, err, out)
			}
			if words[1] == "policy" { // a person pipes it into kubectl apply
				w.loadPolicy(t, string(out))
			}
			ran++
		}
		if words[0] != "velero" {
			continue
		}
		if words[1] == "restore" && words[2] == "create" && !strings.Contains(command, "--namespace-mappings") {
			w.lose(t, shop)
		}
		if out, err := w.Velero(t.Context(), words[1:]...); err != nil {
			t.Errorf("%s: %v\n%s", command, err, out)
		}
		ran++
	}
	if ran < 8 {
		t.Errorf("only %d commands in the README", ran)
	}
	w.isBack(t, shop)
	// These volumes are no storage's and have no snapshots. Beside the living VM its data does not come, and no disk is called filled.
	if w.find(t, "kubevirt.io/v1", "VirtualMachine", "staging")["web"] == nil {
		t.Error("VirtualMachine staging/web is missing")
	}
	for dv, obj := range w.find(t, "cdi.kubevirt.io/v1beta1", "DataVolume", "staging") {
		if got := obj.GetAnnotations()["cdi.kubevirt.io/storage.prePopulated"]; got != "" {
			t.Errorf("DataVolume staging/%s is marked prePopulated: %q", dv, got)
		}
	}
	if _, err := w.Velero(t.Context(), "schedule", "delete", "--all", "--confirm"); err != nil {
		t.Error(err)
	}
}
