package graph

import (
	"context"
	"slices"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"velero-plugin-for-kubevirt/pkg/kubevirt"
	"velero-plugin-for-kubevirt/pkg/object"
)

// activePods selects KubeVirt's pods that still run something: a Completed launcher is the leftover of a migration.
func activePods(namespace string) Query {
	return Query{
		GroupResource: kubevirt.Pods,
		Namespace:     namespace,
		Labels:        kubevirt.PodRoleLabel + " in (" + kubevirt.LauncherRole + "," + kubevirt.HotplugRole + ")",
		Fields:        "status.phase!=Succeeded,status.phase!=Failed",
	}
}

// podsOfInstance finds the launcher pods of a VMI – two during a migration – and the pods that hold their hotplugged disks.
func podsOfInstance(ctx context.Context, vmi Item, reader Reader) ([]kubevirt.ID, error) {
	return podsByInstanceUID(ctx, reader, vmi.namespace(), object.UID(vmi.Object))
}

func podsByInstanceUID(ctx context.Context, reader Reader, namespace, uid string) ([]kubevirt.ID, error) {
	pods, err := PodsOf(ctx, reader, namespace, uid)
	var ids []kubevirt.ID
	for _, pod := range pods {
		ids = append(ids, idOf(kubevirt.Pods, pod))
	}
	return ids, err
}

// PodsOf returns the metadata of the launcher pods of the VMI with a UID and of the pods that hold their hotplugged disks, some of it twice.
func PodsOf(ctx context.Context, reader Reader, namespace, uid string) ([]*metav1.PartialObjectMetadata, error) {
	pods, err := reader.List(ctx, activePods(namespace))
	if err != nil || uid == "" {
		return nil, err
	}
	var found []*metav1.PartialObjectMetadata
	// Most launcher pods are found both ways.
	for _, launcher := range slices.Concat(pods.Labelled(kubevirt.CreatedByLabel, uid), pods.ControlledBy(uid)) {
		found = append(append(found, launcher), pods.ControlledBy(string(launcher.UID))...)
	}
	return found, nil
}

// familyOfPod finds, for a launcher or hotplug pod, its VMI, the VM of that and all its pods. A hotplug pod belongs to a
// launcher pod (KubeVirt 1.9.0, pkg/virt-controller/services/template.go, RenderHotplugAttachmentPodTemplate).
func familyOfPod(ctx context.Context, pod Item, reader Reader) ([]kubevirt.ID, error) {
	parent := object.Owner(pod.Object)
	if parent != nil && parent.Kind == "Pod" {
		pods, err := reader.List(ctx, activePods(pod.namespace()))
		if err != nil {
			return nil, err
		}
		launcher := pods.WithUID(string(parent.UID))
		if launcher == nil {
			return nil, nil
		}
		parent = metav1.GetControllerOf(launcher)
	}
	if parent == nil || parent.Kind != "VirtualMachineInstance" {
		return nil, nil
	}
	ids, err := podsByInstanceUID(ctx, reader, pod.namespace(), string(parent.UID))
	if err != nil {
		return nil, err
	}
	vmis, err := reader.List(ctx, Query{GroupResource: kubevirt.VirtualMachineInstances, Namespace: pod.namespace()})
	if err != nil {
		return nil, err
	}
	if vmi := vmis.WithUID(string(parent.UID)); vmi != nil {
		ids = append(ids, idOf(kubevirt.VirtualMachineInstances, vmi))
		if vm := metav1.GetControllerOf(vmi); vm != nil && vm.Kind == "VirtualMachine" {
			ids = append(ids, kubevirt.ID{GroupResource: kubevirt.VirtualMachines, Namespace: pod.namespace(), Name: vm.Name})
		}
	}
	return ids, nil
}
