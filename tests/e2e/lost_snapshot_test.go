//go:build e2e

package e2e

import (
	"testing"
	"time"

	"velero-plugin-for-kubevirt/tests/story"
)

// Velero writes into a VolumeSnapshot before it backs it up (Velero v1.18.1, pkg/backup/actions/csi/volumesnapshot_action.go). It is refused for one disk.
const refusal, refusalBinding = `
apiVersion: admissionregistration.k8s.io/v1
kind: ValidatingAdmissionPolicy
metadata: {name: lost-snapshot}
spec:
  matchConstraints:
    resourceRules: [{apiGroups: [snapshot.storage.k8s.io], apiVersions: [v1], resources: [volumesnapshots], operations: [UPDATE]}]
  validations: [{expression: "request.userInfo.username != 'velero' || object.spec.source.persistentVolumeClaimName != 'writing-1'"}]
`, `
apiVersion: admissionregistration.k8s.io/v1
kind: ValidatingAdmissionPolicyBinding
metadata: {name: lost-snapshot}
spec: {policyName: lost-snapshot, validationActions: [Deny]}
`

// TestASnapshotThatVeleroLosesIsNotInTheVerdict backs up a guest that is frozen while both its disks are snapshotted, but Velero fails to back up the second
// VolumeSnapshot: what is in the backup is not consistent.
func TestASnapshotThatVeleroLosesIsNotInTheVerdict(t *testing.T) {
	w := kubevirtCluster(t)
	vm := writing("forgetful")
	w.policy(t, "kubevirt")
	w.troubleWriting(t, vm)
	w.load(t, refusal)
	defer w.deleteObject(t, "admissionregistration.k8s.io/v1", "ValidatingAdmissionPolicy", "", "lost-snapshot")
	w.load(t, refusalBinding)
	defer w.deleteObject(t, "admissionregistration.k8s.io/v1", "ValidatingAdmissionPolicyBinding", "", "lost-snapshot")
	for n := range 2 {
		var report *story.BackupReport
		w.await(t, time.Minute, func() string {
			if report = w.again(t, append([]string{"--include-namespaces", vm.namespace}, everyOther(n)...)...); report.Phase == "Completed" {
				return "Velero is not refused yet"
			}
			return ""
		})
		w.checkUnforeseen(t, report, map[string]verdict{"writing": {"crash", "DiskNotSnapshotted", "warning"}})
		w.noneIsFrozen(t, vm.namespace)
	}
}
