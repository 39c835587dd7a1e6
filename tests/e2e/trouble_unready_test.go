//go:build e2e

package e2e

import (
	"strings"
	"testing"

	"velero-plugin-for-kubevirt/tests/cluster"
)

func TestTroubleAVMWithoutItsDiskIsHeld(t *testing.T) {
	w := anywhere(t)
	broken, other := &troubleVM{namespace: "broken", name: "diskless"}, healthy("broken")
	w.troubleRun(t, other)
	manifest := strings.Replace(broken.manifest(), "volumes: []", "volumes: [{name: gone, persistentVolumeClaim: {claimName: gone}}]", 1)
	w.troubleLoad(t, manifest)
	w.troubleStatus(t, broken, "ErrorPvcNotFound")
	report := w.troubleBackup(t, "", "--include-namespaces", "broken")
	if !strings.Contains(strings.Join(report.Trouble(), "\n"), "names an object that does not exist") {
		t.Errorf("nobody was told that the disk is missing: %q", report.Trouble())
	}
	w.disaster(t, "broken")
	restored, err := w.Restore(t.Context(), name(t), report.Name, "--include-namespaces", "broken")
	if err != nil {
		t.Fatal(err)
	}
	if restored.Phase != "PartiallyFailed" || restored.Errors != 1 || !strings.Contains(strings.Join(restored.Trouble(), "\n"), "VirtualMachine broken/diskless is not started: nothing fills gone") {
		t.Errorf("%s with %d errors: %q", restored.Phase, restored.Errors, restored.Trouble())
	}
	w.troubleOver(t, other)
	vm := w.find(t, vmAPI, "VirtualMachine", "broken")["diskless"]
	if got := text(vm, "spec", "runStrategy"); got != "Halted" || vm.GetAnnotations()["velero.kubevirt.io/held-run-strategy"] != "Always" {
		t.Errorf("the VM is %s, with %v", got, vm.GetAnnotations())
	}
}

func TestTroubleAVMThatDoesNotBootComesBack(t *testing.T) {
	w := kubevirtCluster(t)
	stuck := &troubleVM{namespace: "booting", name: "stuck", disks: 1, annotations: cluster.HoldAnnotation + `: "true"`}
	other := healthy("booting")
	w.troubleRun(t, other)
	w.troubleMake(t, stuck)
	w.troubleStatus(t, stuck, "Starting")
	// There is no guest yet that could be frozen.
	report := w.troubleBackup(t, hookFailed, "--include-namespaces", "booting")
	w.disaster(t, "booting")
	w.restore(t, report.Name, "--include-namespaces", "booting")
	w.troubleOver(t, other)
	w.troubleStatus(t, stuck, "Starting")
}

func TestTroubleAnUnfinishedImportBeginsAnew(t *testing.T) {
	const url = "http://images.test/late.img"
	w := kubevirtCluster(t)
	early := &troubleVM{
		namespace: "importing", name: "early", disks: 1,
		storage: "source: {http: {url: " + url + "}}, storage: {resources: {requests: {storage: 8Mi}}}",
	}
	other := healthy("importing")
	w.troubleRun(t, other)
	w.troubleMake(t, early)
	w.troubleStatus(t, early, "Provisioning")
	// Velero itself does not back up a claim without a volume, and warns when a restore asks for it.
	report := w.troubleBackup(t, "has no volume backing this claim", "--include-namespaces", "importing")
	w.disaster(t, "importing")
	restored, err := w.Restore(t.Context(), name(t), report.Name, "--include-namespaces", "importing")
	if err != nil || restored.Errors != 0 {
		t.Errorf("the restore is %v, %v", restored, err)
	}
	w.troubleOver(t, other)
	w.troubleStatus(t, early, "Provisioning")
	w.Importer.Serve(url, []byte(golden))
	w.troubleRuns(t, early)
	if got, err := w.ReadText(t.Context(), "importing", early.disk(0)); got != golden {
		t.Errorf("the disk has %q, %v", got, err)
	}
}

func TestTroubleACloneOutlivesItsSource(t *testing.T) {
	w := kubevirtCluster(t)
	w.writeToDisk(t, "library")
	w.troubleLoad(t, `
apiVersion: rbac.authorization.k8s.io/v1
kind: Role
metadata: {namespace: library, name: cloner}
rules: [{apiGroups: [cdi.kubevirt.io], resources: [datavolumes/source], verbs: ["*"]}]
`)
	w.troubleLoad(t, `
apiVersion: rbac.authorization.k8s.io/v1
kind: RoleBinding
metadata: {namespace: library, name: cloner}
roleRef: {apiGroup: rbac.authorization.k8s.io, kind: Role, name: cloner}
subjects: [{kind: ServiceAccount, namespace: reading, name: default}]
`)
	clone := &troubleVM{
		namespace: "reading", name: "clone", disks: 1,
		storage: "source: {pvc: {namespace: library, name: disk}}, storage: {resources: {requests: {storage: 8Mi}}}",
	}
	other := healthy("reading")
	w.troubleRun(t, clone, other)
	report := w.backup(t, "--include-namespaces", "reading")
	w.disaster(t, "reading")
	w.lose(t, "library")
	w.restore(t, report.Name, "--include-namespaces", "reading")
	w.troubleOver(t, clone, other)
}

func TestTroubleADiskMadeForItsFirstConsumerComesBack(t *testing.T) {
	w := kubevirtCluster(t)
	late := &troubleVM{
		namespace: "demanding", name: "late", disks: 2,
		storage: "source: {blank: {}}, storage: {storageClassName: " + cluster.StorageClassOnDemand + ", resources: {requests: {storage: 8Mi}}}",
	}
	other := healthy("demanding")
	w.troubleRun(t, late, other)
	report := w.backup(t, "--include-namespaces", "demanding")
	w.disaster(t, "demanding")
	w.restore(t, report.Name, "--include-namespaces", "demanding")
	w.troubleOver(t, late, other)
}
