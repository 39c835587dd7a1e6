package restore

import (
	"context"

	"github.com/google/uuid"
	velerov1 "github.com/vmware-tanzu/velero/pkg/apis/velero/v1"
	"github.com/vmware-tanzu/velero/pkg/plugin/framework/common"
	"github.com/vmware-tanzu/velero/pkg/util/boolptr"
	"k8s.io/apimachinery/pkg/runtime/schema"

	"velero-plugin-for-kubevirt/pkg/graph"
	"velero-plugin-for-kubevirt/pkg/kubevirt"
	"velero-plugin-for-kubevirt/pkg/object"
	"velero-plugin-for-kubevirt/pkg/options"
	"velero-plugin-for-kubevirt/pkg/rules"
)

// asked gathers what is asked of a restore, and what stands in the way of an item: enough to know whether it is left out, whatever becomes of its disks.
func (r *Run) asked(ctx context.Context, id kubevirt.ID, original map[string]any, restore *velerov1.Restore) (rules.Input, error) {
	in := rules.Input{
		Phase: rules.Restore, Original: original, Target: target(id, restore), NamespaceMapping: restore.Spec.NamespaceMapping,
		Restore: options.Source{
			Place: options.OnRestore, Name: restore.Namespace + "/" + restore.Name,
			Labels: restore.Labels, Annotations: restore.Annotations,
		},
		NewUUID:        uuid.NewString,
		WithoutVolumes: boolptr.IsSetToFalse(restore.Spec.RestorePVs),
	}
	var err error
	if in.Config, err = r.configOf(ctx, restore.Namespace, "velero-plugin-for-kubevirt/restore"); err != nil {
		return in, err
	}
	if in.StorageClasses, err = r.StorageClasses(ctx, restore.Namespace); err != nil {
		return in, err
	}
	if in.Existing, err = r.existing(ctx, in.Target, restore); err != nil {
		return in, err
	}
	in.Pool, err = r.pool(ctx, in.Target, original)
	return in, err
}

// input gathers what the rules may know about an item.
func (r *Run) input(ctx context.Context, id kubevirt.ID, obj, original map[string]any, restore *velerov1.Restore) (rules.Input, error) {
	in, err := r.asked(ctx, id, original, restore)
	if err != nil {
		return in, err
	}
	if err := r.dataFacts(ctx, id, obj, original, &in, restore); err != nil {
		return in, err
	}
	if in.DataSource, err = r.dataSource(ctx, id, obj, restore); err != nil {
		return in, err
	}
	if in.Nodes, err = r.nodes(ctx, id, obj); err != nil {
		return in, err
	}
	if in.SnapshotContent, err = r.snapshotContent(ctx, in.Target, original); err != nil {
		return in, err
	}
	in.IdentityOwners, err = r.identityOwners(ctx, id, obj, in, restore)
	return in, err
}

// configOf returns the configuration of a plugin's restore item action.
func (r *Run) configOf(ctx context.Context, namespace, plugin string) (options.Source, error) {
	return options.ReadConfigMap(ctx, r.reader, namespace, common.PluginConfigLabelSelector(common.PluginKindRestoreItemAction, plugin))
}

// StorageClasses returns the new names of storage classes, by the old, that Velero's ConfigMap in a namespace says.
func (r *Run) StorageClasses(ctx context.Context, namespace string) (map[string]string, error) {
	classes, err := r.configOf(ctx, namespace, "velero.io/change-storage-class")
	return classes.Data, err
}

// pool returns the pool in the cluster that owned a VM when it was backed up, nil when there is none.
func (r *Run) pool(ctx context.Context, target kubevirt.ID, original map[string]any) (map[string]any, error) {
	owner := object.Owner(original)
	if target.GroupResource != kubevirt.VirtualMachines || owner == nil || owner.Kind != "VirtualMachinePool" {
		return nil, nil
	}
	return r.reader.Get(ctx, kubevirt.ID{GroupResource: kubevirt.VirtualMachinePools, Namespace: target.Namespace, Name: owner.Name})
}

// dataSource returns the one of the cluster that a DataVolume will name, nil when there is none.
func (r *Run) dataSource(ctx context.Context, id kubevirt.ID, obj map[string]any, restore *velerov1.Restore) (map[string]any, error) {
	if id.GroupResource != kubevirt.DataVolumes {
		return nil, nil
	}
	named, err := graph.Named(id.GroupResource, obj)
	if err != nil {
		return nil, err
	}
	for _, neighbour := range named {
		if neighbour.GroupResource == kubevirt.DataSources {
			return r.reader.Get(ctx, target(neighbour.ID, restore))
		}
	}
	return nil, nil
}

// existing returns the kinds of which an object of the restored item's name is there, when that decides.
func (r *Run) existing(ctx context.Context, target kubevirt.ID, restore *velerov1.Restore) ([]schema.GroupResource, error) {
	if !rules.DecidesByExisting(target.GroupResource, restore.Spec.ExistingResourcePolicy == velerov1.PolicyTypeUpdate) {
		return nil, nil
	}
	var found []schema.GroupResource
	for _, resource := range []schema.GroupResource{target.GroupResource, kubevirt.VirtualMachineInstances} {
		obj, err := r.reader.Get(ctx, kubevirt.ID{GroupResource: resource, Namespace: target.Namespace, Name: target.Name})
		if err != nil {
			return nil, err
		}
		if obj != nil {
			found = append(found, resource)
		}
	}
	return found, nil
}

// nodes returns the labels of the nodes, for an item that asks for particular ones.
func (r *Run) nodes(ctx context.Context, id kubevirt.ID, obj map[string]any) ([]map[string]string, error) {
	pins, err := rules.NodePins(id.GroupResource, obj)
	if err != nil || len(pins) == 0 {
		return nil, err
	}
	nodes, err := r.reader.List(ctx, graph.Query{GroupResource: kubevirt.Nodes})
	if err != nil {
		return nil, err
	}
	var labels []map[string]string
	for i := range nodes.All {
		labels = append(labels, nodes.All[i].Labels)
	}
	return labels, nil
}

// identityOwners returns who in the cluster has what identity, for an item that needs it. They are read once.
func (r *Run) identityOwners(ctx context.Context, id kubevirt.ID, obj map[string]any, in rules.Input, restore *velerov1.Restore) (map[rules.Identifier][]kubevirt.ID, error) {
	needed, err := rules.DecidesByIdentityOwners(id.GroupResource, obj, in)
	if err != nil || !needed {
		return nil, err
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.owners == nil {
		r.owners, err = identityOwners(ctx, r.reader, restore)
	}
	return r.owners, err
}

// target returns what a restored item will be called: Velero maps its namespace after the actions.
func target(id kubevirt.ID, restore *velerov1.Restore) kubevirt.ID {
	if mapped := restore.Spec.NamespaceMapping[id.Namespace]; mapped != "" {
		id.Namespace = mapped
	}
	return id
}
