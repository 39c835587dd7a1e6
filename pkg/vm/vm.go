// Package vm has Velero restore one VM, and waits until it runs.
package vm

import (
	"context"
	"errors"
	"fmt"
	"slices"

	velerov1 "github.com/vmware-tanzu/velero/pkg/apis/velero/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	virtv1 "kubevirt.io/api/core/v1"

	"velero-plugin-for-kubevirt/pkg/graph"
	"velero-plugin-for-kubevirt/pkg/kubevirt"
	"velero-plugin-for-kubevirt/pkg/object"
)

// A Cluster is what is read and changed.
type Cluster interface {
	graph.Reader
	Now(ctx context.Context, id kubevirt.ID) (map[string]any, error)
	Create(ctx context.Context, id kubevirt.ID, obj map[string]any) (map[string]any, error)
	Patch(ctx context.Context, id kubevirt.ID, patch []byte) error
	Remove(ctx context.Context, id kubevirt.ID, uid string, dependents metav1.DeletionPropagation) error
	Poll(ctx context.Context, id kubevirt.ID, look func(obj map[string]any) (missing string, err error)) error
}

// A NotGood is what was found to be not as it should be, for people. Other errors mean that something could not be found out or done.
type NotGood string

func (e NotGood) Error() string { return string(e) }

// A Look says what is missing about an object, which is nil when there is none; nothing when all is there.
type Look = func(obj map[string]any) (missing string, err error)

// Poll looks at an object until nothing is missing, and tells waiting what is. What does not come in time is not good.
func Poll(ctx context.Context, cluster Cluster, id kubevirt.ID, waiting func(string), look Look) error {
	err := cluster.Poll(ctx, id, func(obj map[string]any) (string, error) {
		missing, err := look(obj)
		if missing != "" {
			waiting(missing)
		}
		return missing, err
	})
	if errors.Is(err, context.DeadlineExceeded) {
		return NotGood(err.Error())
	}
	return err
}

// Restore returns a Restore of one VM with what it needs, and of nothing else. Selected is the VM's label in the backup.
func Restore(id kubevirt.ID, backup, namespace, selected string, labels map[string]any) map[string]any {
	return map[string]any{
		"apiVersion": velerov1.SchemeGroupVersion.String(), "kind": "Restore",
		"metadata": map[string]any{"namespace": id.Namespace, "name": id.Name, "labels": labels},
		"spec": map[string]any{
			"backupName": backup, "includedNamespaces": []any{namespace},
			"labelSelector": map[string]any{"matchLabels": map[string]any{kubevirt.VMLabel: selected}},
		},
	}
}

// AwaitRestore waits until Velero has done a Restore. One that is gone is not waited for.
func AwaitRestore(ctx context.Context, cluster Cluster, id kubevirt.ID, waiting func(string)) error {
	return Poll(ctx, cluster, id, waiting, func(restore map[string]any) (string, error) {
		phase, err := object.String(restore, "status.phase")
		switch {
		case err != nil || restore == nil:
			return "", err
		case phase == string(velerov1.RestorePhaseCompleted):
			return "", nil
		case slices.Contains([]velerov1.RestorePhase{velerov1.RestorePhasePartiallyFailed, velerov1.RestorePhaseFailed, velerov1.RestorePhaseFailedValidation}, velerov1.RestorePhase(phase)):
			return "", NotGood(fmt.Sprintf("Restore %[1]s is %[2]s: velero restore describe %[1]s --details says why", id.Name, phase))
		}
		return fmt.Sprintf("Velero restores: %s is %q", id.Name, phase), nil
	})
}

// AwaitRunning waits until a VM runs. One that the restore holds, or whose guest ends again and again, is not waited for.
func AwaitRunning(ctx context.Context, cluster Cluster, id kubevirt.ID, waiting func(string)) error {
	return Poll(ctx, cluster, id, waiting, func(vm map[string]any) (string, error) {
		if vm == nil {
			return "", NotGood(fmt.Sprintf("VirtualMachine %s/%s is gone", id.Namespace, id.Name))
		}
		if because := object.Annotation(vm, kubevirt.HeldBecause); because != "" {
			return "", NotGood("the VM is held: " + because)
		}
		status, err := object.String(vm, "status.printableStatus")
		if err != nil || status == string(virtv1.VirtualMachineStatusRunning) {
			return "", err
		}
		why, err := whyNotRunning(vm, status)
		if err == nil && status == string(virtv1.VirtualMachineStatusCrashLoopBackOff) {
			return "", NotGood(why)
		}
		return why, err
	})
}

// whyNotRunning says what KubeVirt says.
func whyNotRunning(vm map[string]any, status string) (string, error) {
	why := fmt.Sprintf("the VM is %q", status)
	conditions, err := object.Find(vm, "status.conditions[]")
	for _, field := range conditions {
		condition, _ := field.Value.(map[string]any)
		if message, _ := condition["message"].(string); message != "" {
			why += fmt.Sprintf("; %v: %s", condition["type"], message)
		}
	}
	return why, err
}
