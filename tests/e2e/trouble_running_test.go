//go:build e2e

package e2e

import (
	"testing"

	"velero-plugin-for-kubevirt/tests/cluster"
)

// hookFailed is what Velero says of a hook that did not work.
const hookFailed = "command terminated with exit code 1"

func TestTroubleAPausedVMComesBack(t *testing.T) {
	w := anywhere(t)
	paused, other := &troubleVM{namespace: "pausing", name: "paused", disks: 1}, healthy("pausing")
	w.troubleRun(t, paused, other)
	w.troubleAsk(t, paused, "pause")
	w.troubleStatus(t, paused, "Paused")
	report := w.backup(t, "--include-namespaces", "pausing")
	troubleHooks(t, report, 4, 0)
	w.disaster(t, "pausing")
	w.restore(t, report.Name, "--include-namespaces", "pausing")
	w.troubleOver(t, paused, other) // to be paused is not in a VM's spec: it runs
}

func TestTroubleAMigratingVMComesBack(t *testing.T) {
	w := kubevirtCluster(t)
	migrating, other := &troubleVM{
		namespace: "migrating", name: "migrating", disks: 1, annotations: cluster.MigrationAnnotation + ": hold",
		storage: "source: {blank: {}}, storage: {accessModes: [ReadWriteMany], resources: {requests: {storage: 8Mi}}}",
	}, healthy("migrating")
	w.troubleRun(t, migrating, other)
	w.troubleMigrate(t, migrating)
	// KubeVirt does not freeze a guest that migrates: its disks are copied as they are.
	report := w.troubleBackup(t, hookFailed, "--include-namespaces", "migrating")
	troubleHooks(t, report, 6, 1)
	w.disaster(t, "migrating")
	// The migration is left out: KubeVirt would refuse it, the VM does not run yet.
	w.restore(t, report.Name, "--include-namespaces", "migrating")
	w.troubleOver(t, migrating, other)
}
