package cluster

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"slices"
	"strings"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/fields"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"

	"velero-plugin-for-kubevirt/pkg/graph"
	"velero-plugin-for-kubevirt/pkg/kubevirt"
)

// Memory reads from objects at hand, such as those of a file.
type Memory map[schema.GroupResource][]*unstructured.Unstructured

// List returns the metadata of the objects that query selects, as an API server would: of the fields, metadata.name,
// metadata.namespace and status.phase can be selected.
func (m Memory) List(_ context.Context, query graph.Query) (*graph.Objects, error) {
	byLabel, err := labels.Parse(query.Labels)
	if err != nil {
		return nil, fmt.Errorf("selecting %s by label: %w", query.GroupResource, err)
	}
	byField, err := fields.ParseSelector(query.Fields)
	if err != nil {
		return nil, fmt.Errorf("selecting %s by field: %w", query.GroupResource, err)
	}
	var items []metav1.PartialObjectMetadata
	for _, obj := range m[query.GroupResource] {
		phase, _, _ := unstructured.NestedString(obj.Object, "status", "phase")
		selectable := fields.Set{"metadata.name": obj.GetName(), "metadata.namespace": obj.GetNamespace(), "status.phase": phase}
		if (query.Namespace != "" && obj.GetNamespace() != query.Namespace) || !byLabel.Matches(labels.Set(obj.GetLabels())) || !byField.Matches(selectable) {
			continue
		}
		items = append(items, metadataOf(obj))
	}
	return &graph.Objects{All: items}, nil
}

// metadataOf returns the metadata of an object, of a malformed one its name: it is there, and hides no other.
func metadataOf(obj *unstructured.Unstructured) metav1.PartialObjectMetadata {
	var item metav1.PartialObjectMetadata
	if err := runtime.DefaultUnstructuredConverter.FromUnstructured(map[string]any{"metadata": obj.Object["metadata"]}, &item); err != nil {
		item = metav1.PartialObjectMetadata{ObjectMeta: metav1.ObjectMeta{Namespace: obj.GetNamespace(), Name: obj.GetName(), UID: obj.GetUID()}}
	}
	return item
}

// Each calls visit with every whole object of a resource.
func (m Memory) Each(_ context.Context, resource schema.GroupResource, visit func(map[string]any) error) error {
	for _, obj := range m[resource] {
		if err := visit(obj.Object); err != nil {
			return err
		}
	}
	return nil
}

// Get returns the whole object, nil when there is none.
func (m Memory) Get(_ context.Context, id kubevirt.ID) (map[string]any, error) {
	for _, obj := range m[id.GroupResource] {
		if obj.GetNamespace() == id.Namespace && obj.GetName() == id.Name {
			return obj.Object, nil
		}
	}
	return nil, nil
}

// Now returns the whole object, nil when there is none.
func (m Memory) Now(ctx context.Context, id kubevirt.ID) (map[string]any, error) {
	return m.Get(ctx, id)
}

// GuestInfo returns the object of kind VirtualMachineInstanceGuestAgentInfo with the instance's name.
func (m Memory) GuestInfo(ctx context.Context, namespace, name string) (map[string]any, error) {
	info, err := m.Get(ctx, kubevirt.ID{GroupResource: kubevirt.GuestAgentInfos, Namespace: namespace, Name: name})
	if err == nil && info == nil {
		err = fmt.Errorf("the guest agent of VirtualMachineInstance %s/%s does not answer", namespace, name)
	}
	return info, err
}

// Exec answers virsh, when it asks a guest agent for its freeze status, with what is in the object that GuestInfo returns, once there is a
// line to read.
func (m Memory) Exec(_ context.Context, pod kubevirt.ID, _ string, command []string, stdin io.Reader) (string, error) {
	line, err := bufio.NewReader(stdin).ReadString('\n')
	if err != nil {
		return "", fmt.Errorf("running %q in %s: %w", command, pod, err)
	}
	for _, info := range m[kubevirt.GuestAgentInfos] {
		status, _, _ := unstructured.NestedString(info.Object, "fsFreezeStatus")
		if status != "" && slices.Contains(strings.Fields(line), info.GetNamespace()+"_"+info.GetName()) {
			return fmt.Sprintf("virsh # %s{\"return\":%q}\n\nvirsh # ", line, status), nil
		}
	}
	return "", fmt.Errorf("running %q in %s: nobody answers", command, pod)
}
