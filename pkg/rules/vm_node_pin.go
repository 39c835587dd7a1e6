package rules

import (
	"slices"
	"strings"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"

	"velero-plugin-for-kubevirt/pkg/kubevirt"
	"velero-plugin-for-kubevirt/pkg/object"
)

// nodePins are the labels of nodes that differ from cluster to cluster.
var nodePins = []string{corev1.LabelHostname, corev1.LabelTopologyZone, corev1.LabelTopologyRegion}

// A VM that asks for a node of the cluster it was backed up in is never scheduled in another one, and nothing but its status
// says so.
var vmNodePin = Rule{
	ID: "vm-node-pin",
	Kinds: []schema.GroupResource{
		kubevirt.VirtualMachines, kubevirt.VirtualMachineInstances, kubevirt.VirtualMachineInstanceReplicaSets, kubevirt.VirtualMachinePools,
	},
	Phases: []Phase{Restore},
	Why:    "A VM that asks for a host, zone or region that no node of the cluster has is warned about: it would not start.",
	Apply: func(vm map[string]any, in Input) (Result, error) {
		pins, err := NodePins(in.Resource, vm)
		if err != nil {
			return Result{}, err
		}
		var result Result
		for _, pin := range pins {
			has := func(node map[string]string) bool { return slices.Contains(pin.values, node[pin.label]) }
			if !slices.ContainsFunc(in.Nodes, has) {
				result.Warnings = append(result.Warnings, Warning{
					Path: pin.path, What: "no node of this cluster has what the VM asks for, so it will not start",
					Other: kubevirt.ID{GroupResource: kubevirt.Nodes, Name: pin.label + "=" + strings.Join(pin.values, ",")},
				})
			}
		}
		return result, nil
	},
}

// A NodePin is a label that a node must have, with one of some values.
type NodePin struct {
	path, label string
	values      []string
}

// NodePins returns what an item asks of its node's place, by node selector or required node affinity.
func NodePins(resource schema.GroupResource, obj map[string]any) ([]NodePin, error) {
	spec := kubevirt.VMISpec[resource]
	if spec == "" {
		return nil, nil
	}
	var pins []NodePin
	selector, err := object.Map(obj, spec+".nodeSelector")
	if err != nil {
		return nil, err
	}
	for _, label := range nodePins {
		if value, _ := selector[label].(string); value != "" {
			pins = append(pins, NodePin{spec + ".nodeSelector[" + label + "]", label, []string{value}})
		}
	}
	expressions, err := object.Find(obj, spec+".affinity.nodeAffinity.requiredDuringSchedulingIgnoredDuringExecution.nodeSelectorTerms[].matchExpressions[]")
	if err != nil {
		return nil, err
	}
	for _, field := range expressions {
		expression, _ := field.Value.(map[string]any)
		label, _ := expression["key"].(string)
		if expression["operator"] != string(corev1.NodeSelectorOpIn) || !slices.Contains(nodePins, label) {
			continue
		}
		values, err := object.Strings(expression, "values[]")
		if err != nil {
			return nil, err
		}
		pin := NodePin{path: field.Path, label: label}
		for _, value := range values {
			pin.values = append(pin.values, value.Value)
		}
		pins = append(pins, pin)
	}
	return pins, nil
}
