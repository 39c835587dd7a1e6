package actions

import (
	"context"
	"maps"
	"slices"

	"github.com/google/uuid"
	"github.com/sirupsen/logrus"
	velerov1 "github.com/vmware-tanzu/velero/pkg/apis/velero/v1"
	"github.com/vmware-tanzu/velero/pkg/util/collections"
	"k8s.io/apimachinery/pkg/runtime/schema"

	"velero-plugin-for-kubevirt/pkg/graph"
	"velero-plugin-for-kubevirt/pkg/kubevirt"
	"velero-plugin-for-kubevirt/pkg/object"
	"velero-plugin-for-kubevirt/pkg/options"
	"velero-plugin-for-kubevirt/pkg/rules"
)

// input gathers what the rules may know about an item.
func (r *Restore) input(ctx context.Context, item item, original map[string]any, restore *velerov1.Restore) (rules.Input, error) {
	in := rules.Input{
		Phase: rules.Restore, Original: original, Target: target(item.ID, restore), NamespaceMapping: restore.Spec.NamespaceMapping,
		Restore: options.Source{
			Place: options.OnRestore, Name: restore.Namespace + "/" + restore.Name,
			Labels: restore.Labels, Annotations: restore.Annotations,
		},
		NewUUID: uuid.NewString,
	}
	name, data, err := config(ctx, r.reader, restore.Namespace, "velero-plugin-for-kubevirt/restore")
	if err != nil {
		return in, err
	}
	in.Config = options.Source{Place: options.InConfig, Name: name, Data: data}
	if _, in.StorageClasses, err = config(ctx, r.reader, restore.Namespace, "velero.io/change-storage-class"); err != nil {
		return in, err
	}
	if in.Existing, err = r.existing(ctx, in.Target, restore); err != nil {
		return in, err
	}
	if item.GroupResource == kubevirt.VirtualMachines {
		if in.WaitingDisks, err = r.awaited(ctx, original, in.Target, restore); err != nil {
			return in, err
		}
	}
	if in.DataSource, err = r.dataSource(ctx, item, restore); err != nil {
		return in, err
	}
	if in.Nodes, err = r.nodes(ctx, item); err != nil {
		return in, err
	}
	if in.Pool, err = r.pool(ctx, in.Target, original); err != nil {
		return in, err
	}
	in.Holders, err = r.holdersFor(ctx, item, in, restore)
	return in, err
}

// pool returns the pool in the cluster that owned a VM when it was backed up, nil when there is none.
func (r *Restore) pool(ctx context.Context, target kubevirt.ID, original map[string]any) (map[string]any, error) {
	owner := object.Owner(original)
	if target.GroupResource != kubevirt.VirtualMachines || owner == nil || owner.Kind != "VirtualMachinePool" {
		return nil, nil
	}
	return r.reader.Get(ctx, kubevirt.ID{GroupResource: kubevirt.VirtualMachinePools, Namespace: target.Namespace, Name: owner.Name})
}

// dataSource returns the one of the cluster that a DataVolume will name, nil when there is none.
func (r *Restore) dataSource(ctx context.Context, item item, restore *velerov1.Restore) (map[string]any, error) {
	if item.GroupResource != kubevirt.DataVolumes {
		return nil, nil
	}
	named, err := graph.Named(item.GroupResource, item.obj)
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

// existing returns the kinds of which an object of the restored item's name is there, when Velero would change it.
func (r *Restore) existing(ctx context.Context, target kubevirt.ID, restore *velerov1.Restore) ([]schema.GroupResource, error) {
	if restore.Spec.ExistingResourcePolicy != velerov1.PolicyTypeUpdate || !rules.DecidesByExisting(target.GroupResource) {
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
func (r *Restore) nodes(ctx context.Context, item item) ([]map[string]string, error) {
	pins, err := rules.NodePins(item.GroupResource, item.obj)
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

// holdersFor returns who in the cluster has what identity, for an item that needs it. They are read once.
func (r *Restore) holdersFor(ctx context.Context, item item, in rules.Input, restore *velerov1.Restore) (map[rules.Mark][]kubevirt.ID, error) {
	needed, err := rules.DecidesByHolders(item.GroupResource, item.obj, in)
	if err != nil || !needed {
		return nil, err
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.holders == nil {
		r.holders, err = holders(ctx, r.reader, restore)
	}
	return r.holders, err
}

// target returns what a restored item will be called: Velero maps its namespace after the actions.
func target(id kubevirt.ID, restore *velerov1.Restore) kubevirt.ID {
	if mapped := restore.Spec.NamespaceMapping[id.Namespace]; mapped != "" {
		id.Namespace = mapped
	}
	return id
}

// warnAbsent warns about networks and images of a namespace that is not restored, and about cluster-wide instancetypes and
// preferences, when the cluster does not have them. KubeVirt does not start a VM without its network, and CDI does nothing
// for a DataVolume without its DataSource, finished or not. An instancetype or preference is not needed while the VM's
// revision of it is there.
func (r *Restore) warnAbsent(item item, in rules.Input, spec velerov1.RestoreSpec) error {
	named, err := graph.Named(item.GroupResource, item.obj)
	if err != nil {
		return err
	}
	restored := collections.NewIncludesExcludes().Includes(spec.IncludedNamespaces...).Excludes(spec.ExcludedNamespaces...)
	mapped := slices.Collect(maps.Values(spec.NamespaceMapping))
	types, err := graph.ClusterTypes(item.GroupResource, item.obj)
	if err != nil {
		return err
	}
	for _, neighbour := range append(named, types...) {
		needed := neighbour.Namespace == "" && slices.Contains(onRequest, neighbour.GroupResource) ||
			neighbour.GroupResource == kubevirt.NetworkAttachmentDefinitions || neighbour.GroupResource == kubevirt.DataSources
		inside := neighbour.Namespace == item.Namespace || slices.Contains(mapped, neighbour.Namespace) || (neighbour.Namespace != "" && restored.ShouldInclude(neighbour.Namespace))
		if !needed || inside {
			continue
		}
		found, err := r.reader.Get(context.Background(), neighbour.ID)
		if err != nil {
			return err
		}
		if found == nil {
			r.log.WithFields(logrus.Fields{"item": item.String(), "target": in.Target.Namespace + "/" + in.Target.Name, "neighbour": neighbour.String(), "path": neighbour.Path}).
				Warn("the item names an object outside of its namespace that this cluster does not have")
		}
	}
	return nil
}
