//go:build e2e

package e2e

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	authenticationv1 "k8s.io/api/authentication/v1"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/client-go/tools/clientcmd"
	clientcmdapi "k8s.io/client-go/tools/clientcmd/api"
	"sigs.k8s.io/controller-runtime/pkg/client"

	pluginreader "velero-plugin-for-kubevirt/pkg/cluster"
)

const drillAnnotation = "velero.kubevirt.io/drill"

// TestDrill rehearses the restore of a backup that is good, then with a guest that is not well, then of one from which a root disk was cut out.
func TestDrill(t *testing.T) {
	w := kubevirtCluster(t)
	const mill, scratch = "mill", "drill-mill"
	w.create(t, mill, "mill.yaml")
	report := w.backup(t, "--include-namespaces", mill)
	before := w.traces(t)

	w.looksIntoADrill(t, report.Name, mill, scratch)
	if got := w.traces(t); !slices.Equal(got, before) {
		t.Fatalf("there was %q, now there is %q", before, got)
	}

	said := w.asCronJob(t, "drill", report.Name, "--parallel", "2", "-o", "json")
	var results []struct {
		VM     string `json:"vm"`
		Passed bool   `json:"passed"`
	}
	if err := json.Unmarshal([]byte(said), &results); err != nil {
		t.Fatalf("%v in\n%s", err, said)
	}
	if fmt.Sprint(results) != "[{mill/hollow true} {mill/wheel true}]" {
		t.Errorf("came of it: %v", results)
	}
	w.told(t, report.Name, "Normal", "passed", "2 of 2")
	if got := w.traces(t); !slices.Equal(got, before) {
		t.Errorf("there was %q, now there is %q", before, got)
	}

	said = w.types(t, 1, "drill", report.Name, "--exec", "systemctl is-system-running")
	if want := `mill/hollow failed "systemctl is-system-running" in the guest: exit code 5: played`; !strings.Contains(strings.Join(strings.Fields(said), " "), "in the guest: exit code 5: played") {
		t.Errorf("want %q in\n%s", want, said)
	}
	w.told(t, report.Name, "Warning", "failed", "1 of 2")

	w.drillsWithoutADisk(t, mill)
	if got := w.traces(t); !slices.Equal(got, before) {
		t.Errorf("there was %q, now there is %q", before, got)
	}
}

// looksIntoADrill keeps what a drill made and looks at it.
func (w *testCluster) looksIntoADrill(t *testing.T, backup, source, scratch string) {
	t.Helper()
	w.ensureNamespace(t, scratch)
	if said := w.types(t, 2, "drill", backup); !strings.Contains(said, "namespace "+scratch+" exists") {
		t.Errorf("a namespace that exists is refused with\n%s", said)
	}
	w.lose(t, scratch)
	w.types(t, 0, "drill", backup, "--vm", source+"/wheel", "--keep", "--wait-for", "agent")
	original := w.find(t, vmAPI, "VirtualMachine", source)["wheel"]
	vms := w.find(t, vmAPI, "VirtualMachine", scratch)
	if names := slices.Sorted(maps.Keys(vms)); !slices.Equal(names, []string{"wheel"}) {
		t.Fatalf("rehearsed were %q", names)
	}
	networks, _, _ := unstructured.NestedSlice(vms["wheel"].Object, "spec", "template", "spec", "networks")
	if len(networks) != 1 || networks[0].(map[string]any)["pod"] == nil {
		t.Errorf("the VM is on the networks %v", networks)
	}
	if identityOf(vms["wheel"]) == identityOf(original) {
		t.Errorf("the VM has the identity of its original: %s", identityOf(original))
	}
	if services := w.find(t, "v1", "Service", scratch); len(services) != 0 {
		t.Errorf("there are Services: %v", slices.Collect(maps.Keys(services)))
	}
	policy := w.find(t, "networking.k8s.io/v1", "NetworkPolicy", scratch)["drill"]
	types, _, _ := unstructured.NestedStringSlice(policy.Object, "spec", "policyTypes")
	if !slices.Equal(types, []string{"Ingress", "Egress"}) || policy.Object["spec"].(map[string]any)["ingress"] != nil {
		t.Errorf("the policy is %v", policy.Object["spec"])
	}
	created, vm := policy.GetCreationTimestamp(), vms["wheel"].GetCreationTimestamp()
	if vm.Before(&created) {
		t.Error("the VM was there before the NetworkPolicy")
	}
	w.lose(t, scratch)
	w.await(t, 30*time.Second, func() (left string) {
		for name, restore := range w.find(t, "velero.io/v1", "Restore", w.Namespace) {
			if strings.HasPrefix(name, "drill-") {
				w.removeLabelled(t, name)
				if err := w.Delete(t.Context(), restore); client.IgnoreNotFound(err) != nil {
					t.Fatal(err)
				}
				left = "Restore " + name + " is there"
			}
		}
		return left
	})
}

// asCronJob runs a command with the rights that the documented CronJob has, and returns what it prints.
func (w *testCluster) asCronJob(t *testing.T, args ...string) string {
	t.Helper()
	file, err := os.Open("../../pkg/cli/drill-cronjob.yaml")
	if err != nil {
		t.Fatal(err)
	}
	defer file.Close()
	objects, err := pluginreader.ReadObjects(file)
	if err != nil {
		t.Fatal(err)
	}
	for _, obj := range objects {
		if err := w.Create(t.Context(), obj); err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() {
			if err := w.Delete(context.WithoutCancel(t.Context()), obj); err != nil {
				t.Error(err)
			}
		})
	}
	token := &authenticationv1.TokenRequest{}
	account := &corev1.ServiceAccount{}
	account.Namespace, account.Name = w.Namespace, "velero-drill"
	if err := w.SubResource("token").Create(t.Context(), account, token); err != nil {
		t.Fatal(err)
	}
	kubeconfig, err := clientcmd.LoadFromFile(w.Kubeconfig)
	if err != nil {
		t.Fatal(err)
	}
	for _, user := range kubeconfig.AuthInfos {
		*user = clientcmdapi.AuthInfo{Token: token.Status.Token}
	}
	path := filepath.Join(t.TempDir(), "kubeconfig")
	if err := clientcmd.WriteToFile(*kubeconfig, path); err != nil {
		t.Fatal(err)
	}
	command := w.typed(t, args...)
	command.Env = append(os.Environ(), "KUBECONFIG="+path)
	var stderr bytes.Buffer
	command.Stderr = &stderr
	said, err := command.Output()
	if err != nil {
		t.Fatalf("%v: %s\n%s", err, &stderr, said)
	}
	return string(said)
}

// removeLabelled removes the contents of snapshots that a Restore has made.
func (w *testCluster) removeLabelled(t *testing.T, restore string) {
	t.Helper()
	for _, content := range w.find(t, "snapshot.storage.k8s.io/v1", "VolumeSnapshotContent", "") {
		if content.GetLabels()["velero.io/restore-name"] == restore {
			if err := w.Delete(t.Context(), content); err != nil && !apierrors.IsNotFound(err) {
				t.Fatal(err)
			}
		}
	}
}

// drillsWithoutADisk rehearses a backup that lacks a root disk. KubeVirt would import the image again and the VM would boot, as on its first day.
func (w *testCluster) drillsWithoutADisk(t *testing.T, namespace string) {
	t.Helper()
	claim := w.find(t, "v1", "PersistentVolumeClaim", namespace)["hollow-root"]
	claim.SetLabels(map[string]string{"velero.io/exclude-from-backup": "true"})
	if err := w.Update(t.Context(), claim); err != nil {
		t.Fatal(err)
	}
	report, err := w.Backup(t.Context(), name(t)+"-cut", "--include-namespaces", namespace)
	if err != nil {
		t.Fatal(err)
	}
	said := w.types(t, 1, "drill", report.Name)
	for _, want := range []string{"mill/hollow failed <none> <none> <none> the data of disk hollow-root is not in backup", "mill/wheel passed"} {
		if !strings.Contains(strings.Join(strings.Fields(said), " "), want) {
			t.Errorf("want %q in\n%s", want, said)
		}
	}
	w.told(t, report.Name, "Warning", "failed", "1 of 2")
}

// told checks what a drill has left on a Backup.
func (w *testCluster) told(t *testing.T, backup, kind, word, count string) {
	t.Helper()
	got := w.find(t, "velero.io/v1", "Backup", w.Namespace)[backup].GetAnnotations()[drillAnnotation]
	if !strings.HasPrefix(got, word+" 20") || !strings.HasSuffix(got, ", "+count) {
		t.Errorf("the Backup says %q", got)
	}
	var events corev1.EventList
	if err := w.List(t.Context(), &events, client.InNamespace(w.Namespace)); err != nil {
		t.Fatal(err)
	}
	for _, event := range events.Items {
		if event.InvolvedObject.Name == backup && event.InvolvedObject.Kind == "Backup" && event.Type == kind && strings.HasPrefix(event.Message, got) {
			return
		}
	}
	t.Errorf("no Event of type %s says %q", kind, got)
}

// traces are what a drill must not leave behind.
func (w *testCluster) traces(t *testing.T) []string {
	t.Helper()
	var found []string
	for _, kind := range []struct{ apiVersion, kind, namespace string }{
		{"v1", "Namespace", ""}, {"v1", "PersistentVolume", ""}, {"snapshot.storage.k8s.io/v1", "VolumeSnapshotContent", ""}, {"velero.io/v1", "Restore", w.Namespace},
	} {
		for name := range w.find(t, kind.apiVersion, kind.kind, kind.namespace) {
			found = append(found, kind.kind+" "+name)
		}
	}
	slices.Sort(found)
	return found
}
