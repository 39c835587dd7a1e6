package graph

import (
	"context"
	"encoding/json"
	"fmt"
	"strings"

	"velero-plugin-for-kubevirt/pkg/kubevirt"
	"velero-plugin-for-kubevirt/pkg/object"
)

// vmiMetadata is where a kind has the metadata that the VMI gets: KubeVirt copies the annotations to the launcher pod
// (KubeVirt 1.9.0, pkg/virt-controller/services/template.go).
var vmiMetadata = shape{
	kubevirt.VirtualMachines:                   "spec.template.metadata",
	kubevirt.VirtualMachineInstances:           "metadata",
	kubevirt.VirtualMachineInstanceReplicaSets: "spec.template.metadata",
	kubevirt.VirtualMachinePools:               "spec.virtualMachineTemplate.spec.template.metadata",
}

// inAnnotations returns a lookup for what one annotation of the VMI names.
func inAnnotations(key string, read func(namespace, text string) ([]kubevirt.ID, error)) func(context.Context, Item, Reader) ([]kubevirt.ID, error) {
	return func(_ context.Context, item Item, _ Reader) ([]kubevirt.ID, error) {
		at := vmiMetadata[item.GroupResource] + ".annotations"
		annotations, err := object.Map(item.Object, at)
		if err != nil {
			return nil, err
		}
		text, _ := annotations[key].(string)
		if text == "" {
			return nil, nil
		}
		ids, err := read(item.namespace(), text)
		if err != nil {
			return nil, fmt.Errorf("%s[%s]: %w", at, key, err)
		}
		return ids, nil
	}
}

// sidecars reads the JSON of hook sidecars (KubeVirt 1.9.0, pkg/hooks/hooks.go).
func sidecars(namespace, text string) ([]kubevirt.ID, error) {
	var list []struct {
		ConfigMap struct {
			Name string `json:"name"`
		} `json:"configMap"`
		PVC struct {
			Name string `json:"name"`
		} `json:"pvc"`
	}
	if err := json.Unmarshal([]byte(text), &list); err != nil {
		return nil, err
	}
	var ids []kubevirt.ID
	for _, sidecar := range list {
		if sidecar.ConfigMap.Name != "" {
			ids = append(ids, kubevirt.ID{GroupResource: kubevirt.ConfigMaps, Namespace: namespace, Name: sidecar.ConfigMap.Name})
		}
		if sidecar.PVC.Name != "" {
			ids = append(ids, kubevirt.ID{GroupResource: kubevirt.PersistentVolumeClaims, Namespace: namespace, Name: sidecar.PVC.Name})
		}
	}
	return ids, nil
}

// networks reads the two forms that Multus has for a list of networks: "name, namespace/name@interface" and JSON (Kubernetes
// Network Custom Resource Definition De-facto Standard, section 4.1).
func networks(namespace, text string) ([]kubevirt.ID, error) {
	var ids []kubevirt.ID
	if strings.HasPrefix(strings.TrimSpace(text), "[") {
		var list []struct {
			Name      string `json:"name"`
			Namespace string `json:"namespace"`
		}
		if err := json.Unmarshal([]byte(text), &list); err != nil {
			return nil, err
		}
		for _, network := range list {
			id := namespacedID(kubevirt.NetworkAttachmentDefinitions, namespace, network.Name)
			if network.Namespace != "" {
				id.Namespace = network.Namespace
			}
			ids = append(ids, id)
		}
		return ids, nil
	}
	for network := range strings.SplitSeq(text, ",") {
		network, _, _ = strings.Cut(strings.TrimSpace(network), "@")
		if network != "" {
			ids = append(ids, namespacedID(kubevirt.NetworkAttachmentDefinitions, namespace, network))
		}
	}
	return ids, nil
}
