package cluster

import (
	"reflect"
	"slices"
	"strings"
	"testing"

	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
)

func TestReplaceUIDs(t *testing.T) {
	got := replaceUIDs(map[string]any{
		"metadata": map[string]any{
			"name":            "uid-vm",
			"labels":          map[string]any{"kubevirt.io/created-by": "uid-vmi", "app": "web"},
			"ownerReferences": []any{map[string]any{"name": "uid-vm", "uid": "uid-vm"}},
		},
		"status": map[string]any{"activePods": map[string]any{"uid-pod": "node01"}, "replicas": int64(2)},
	}, map[string]string{"uid-vm": "1", "uid-vmi": "2", "uid-pod": "3"})
	want := map[string]any{
		"metadata": map[string]any{
			"name":            "uid-vm",
			"labels":          map[string]any{"kubevirt.io/created-by": "2", "app": "web"},
			"ownerReferences": []any{map[string]any{"name": "uid-vm", "uid": "1"}},
		},
		"status": map[string]any{"activePods": map[string]any{"3": "node01"}, "replicas": int64(2)},
	}
	if !reflect.DeepEqual(got, want) {
		t.Errorf("got %v", got)
	}
}

func fixture(t *testing.T, text string) []*unstructured.Unstructured {
	t.Helper()
	objects, err := decode([]byte(text))
	if err != nil {
		t.Fatal(err)
	}
	return objects
}

func TestInOrder(t *testing.T) {
	sorted, err := inOrder(fixture(t, `
apiVersion: v1
kind: List
items:
- {apiVersion: v1, kind: Pod, metadata: {name: hotplug, uid: d, ownerReferences: [{kind: Pod, name: launcher, uid: c}]}}
- {apiVersion: v1, kind: Pod, metadata: {name: launcher, uid: c, labels: {kubevirt.io/created-by: b}}}
- {apiVersion: kubevirt.io/v1, kind: VirtualMachineInstance, metadata: {name: web, uid: b, ownerReferences: [{uid: a}]}, status: {activePods: {c: node01}}}
- {apiVersion: kubevirt.io/v1, kind: VirtualMachine, metadata: {name: web, uid: a}}
---
apiVersion: v1
kind: PersistentVolume
metadata: {name: pv}
spec: {claimRef: {name: root, uid: e}}
---
---
{"apiVersion": "v1", "kind": "PersistentVolumeClaim", "metadata": {"name": "root", "uid": "e"}}
---
apiVersion: v1
kind: Namespace
metadata: {name: shop}
`))
	if err != nil {
		t.Fatal(err)
	}
	var got []string
	for _, obj := range sorted {
		got = append(got, describe(obj))
	}
	want := []string{
		"Namespace shop", "VirtualMachine web", "VirtualMachineInstance web", "PersistentVolumeClaim root",
		"PersistentVolume pv", "Pod launcher", "Pod hotplug",
	}
	if !slices.Equal(got, want) {
		t.Errorf("the order is %q", got)
	}
}

func TestInOrderRefuses(t *testing.T) {
	for want, text := range map[string]string{
		"circle: Pod one -> Pod two -> Pod one": `
{apiVersion: v1, kind: Pod, metadata: {name: one, uid: a, ownerReferences: [{uid: b}]}}
---
{apiVersion: v1, kind: Pod, metadata: {name: two, uid: b, ownerReferences: [{uid: a}]}}`,
		`Pod one and Pod two have the same uid "a"`: `
{apiVersion: v1, kind: Pod, metadata: {name: one, uid: a}}
---
{apiVersion: v1, kind: Pod, metadata: {name: two, uid: a}}`,
	} {
		if _, err := inOrder(fixture(t, text)); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("got %v, want %q", err, want)
		}
	}
}

func TestForCreation(t *testing.T) {
	obj := fixture(t, `
apiVersion: v1
kind: Pod
metadata: {name: web, uid: a, resourceVersion: "7", generation: 2, creationTimestamp: "2024-01-01T00:00:00Z", finalizers: [x]}
`)[0]
	got := forCreation(obj, nil).Object["metadata"]
	if want := map[string]any{"name": "web", "finalizers": []any{"x"}}; !reflect.DeepEqual(got, want) {
		t.Errorf("got %v", got)
	}
	if obj.GetUID() != "a" {
		t.Error("the original was changed")
	}
}
