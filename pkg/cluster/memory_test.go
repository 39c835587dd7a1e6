package cluster

import (
	"testing"

	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"

	"velero-plugin-for-kubevirt/pkg/graph"
	"velero-plugin-for-kubevirt/pkg/kubevirt"
)

func TestMemorySelectsAsAnAPIServerDoes(t *testing.T) {
	pod := func(namespace, name, role, phase string) *unstructured.Unstructured {
		return &unstructured.Unstructured{Object: map[string]any{
			"metadata": map[string]any{"namespace": namespace, "name": name, "labels": map[string]any{"kubevirt.io": role}},
			"status":   map[string]any{"phase": phase},
		}}
	}
	memory := Memory{kubevirt.Pods: {
		pod("shop", "running", "virt-launcher", "Running"),
		pod("shop", "completed", "virt-launcher", "Succeeded"),
		pod("shop", "other", "virt-api", "Running"),
		pod("office", "elsewhere", "virt-launcher", "Running"),
	}}
	items, err := memory.List(t.Context(), graph.Query{
		GroupResource: kubevirt.Pods, Namespace: "shop", Labels: "kubevirt.io in (virt-launcher)", Fields: "status.phase!=Succeeded",
	})
	if err != nil || len(items.All) != 1 || items.All[0].Name != "running" {
		t.Errorf("got %v, %v", items, err)
	}
	if _, err := memory.List(t.Context(), graph.Query{GroupResource: kubevirt.Pods, Labels: "in in in"}); err == nil {
		t.Error("a selector that cannot be read is no error")
	}
}
