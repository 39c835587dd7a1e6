package rollback

import (
	"context"
	"fmt"
	"slices"

	"k8s.io/apimachinery/pkg/runtime/schema"

	"velero-plugin-for-kubevirt/pkg/graph"
	"velero-plugin-for-kubevirt/pkg/kubevirt"
	"velero-plugin-for-kubevirt/pkg/object"
	"velero-plugin-for-kubevirt/pkg/vm"
)

// DisksOf returns the names of the claims that hold the disks of a VM, its backend storage among them.
func DisksOf(ctx context.Context, of map[string]any, reader graph.Reader) ([]string, error) {
	neighbours, err := graph.Neighbours(ctx, kubevirt.VirtualMachines, of, reader)
	if err != nil {
		return nil, object.Failed(of, "finding the disks of", err)
	}
	var disks []string
	for _, n := range neighbours {
		if n.GroupResource != kubevirt.PersistentVolumeClaims || !isDisk(n.Path) {
			continue
		}
		if n.Unknown != nil {
			return nil, n.Unknown
		}
		disks = append(disks, n.Name)
	}
	return disks, nil
}

// Gather reads what a rollback is decided from.
func Gather(ctx context.Context, cluster vm.Cluster, id kubevirt.ID, backedUp BackedUp) (Facts, error) {
	f := Facts{BackedUp: backedUp}
	var err error
	if f.VM, err = cluster.Now(ctx, id); err != nil || f.VM == nil {
		return f, err
	}
	names, err := DisksOf(ctx, f.VM, cluster)
	if err != nil {
		return f, err
	}
	names = append(names, backedUp.Disks...)
	slices.Sort(names)
	others, err := whoNames(ctx, cluster, id)
	if err != nil {
		return f, err
	}
	for _, name := range slices.Compact(names) {
		disk := Disk{Claim: name, InBackup: slices.Contains(backedUp.Disks, name), Others: others[name]}
		if err := disk.read(ctx, cluster, id.Namespace); err != nil {
			return f, err
		}
		f.Disks = append(f.Disks, disk)
	}
	f.Revisions, err = revisionsOf(ctx, cluster, id.Namespace, object.UID(f.VM))
	return f, err
}

// read reads claim, DataVolume and volume of a disk.
func (d *Disk) read(ctx context.Context, cluster vm.Cluster, namespace string) error {
	var err error
	if d.Live, err = cluster.Now(ctx, kubevirt.ID{GroupResource: kubevirt.PersistentVolumeClaims, Namespace: namespace, Name: d.Claim}); err != nil {
		return err
	}
	if d.DataVolume, err = cluster.Now(ctx, kubevirt.ID{GroupResource: kubevirt.DataVolumes, Namespace: namespace, Name: d.Claim}); err != nil {
		return err
	}
	volume, err := object.String(d.Live, "spec.volumeName")
	if err != nil || volume == "" {
		return err
	}
	d.Volume, err = cluster.Now(ctx, kubevirt.ID{GroupResource: kubevirt.PersistentVolumes, Name: volume})
	return err
}

// whoNames returns, by claim, who names it in the namespace of a VM besides the VM and its instance.
func whoNames(ctx context.Context, cluster vm.Cluster, disksOf kubevirt.ID) (map[string][]kubevirt.ID, error) {
	others := map[string][]kubevirt.ID{}
	for _, resource := range []schema.GroupResource{
		kubevirt.VirtualMachines, kubevirt.VirtualMachineInstances, kubevirt.VirtualMachineInstanceReplicaSets, kubevirt.VirtualMachinePools,
	} {
		err := cluster.Each(ctx, resource, func(obj map[string]any) error {
			owner := object.Owner(obj)
			id := kubevirt.ID{GroupResource: resource, Namespace: object.Namespace(obj), Name: object.Name(obj)}
			if id.Namespace != disksOf.Namespace || id.Name == disksOf.Name || (owner != nil && owner.Kind == "VirtualMachine") {
				return nil
			}
			named, err := graph.Named(resource, obj)
			if err != nil {
				return fmt.Errorf("%s: %w", id, err)
			}
			for _, n := range named {
				if n.GroupResource == kubevirt.PersistentVolumeClaims && n.Namespace == disksOf.Namespace {
					others[n.Name] = append(others[n.Name], id)
				}
			}
			return nil
		})
		if err != nil {
			return nil, err
		}
	}
	return others, nil
}

// revisionsOf returns the ControllerRevisions that a VM owns.
func revisionsOf(ctx context.Context, cluster vm.Cluster, namespace, uid string) ([]map[string]any, error) {
	list, err := cluster.List(ctx, graph.Query{GroupResource: kubevirt.ControllerRevisions, Namespace: namespace})
	if err != nil {
		return nil, err
	}
	var found []map[string]any
	for _, revision := range list.ControlledBy(uid) {
		obj, err := cluster.Now(ctx, kubevirt.ID{GroupResource: kubevirt.ControllerRevisions, Namespace: namespace, Name: revision.Name})
		if err != nil {
			return nil, err
		}
		found = append(found, obj)
	}
	return found, nil
}
