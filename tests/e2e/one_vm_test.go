//go:build e2e

package e2e

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
)

// TestOneVMComesOutOfABackupOfTen restores one VM, and then one disk, out of a backup of a namespace in which nothing has a label of its own.
func TestOneVMComesOutOfABackupOfTen(t *testing.T) {
	w := kubevirtCluster(t)
	const namespace, lost = "orchard", "tree-3"
	w.troubleLoad(t, `{apiVersion: v1, kind: Secret, metadata: {namespace: orchard, name: keys}, stringData: {key: "of the gate"}}`)
	w.makeTrees(t, namespace, 10)
	w.writeDisks(t, namespace)
	report := w.backup(t, "--include-namespaces", namespace)
	claimUID := string(w.find(t, "v1", "PersistentVolumeClaim", namespace)[lost].GetUID())
	for _, item := range report.Items {
		switch label := item.GetLabels()["velero.kubevirt.io/pvc-uid"]; item.GetKind() {
		case "PersistentVolumeClaim", "VolumeSnapshot":
			if label == "" {
				t.Errorf("%s %s has no label to be selected by", item.GetKind(), item.GetName())
			}
		}
	}
	for claim := range w.find(t, "v1", "PersistentVolumeClaim", namespace) {
		w.writeDisk(t, namespace, claim, "written to "+claim+" since")
	}
	w.deleteVM(t, namespace, lost)
	w.deleteObject(t, "v1", "Secret", namespace, "keys")
	before := w.versions(t, namespace)

	restored := w.restore(t, report.Name, "--include-namespaces", namespace, "--selector", "velero.kubevirt.io/vm="+lost)
	w.settle(t, namespace)
	if told, _ := toldOf(restored, lost); told != "restored from snapshot" {
		t.Errorf("the log says of the disk: %q", told)
	}
	for name, claim := range w.find(t, "v1", "PersistentVolumeClaim", namespace) {
		want := "written to " + name + " since"
		if name == lost {
			want = "written to " + name
			w.isUnlabelled(t, claim)
		}
		w.readDisk(t, namespace, name, want)
	}
	vms := w.find(t, vmAPI, "VirtualMachine", namespace)
	if len(vms) != 10 || w.find(t, "v1", "Secret", namespace)["keys"] == nil {
		t.Errorf("there are %d VMs; the secret is %v", len(vms), w.find(t, "v1", "Secret", namespace)["keys"])
	}
	w.isUnlabelled(t, vms[lost])
	for what, version := range w.versions(t, namespace) {
		if old, was := before[what]; was && old != version {
			t.Errorf("%s was changed", what)
		}
	}

	t.Run("OneDisk", func(t *testing.T) {
		t.Cleanup(func() { w.lose(t, "cellar") })
		w.restore(t, report.Name, "--include-namespaces", namespace, "--namespace-mappings", namespace+":cellar",
			"--include-resources", "persistentvolumeclaims,volumesnapshots.snapshot.storage.k8s.io", "--selector", "velero.kubevirt.io/pvc-uid="+claimUID)
		claims := w.find(t, "v1", "PersistentVolumeClaim", "cellar")
		if len(claims) != 1 || claims[lost] == nil {
			t.Fatalf("the claims are %v", claims)
		}
		w.isUnlabelled(t, claims[lost])
		w.readDisk(t, "cellar", lost, "written to "+lost)
		for _, snapshot := range w.find(t, "snapshot.storage.k8s.io/v1", "VolumeSnapshot", "cellar") {
			w.isUnlabelled(t, snapshot)
		}
	})
}

// makeTrees makes so many VMs, each with a disk of its name; all name one secret.
func (w *testCluster) makeTrees(t *testing.T, namespace string, count int) {
	t.Helper()
	for n := range count {
		w.troubleLoad(t, fmt.Sprintf(`
apiVersion: kubevirt.io/v1
kind: VirtualMachine
metadata: {namespace: %[1]s, name: tree-%[2]d}
spec:
  runStrategy: Always
  dataVolumeTemplates: [{metadata: {name: tree-%[2]d}, spec: {source: {blank: {}}, storage: {resources: {requests: {storage: 8Mi}}}}}]
  template:
    spec:
      domain: {devices: {}, resources: {requests: {memory: 64Mi}}}
      volumes: [{name: root, dataVolume: {name: tree-%[2]d}}, {name: keys, secret: {secretName: keys}}]
`, namespace, n))
	}
	t.Cleanup(func() { w.loseMachines(t, namespace) })
	w.settle(t, namespace)
}

// deleteVM deletes a VM and waits until its disk is gone with it.
func (w *testCluster) deleteVM(t *testing.T, namespace, name string) {
	t.Helper()
	w.deleteObject(t, vmAPI, "VirtualMachine", namespace, name)
	w.await(t, time.Minute, func() string {
		if w.find(t, vmAPI, "VirtualMachine", namespace)[name] != nil || w.find(t, "v1", "PersistentVolumeClaim", namespace)[name] != nil {
			return "the VM or its disk is still there"
		}
		return ""
	})
}

func (w *testCluster) deleteObject(t *testing.T, apiVersion, kind, namespace, name string) {
	t.Helper()
	doomed := &unstructured.Unstructured{}
	doomed.SetAPIVersion(apiVersion)
	doomed.SetKind(kind)
	doomed.SetNamespace(namespace)
	doomed.SetName(name)
	if err := w.Delete(t.Context(), doomed); err != nil {
		t.Fatal(err)
	}
}

// versions returns the UID and the generation of everything in a namespace that a restore could have touched.
func (w *testCluster) versions(t *testing.T, namespace string) map[string]string {
	t.Helper()
	found := map[string]string{}
	for _, kind := range []string{vmAPI + " VirtualMachine", vmAPI + " VirtualMachineInstance", "cdi.kubevirt.io/v1beta1 DataVolume", "v1 PersistentVolumeClaim", "v1 Pod"} {
		apiVersion, kind, _ := strings.Cut(kind, " ")
		for name, obj := range w.find(t, apiVersion, kind, namespace) {
			found[kind+" "+name] = fmt.Sprint(obj.GetUID(), obj.GetGeneration(), obj.GetLabels())
		}
	}
	return found
}

// isUnlabelled checks that nothing of what the backup was labelled with is left.
func (w *testCluster) isUnlabelled(t *testing.T, obj *unstructured.Unstructured) {
	t.Helper()
	if obj == nil {
		t.Error("it is not there")
		return
	}
	for key := range obj.GetLabels() {
		if strings.HasPrefix(key, "velero.kubevirt.io/") {
			t.Errorf("%s %s has the label %s", obj.GetKind(), obj.GetName(), key)
		}
	}
	for key := range obj.GetAnnotations() {
		if strings.HasPrefix(key, "velero.kubevirt.io/original-") {
			t.Errorf("%s %s has the annotation %s", obj.GetKind(), obj.GetName(), key)
		}
	}
}
