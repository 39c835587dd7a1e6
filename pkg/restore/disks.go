package restore

import (
	"context"
	"fmt"
	"slices"
	"strings"

	velerov1 "github.com/vmware-tanzu/velero/pkg/apis/velero/v1"
	"github.com/vmware-tanzu/velero/pkg/label"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"

	"velero-plugin-for-kubevirt/pkg/graph"
	"velero-plugin-for-kubevirt/pkg/kubevirt"
	"velero-plugin-for-kubevirt/pkg/object"
	"velero-plugin-for-kubevirt/pkg/rules"
)

// dataFacts gathers, for the kinds that are or have disks, where the data of each disk is. What an item needs has been restored before: by Velero's order
// of resources, or because BringFirst has named it. So it is looked at, and nothing is guessed from filters.
func (r *Run) dataFacts(ctx context.Context, id kubevirt.ID, obj, original map[string]any, in *rules.Input, restore *velerov1.Restore) (err error) {
	in.There = func(id kubevirt.ID) (bool, error) { return r.isThere(ctx, target(id, restore)) }
	switch id.GroupResource {
	case kubevirt.PersistentVolumeClaims:
		in.Data, err = r.dataOfItem(ctx, obj, in.Target, restore)
	case kubevirt.DataVolumes:
		in.Data, err = r.dataOf(ctx, kubevirt.ID{GroupResource: kubevirt.PersistentVolumeClaims, Namespace: in.Target.Namespace, Name: in.Target.Name}, restore)
	case kubevirt.VirtualMachines, kubevirt.VirtualMachineInstances:
		leftOut, err := rules.LeftOut(id.GroupResource, obj, *in)
		if err != nil || leftOut {
			return err
		}
		in.Disks, err = r.disks(ctx, id, obj, original, restore)
		return err
	}
	return err
}

// dataOfItem tells where the data of a claim that is being restored will be. Velero's own actions come before the plugin's (Velero 1.18.1,
// pkg/plugin/clientmgmt/process/registry.go, DiscoverPlugins): the claim names the VolumeSnapshot that it is made of, or waits for the data mover, as
// pkg/restore/actions/csi/pvc_action.go has written it.
func (r *Run) dataOfItem(ctx context.Context, claim map[string]any, target kubevirt.ID, restore *velerov1.Restore) (rules.Data, error) {
	data, err := r.dataInSpec(ctx, claim, target.Namespace, restore)
	if err != nil || data != rules.NoData {
		return data, err
	}
	there, err := r.reader.Get(ctx, target)
	if err != nil || there == nil {
		return rules.NoData, err
	}
	return rules.There, nil
}

// dataInSpec tells what a claim's spec says of its data.
func (r *Run) dataInSpec(ctx context.Context, claim map[string]any, namespace string, restore *velerov1.Restore) (rules.Data, error) {
	if data, err := byDataMover(claim); err != nil || data != rules.NoData {
		return data, err
	}
	kind, err := object.String(claim, "spec.dataSource.kind")
	if err != nil {
		return rules.NoData, err
	}
	if kind == "VolumeSnapshot" {
		return r.dataInSnapshot(ctx, claim, namespace)
	}
	return r.dataInVolume(ctx, claim, restore)
}

// dataInSnapshot tells whether the VolumeSnapshot that a claim is made of is there, with its content. A filter may leave out one of them, and the claim
// then waits for ever.
func (r *Run) dataInSnapshot(ctx context.Context, claim map[string]any, namespace string) (rules.Data, error) {
	name, err := object.String(claim, "spec.dataSource.name")
	if err != nil {
		return rules.NoData, err
	}
	snapshot, err := r.reader.Get(ctx, kubevirt.ID{GroupResource: kubevirt.VolumeSnapshots, Namespace: namespace, Name: name})
	if err != nil || snapshot == nil {
		return rules.NoData, err
	}
	name, err = object.String(snapshot, "spec.source.volumeSnapshotContentName")
	if err != nil {
		return rules.NoData, err
	}
	if name != "" {
		content, err := r.reader.Get(ctx, kubevirt.ID{GroupResource: kubevirt.VolumeSnapshotContents, Name: name})
		if err != nil || content == nil {
			return rules.NoData, err
		}
	}
	return rules.FromSnapshot, nil
}

// dataInVolume tells whether a claim's volume was there before the claim: Velero has restored it, natively or since it is retained, or it waits for somebody
// to claim it. A volume that was made for the claim is empty.
func (r *Run) dataInVolume(ctx context.Context, claim map[string]any, restore *velerov1.Restore) (rules.Data, error) {
	name, err := object.String(claim, "spec.volumeName")
	if err != nil || name == "" {
		return rules.NoData, err
	}
	volume, err := r.reader.Get(ctx, kubevirt.ID{GroupResource: kubevirt.PersistentVolumes, Name: name})
	if err != nil || volume == nil {
		return rules.NoData, err
	}
	phase, err := object.String(volume, "status.phase")
	if err != nil {
		return rules.NoData, err
	}
	if madeBy(volume, restore) || phase == string(corev1.VolumeAvailable) {
		return rules.There, nil
	}
	return rules.NoData, nil
}

// dataOf tells where the data of a claim of the cluster is.
func (r *Run) dataOf(ctx context.Context, id kubevirt.ID, restore *velerov1.Restore) (rules.Data, error) {
	claim, err := r.reader.Get(ctx, id)
	if err != nil || claim == nil {
		return rules.NoData, err
	}
	data, err := r.dataInSpec(ctx, claim, id.Namespace, restore)
	if err != nil {
		return rules.NoData, fmt.Errorf("reading %s: %w", id, err)
	}
	switch {
	case data == rules.Coming || madeBy(claim, restore):
		return data, nil
	default:
		return rules.There, nil
	}
}

// disks returns the disks of a VM or VMI: those that it names, and its backend storage, which the backup lists.
func (r *Run) disks(ctx context.Context, id kubevirt.ID, obj, original map[string]any, restore *velerov1.Restore) ([]rules.Disk, error) {
	listed, isListed, err := rules.AdditionalItems(original)
	if err != nil {
		return nil, err
	}
	named, err := graph.Named(id.GroupResource, obj)
	if err != nil {
		return nil, err
	}
	var disks []rules.Disk
	for _, neighbour := range named {
		if neighbour.GroupResource == kubevirt.PersistentVolumeClaims && strings.HasPrefix(neighbour.Path, kubevirt.VMISpec[id.GroupResource]+".volumes[") && !neighbour.Optional {
			volume := kubevirt.ID{GroupResource: kubevirt.DataVolumes, Namespace: neighbour.Namespace, Name: neighbour.Name}
			disks = append(disks, rules.Disk{
				Claim: neighbour.ID, Path: neighbour.Path,
				Listed: !isListed || slices.Contains(listed, neighbour.ID) || slices.Contains(listed, volume),
			})
		}
	}
	for _, claim := range listed {
		if claim.GroupResource == kubevirt.PersistentVolumeClaims && strings.HasPrefix(claim.Name, kubevirt.PersistentStateLabel+"-"+object.Name(obj)) {
			disks = append(disks, rules.Disk{Claim: claim, Listed: true, Refill: rules.Blank})
		}
	}
	for i := range disks {
		disks[i].Claim = target(disks[i].Claim, restore)
		if err := r.lookAt(ctx, &disks[i], obj, restore); err != nil {
			return nil, err
		}
	}
	return disks, nil
}

// lookAt finds out where the data of a disk is, or else what will fill it.
func (r *Run) lookAt(ctx context.Context, disk *rules.Disk, vm map[string]any, restore *velerov1.Restore) error {
	volume, err := r.reader.Get(ctx, kubevirt.ID{GroupResource: kubevirt.DataVolumes, Namespace: disk.Claim.Namespace, Name: disk.Claim.Name})
	if err != nil {
		return err
	}
	ownFill := volume != nil && madeBy(volume, restore) && !object.HasAnnotation(volume, kubevirt.PrePopulated)
	if !ownFill {
		if disk.Data, err = r.dataOf(ctx, disk.Claim, restore); err != nil || disk.Data != rules.NoData {
			return err
		}
		claim, err := r.reader.Get(ctx, disk.Claim)
		if err != nil || claim != nil {
			disk.Refill = rules.NoRefill // there, and empty: nobody fills it
			return err
		}
	}
	var spec map[string]any
	if volume != nil {
		spec, err = object.Map(volume, "spec")
	} else {
		spec, err = templateOf(vm, disk.Claim.Name)
	}
	if err != nil || spec == nil {
		return err
	}
	disk.Refill, err = rules.RefillOf(spec, disk.Claim.Namespace, func(id kubevirt.ID) (bool, error) { return r.isThere(ctx, id) })
	return err
}

func (r *Run) isThere(ctx context.Context, id kubevirt.ID) (bool, error) {
	found, err := r.reader.Get(ctx, id)
	return found != nil, err
}

// templateOf returns the spec of the DataVolume that KubeVirt makes for a VM's disk, nil when the VM has no template for it.
func templateOf(vm map[string]any, name string) (map[string]any, error) {
	templates, err := object.Find(vm, "spec.dataVolumeTemplates[]")
	if err != nil {
		return nil, err
	}
	for _, template := range templates {
		obj, is := template.Value.(map[string]any)
		if is && object.Name(obj) == name {
			return object.Map(obj, "spec")
		}
	}
	return nil, nil
}

// madeBy tells whether a restore made an object. Another Restore may have had the same name before: what was made then is older than this one.
func madeBy(obj map[string]any, restore *velerov1.Restore) bool {
	meta := &unstructured.Unstructured{Object: obj}
	created := meta.GetCreationTimestamp()
	return object.Label(obj, velerov1.RestoreNameLabel) == label.GetValidName(restore.Name) && !created.Before(&restore.CreationTimestamp)
}
