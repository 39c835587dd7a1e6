//go:build e2e

package e2e

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/util/yaml"
)

// operations has one order of each kind, and how one sees that KubeVirt has carried it out, or as far as it can here: no
// guest can be asked for the blocks that have changed.
var operations = []struct {
	yaml string
	done func(obj *unstructured.Unstructured) bool
}{
	{`
apiVersion: kubevirt.io/v1
kind: VirtualMachineInstanceMigration
metadata: {namespace: workshop, name: journey}
spec: {vmiName: lathe}
`, phase("Succeeded")},
	{`
apiVersion: snapshot.kubevirt.io/v1beta1
kind: VirtualMachineSnapshot
metadata: {namespace: workshop, name: photo}
spec: {source: {apiGroup: kubevirt.io, kind: VirtualMachine, name: bench}}
`, isTrue("status", "readyToUse")},
	{`
apiVersion: snapshot.kubevirt.io/v1beta1
kind: VirtualMachineRestore
metadata: {namespace: workshop, name: rewind}
spec: {target: {apiGroup: kubevirt.io, kind: VirtualMachine, name: bench}, virtualMachineSnapshotName: photo}
`, isTrue("status", "complete")},
	{`
apiVersion: clone.kubevirt.io/v1beta1
kind: VirtualMachineClone
metadata: {namespace: workshop, name: twin}
spec:
  source: {apiGroup: kubevirt.io, kind: VirtualMachine, name: bench}
  target: {apiGroup: kubevirt.io, kind: VirtualMachine, name: second-bench}
`, phase("Succeeded")},
	{`
apiVersion: export.kubevirt.io/v1beta1
kind: VirtualMachineExport
metadata: {namespace: workshop, name: parcel}
spec: {source: {apiGroup: "", kind: PersistentVolumeClaim, name: to-come}}
`, phase("Pending")},
	{`
apiVersion: backup.kubevirt.io/v1alpha1
kind: VirtualMachineBackupTracker
metadata: {namespace: workshop, name: diary}
spec: {source: {apiGroup: kubevirt.io, kind: VirtualMachine, name: lathe}}
`, always},
	{`
apiVersion: backup.kubevirt.io/v1alpha1
kind: VirtualMachineBackup
metadata: {namespace: workshop, name: entry}
spec: {source: {apiGroup: backup.kubevirt.io, kind: VirtualMachineBackupTracker, name: diary}, pvcName: parts}
`, always},
}

func always(*unstructured.Unstructured) bool { return true }

func isTrue(path ...string) func(*unstructured.Unstructured) bool {
	return func(obj *unstructured.Unstructured) bool {
		value, _, _ := unstructured.NestedBool(obj.Object, path...)
		return value
	}
}

// remains are what KubeVirt and CDI work with while they carry out an order, and what KubeVirt makes no more.
const remains = `
apiVersion: v1
kind: Pod
metadata:
  namespace: workshop
  name: virt-export-parcel-of-old
  labels: {kubevirt.io: virt-exporter}
  ownerReferences: [{apiVersion: export.kubevirt.io/v1beta1, kind: VirtualMachineExport, name: parcel, controller: true}]
spec: {containers: [{name: exporter, image: exporter}]}
---
apiVersion: v1
kind: Pod
metadata:
  namespace: workshop
  name: importer-parts
  labels: {app: containerized-data-importer, cdi.kubevirt.io: importer}
  ownerReferences: [{apiVersion: v1, kind: PersistentVolumeClaim, name: parts, controller: true}]
spec: {containers: [{name: importer, image: importer}]}
---
apiVersion: policy/v1
kind: PodDisruptionBudget
metadata:
  namespace: workshop
  name: kubevirt-migration-pdb-journey
  ownerReferences: [{apiVersion: kubevirt.io/v1, kind: VirtualMachineInstanceMigration, name: journey, controller: true}]
spec: {minAvailable: 2, selector: {matchLabels: {kubevirt.io/vmi-name: lathe}}}
`

// leftOutOfTheWorkshop are the rule and the resource of each line that the restore must log, in order.
var leftOutOfTheWorkshop = []string{
	"disruption-budget poddisruptionbudgets.policy",
	"launcher-pod pods",
	"operation virtualmachinebackups.backup.kubevirt.io",
	"operation virtualmachinebackuptrackers.backup.kubevirt.io",
	"operation virtualmachineclones.clone.kubevirt.io",
	"operation virtualmachineexports.export.kubevirt.io",
	"operation virtualmachineinstancemigrations.kubevirt.io",
	"operation virtualmachinerestores.snapshot.kubevirt.io",
	"revision-owned controllerrevisions.apps",
	"vm-snapshot virtualmachinesnapshots.snapshot.kubevirt.io", // its data was deleted with the namespace
	"vm-snapshot-content virtualmachinesnapshotcontents.snapshot.kubevirt.io",
	"vmi-owned virtualmachineinstances.kubevirt.io",
	"worker pods",
	"worker pods",
	"worker services",
}

func TestOperationsAreNotCarriedOutAgain(t *testing.T) {
	w := kubevirtCluster(t)
	w.create(t, "workshop", "workshop.yaml")
	for _, operation := range operations {
		w.carryOut(t, operation.yaml, operation.done)
	}
	for _, text := range strings.Split(remains, "\n---\n") {
		obj := &unstructured.Unstructured{}
		if err := yaml.Unmarshal([]byte(text), &obj.Object); err != nil {
			t.Fatal(err)
		}
		if err := w.Load(t.Context(), []*unstructured.Unstructured{obj}); err != nil {
			t.Fatal(err)
		}
	}
	original := w.everything(t, "workshop")
	report := w.backup(t, "--include-namespaces", "workshop")
	for _, item := range report.Items {
		if item.GetKind() == "VolumeSnapshot" && !strings.HasPrefix(item.GetName(), "velero-") {
			t.Errorf("%s is in the backup, and would be restored without its VirtualMachineSnapshot", item.GetName())
		}
	}
	w.loseMachines(t, "workshop")
	restored := w.restore(t, report.Name, "--include-namespaces", "workshop")
	var left []string
	for _, line := range restored.LeftOut() {
		resource, _, _ := strings.Cut(line.Item(), "/")
		if resource != "volumeimportsources.cdi.kubevirt.io" { // how disks are filled is another story
			left = append(left, line.Rule()+" "+resource)
		}
	}
	slices.Sort(left)
	if !slices.Equal(left, leftOutOfTheWorkshop) {
		t.Errorf("left out: %q\nwant: %q", left, leftOutOfTheWorkshop)
	}
	w.settle(t, "workshop")
	before := w.everything(t, "workshop")
	time.Sleep(time.Minute) // that nothing happens takes its time
	after := w.everything(t, "workshop")
	for object, is := range after {
		if was, there := before[object]; !there || was != is {
			t.Errorf("%s was\n%s\nand is\n%s", object, was, is)
		}
	}
	for object := range before {
		if _, there := after[object]; !there {
			t.Errorf("%s is gone", object)
		}
	}
	if had, has := things(original), things(after); !slices.Equal(had, has) {
		t.Errorf("there was %q, now there is %q", had, has)
	}
}

// things returns which machines and disks are among everything. Velero restores the snapshots of its own under other names.
func things(everything map[string]string) []string {
	var names []string
	for object := range everything {
		kind, _, _ := strings.Cut(object, " ")
		if slices.Contains([]string{"VirtualMachine", "VirtualMachineInstance", "DataVolume", "PersistentVolumeClaim"}, kind) {
			names = append(names, object)
		}
	}
	slices.Sort(names)
	return names
}

// carryOut gives an order and waits until it is done.
func (w *testCluster) carryOut(t *testing.T, order string, done func(*unstructured.Unstructured) bool) {
	t.Helper()
	obj := &unstructured.Unstructured{}
	if err := yaml.Unmarshal([]byte(order), &obj.Object); err != nil {
		t.Fatal(err)
	}
	if err := w.Load(t.Context(), []*unstructured.Unstructured{obj}); err != nil {
		t.Fatal(err)
	}
	w.await(t, 40*time.Second, func() string {
		live := w.find(t, obj.GetAPIVersion(), obj.GetKind(), obj.GetNamespace())[obj.GetName()]
		if live == nil || !done(live) {
			return fmt.Sprintf("%s %s is %v", obj.GetKind(), obj.GetName(), live)
		}
		return ""
	})
}

// everything returns UID and spec of all that operations are, work on and make.
func (w *testCluster) everything(t *testing.T, namespace string) map[string]string {
	t.Helper()
	kinds := []string{"v1 Pod", "v1 PersistentVolumeClaim", "v1 Service", "apps/v1 ControllerRevision", "batch/v1 Job",
		"policy/v1 PodDisruptionBudget", "snapshot.storage.k8s.io/v1 VolumeSnapshot", "cdi.kubevirt.io/v1beta1 DataVolume",
		"kubevirt.io/v1 VirtualMachine", "kubevirt.io/v1 VirtualMachineInstance", "snapshot.kubevirt.io/v1beta1 VirtualMachineSnapshotContent"}
	for _, operation := range operations {
		obj := &unstructured.Unstructured{}
		if err := yaml.Unmarshal([]byte(operation.yaml), &obj.Object); err != nil {
			t.Fatal(err)
		}
		kinds = append(kinds, obj.GetAPIVersion()+" "+obj.GetKind())
	}
	has := map[string]string{}
	for _, kind := range kinds {
		apiVersion, kind, _ := strings.Cut(kind, " ")
		for name, obj := range w.find(t, apiVersion, kind, namespace) {
			has[kind+" "+name] = fmt.Sprint(obj.GetUID(), obj.GetDeletionTimestamp(), obj.Object["spec"])
		}
	}
	return has
}
