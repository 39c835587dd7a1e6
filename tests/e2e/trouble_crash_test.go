//go:build e2e

package e2e

import (
	"context"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/util/wait"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"velero-plugin-for-kubevirt/tests/cluster"
)

func TestTroubleACrashLoopingVMComesBack(t *testing.T) {
	w := living(t)
	crashing := &troubleVM{namespace: "crashing", name: "crashing", disks: 1, annotations: cluster.HoldAnnotation + `: "true"`}
	other := healthy("crashing")
	w.troubleRun(t, other)
	w.troubleMake(t, crashing)
	w.troubleStatus(t, crashing, "Starting")
	w.crash(t, crashing)
	w.troubleStatus(t, crashing, "CrashLoopBackOff")
	report := w.troubleBackup(t, hookFailed, "--include-namespaces", "crashing")
	w.disaster(t, "crashing")
	w.restore(t, report.Name, "--include-namespaces", "crashing")
	w.troubleOver(t, other)
	w.troubleStatus(t, crashing, "Starting")
}

// crash lets the pod that a VM has fail, as a kubelet would report it.
func (w *world) crash(t *testing.T, vm *troubleVM) {
	t.Helper()
	err := wait.PollUntilContextTimeout(t.Context(), 100*time.Millisecond, 20*time.Second, true, func(ctx context.Context) (bool, error) {
		var pods corev1.PodList
		err := w.List(ctx, &pods, client.InNamespace(vm.namespace), client.MatchingLabels{"vm.kubevirt.io/name": vm.name})
		if err != nil || len(pods.Items) == 0 {
			return false, err
		}
		pod := &pods.Items[0]
		pod.Status.Phase = corev1.PodFailed
		err = w.Status().Update(ctx, pod)
		return err == nil, client.IgnoreNotFound(err)
	})
	if err != nil {
		t.Fatalf("VM %s/%s has no pod that could fail: %v", vm.namespace, vm.name, err)
	}
}
