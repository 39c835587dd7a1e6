package main

import (
	"context"
	"fmt"

	k8sv1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	v1 "kubevirt.io/api/core/v1"
)

// targetAddress is where the target of a migration claims to listen: an address that is nobody's (RFC 5737).
const targetAddress = "192.0.2.1"

// migrate does the next step of a migration, as the virt-handlers of both nodes do them
// (KubeVirt v1.8.4, pkg/virt-handler/migration-source.go and migration-target.go).
func (h *handler) migrate(ctx context.Context, vmi *v1.VirtualMachineInstance) error {
	m := vmi.Status.MigrationState
	if m == nil {
		return nil
	}
	target := vmi.Labels[v1.MigrationTargetNodeNameLabel]
	if m.Completed || m.Failed {
		if target == "" {
			return nil
		}
		delete(vmi.Labels, v1.MigrationTargetNodeNameLabel)
		loser := m.SourcePod
		if m.Failed {
			loser = m.TargetPod
		}
		return h.completePod(ctx, vmi.Namespace, loser)
	}
	if target == "" || m.TargetNode == "" || m.TargetPod == "" {
		return nil // virt-controller has not handed it over yet
	}
	now := metav1.Now()
	switch {
	case m.TargetNodeAddress == "":
		prepareTarget(m)
	case m.StartTimestamp == nil:
		m.StartTimestamp, m.Mode = &now, v1.MigrationPreCopy
	case vmi.Annotations[migrationAnnotation] == "hold":
	case vmi.Annotations[migrationAnnotation] == "fail":
		m.EndTimestamp, m.Failed, m.Completed = &now, true, true
		m.FailureReason = "failed as " + migrationAnnotation + " demands"
	case !m.TargetNodeDomainDetected:
		m.TargetNodeDomainDetected, m.TargetNodeDomainReadyTimestamp = true, &now
		if m.TargetState != nil {
			m.TargetState.DomainDetected, m.TargetState.DomainReadyTimestamp = true, &now
		}
	case m.EndTimestamp == nil:
		moveTo(vmi, m.TargetNode)
		m.EndTimestamp = &now
	default:
		m.Completed = true
	}
	return nil // the next step follows the update of this one
}

func prepareTarget(m *v1.VirtualMachineInstanceMigrationState) {
	address := targetAddress
	m.TargetNodeAddress = address
	m.TargetDirectMigrationNodePorts = map[string]int{"49152": 0}
	if m.TargetState != nil {
		m.TargetState.NodeAddress = &address
		m.TargetState.DirectMigrationNodePorts = m.TargetDirectMigrationNodePorts
	}
}

// moveTo is what the target's virt-handler calls acknowledging the migration.
func moveTo(vmi *v1.VirtualMachineInstance, node string) {
	vmi.Labels[v1.NodeNameLabel] = node
	delete(vmi.Labels, v1.OutdatedLauncherImageLabel)
	vmi.Status.LauncherContainerImageVersion = ""
	vmi.Status.NodeName = node
	vmi.Status.EvacuationNodeName = ""
	vmi.Status.MigrationTransport = v1.MigrationTransportUnix
}

// completePod ends a launcher that lost its guest. Pods for its hotplugged volumes and the old state volume stay, and
// the next migration waits, until its pod has ended.
func (h *handler) completePod(ctx context.Context, namespace, name string) error {
	pod, err := h.node.CoreV1().Pods(namespace).Get(ctx, name, metav1.GetOptions{})
	if apierrors.IsNotFound(err) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("completing pod %s: %w", name, err)
	}
	pod.Status.Phase = k8sv1.PodSucceeded
	for i := range pod.Status.Conditions {
		if kind := pod.Status.Conditions[i].Type; kind == k8sv1.PodReady || kind == k8sv1.ContainersReady {
			pod.Status.Conditions[i].Status, pod.Status.Conditions[i].Reason = k8sv1.ConditionFalse, "PodCompleted"
		}
	}
	for i := range pod.Status.ContainerStatuses {
		pod.Status.ContainerStatuses[i].Ready = false
		pod.Status.ContainerStatuses[i].State = k8sv1.ContainerState{
			Terminated: &k8sv1.ContainerStateTerminated{Reason: "Completed", FinishedAt: metav1.Now()},
		}
	}
	_, err = h.node.CoreV1().Pods(namespace).UpdateStatus(ctx, pod, metav1.UpdateOptions{})
	if apierrors.IsNotFound(err) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("completing pod %s: %w", name, err)
	}
	return nil
}
