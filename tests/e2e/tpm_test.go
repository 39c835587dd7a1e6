//go:build e2e

package e2e

import (
	"testing"

	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
)

func TestATPMComesBackWithItsState(t *testing.T) {
	w := anywhere(t)
	w.create(t, "bank", "tpm.yaml")
	for claim := range w.find(t, "v1", "PersistentVolumeClaim", "bank") {
		w.backUpLoseRestore(t, "bank", "--selector", "app=vault")
		status := w.volumeStatus(t, "bank", "vault", "persistent-state-for-this-vm")
		if status == nil {
			status = w.volumeStatus(t, "bank", "vault", claim) // its name before KubeVirt 1.8
		}
		used, _, _ := unstructured.NestedString(status, "persistentVolumeClaimInfo", "claimName")
		if used != claim {
			t.Errorf("the VM keeps its state in %q, was in %s", used, claim)
		}
		return
	}
	t.Error("the VM keeps no state")
}
