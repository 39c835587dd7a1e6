package backup

import (
	"context"

	"velero-plugin-for-kubevirt/pkg/graph"
	"velero-plugin-for-kubevirt/pkg/kubevirt"
	"velero-plugin-for-kubevirt/pkg/object"
)

// groupOf returns the group of VMs that a VM is frozen together with, "" when it is in none.
func groupOf(vm map[string]any) string { return object.Label(vm, kubevirt.FreezeTogether) }

// group returns the other VMs of a VM's group: they are in one ItemBlock, so that all are frozen before the first disk is cut.
func (r *Run) group(ctx context.Context, id kubevirt.ID, obj map[string]any, scope *scope) ([]kubevirt.ID, error) {
	name := groupOf(obj)
	if id.GroupResource != kubevirt.VirtualMachines || name == "" {
		return nil, nil
	}
	vms, err := r.reader.List(ctx, graph.Query{GroupResource: kubevirt.VirtualMachines, Namespace: id.Namespace})
	if err != nil {
		return nil, err
	}
	var others []kubevirt.ID
	for i := range vms.All {
		other := kubevirt.ID{GroupResource: kubevirt.VirtualMachines, Namespace: id.Namespace, Name: vms.All[i].Name}
		if vms.All[i].Labels[kubevirt.FreezeTogether] == name && other != id && scope.takes(graph.Neighbour{ID: other, Labels: vms.All[i].Labels}) {
			others = append(others, other)
		}
	}
	return others, nil
}

// together tells whether all disks of an ItemBlock were cut while all of its guests were frozen.
func (r *Run) together(b *block) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	return b.together
}
