package graph

import (
	"context"
	"slices"
	"strings"

	"k8s.io/apimachinery/pkg/api/meta"
	"k8s.io/apimachinery/pkg/runtime/schema"

	"velero-plugin-for-kubevirt/pkg/kubevirt"
	"velero-plugin-for-kubevirt/pkg/object"
)

// This file has what a volume needs until it is filled, and what is made later.

// sources are the kinds that a volume is filled from. Only a volume that is not filled leads to one.
var sources = []schema.GroupResource{
	kubevirt.VolumeImportSources, kubevirt.VolumeCloneSources, kubevirt.VolumeUploadSources, kubevirt.OvirtVolumePopulators, kubevirt.OpenstackVolumePopulators,
}

// isFilled is isFinished for a walk. It comes to a source only from what is not filled, and of a VM that KubeVirt has not seen there is no DataVolume that
// could speak for itself.
func isFilled(item Item) (bool, error) {
	switch {
	case slices.Contains(sources, item.GroupResource):
		return false, nil
	case item.GroupResource == kubevirt.VirtualMachines:
		return seenByKubeVirt(item)
	}
	return isFinished(item)
}

// seenByKubeVirt tells whether KubeVirt has taken up a VM: then it gives it a printable status, and makes its DataVolumes (KubeVirt 1.9.0,
// pkg/virt-controller/watch/vm/vm.go). What is only a file has none.
func seenByKubeVirt(vm Item) (bool, error) {
	status, err := object.String(vm.Object, "status.printableStatus")
	return status != "", err
}

// isUnfilled tells whether a volume still needs what it is filled from: a DataVolume, a PVC of its own – that of a DataVolume is made anew with it –, or
// a VM whose DataVolumes are still to be made.
func isUnfilled(item Item) (bool, error) {
	switch {
	case item.GroupResource == kubevirt.VirtualMachines:
		seen, err := seenByKubeVirt(item)
		return !seen, err
	case item.GroupResource == kubevirt.DataVolumes:
		finished, err := isFinished(item)
		return !finished, err
	case object.Owner(item.Object) != nil:
		return false, nil
	}
	phase, err := object.String(item.Object, "status.phase")
	return phase != "Bound", err
}

// claimSpecs is where a kind has the specs of PVCs.
var claimSpecs = map[schema.GroupResource][]string{
	kubevirt.PersistentVolumeClaims: {"spec"},
	kubevirt.DataVolumes:            {"spec.pvc", "spec.storage"},
	kubevirt.VirtualMachines:        {"spec.dataVolumeTemplates[].spec.pvc", "spec.dataVolumeTemplates[].spec.storage"},
}

// sourceOfVolume finds what a volume is still to be filled from. As with other sources, only one in its own namespace is followed.
func sourceOfVolume(_ context.Context, item Item, _ Reader) ([]kubevirt.ID, error) {
	unfilled, err := isUnfilled(item)
	if err != nil || !unfilled {
		return nil, err
	}
	var ids []kubevirt.ID
	for _, spec := range claimSpecs[item.GroupResource] {
		for _, field := range []string{".dataSource", ".dataSourceRef"} {
			found, err := typedReferences(item, spec+field)
			if err != nil {
				return nil, err
			}
			ids = append(ids, found...)
		}
	}
	return ids, nil
}

// clonedVolume finds what a VolumeCloneSource copies.
func clonedVolume(_ context.Context, item Item, _ Reader) ([]kubevirt.ID, error) {
	return typedReferences(item, "spec.source")
}

// typedReferences reads references of apiGroup, kind and name, such as PVCs have. Of a kind that is not known here, the resource is guessed as Kubernetes does.
func typedReferences(item Item, path string) ([]kubevirt.ID, error) {
	names, err := object.Strings(item.Object, path+".name")
	if err != nil {
		return nil, err
	}
	var ids []kubevirt.ID
	for _, name := range names {
		group, _ := name.Parent["apiGroup"].(string)
		kind, _ := name.Parent["kind"].(string)
		namespace, _ := name.Parent["namespace"].(string)
		if kind == "" || namespace != "" && namespace != item.namespace() {
			continue
		}
		plural, _ := meta.UnsafeGuessKindToResource(schema.GroupVersionKind{Group: group, Kind: kind})
		ids = append(ids, kubevirt.ID{GroupResource: plural.GroupResource(), Namespace: item.namespace(), Name: name.Value})
	}
	return ids, nil
}

// imageOfDataSource finds what the DataSource of an unfilled DataVolume stands for. A filled one does not need it: many share an image.
func imageOfDataSource(ctx context.Context, item Item, reader Reader) ([]kubevirt.ID, error) {
	unfilled, err := isUnfilled(item)
	if err != nil || !unfilled {
		return nil, err
	}
	names, err := object.Strings(item.Object, "spec.sourceRef.name")
	var ids []kubevirt.ID
	for _, name := range names {
		source := Reference{To: kubevirt.DataSources, Name: nameBesideNamespace}.id(item.namespace(), name)
		obj, err := reader.Get(ctx, source)
		if err != nil {
			return nil, err
		}
		for path, resource := range map[string]schema.GroupResource{
			"spec.source.pvc.name": kubevirt.PersistentVolumeClaims, "spec.source.snapshot.name": kubevirt.VolumeSnapshots,
		} {
			images, err := object.Strings(obj, path)
			if err != nil {
				return nil, err
			}
			for _, image := range images {
				if id := (Reference{To: resource, Name: nameBesideNamespace}).id(source.Namespace, image); id.Namespace == item.namespace() {
					ids = append(ids, id)
				}
			}
		}
	}
	return ids, err
}

// importAnnotations finds what an importer is told by annotations, which also people set (CDI 1.65.0, pkg/controller/common/util.go).
func importAnnotations(_ context.Context, item Item, _ Reader) ([]kubevirt.ID, error) {
	unfilled, err := isUnfilled(item)
	if err != nil || !unfilled {
		return nil, err
	}
	var ids []kubevirt.ID
	for key, value := range object.Annotations(item.Object) {
		resource := kubevirt.ImportAnnotations[key]
		if strings.HasPrefix(key, kubevirt.ImportSecretHeaders+".") {
			resource = kubevirt.Secrets
		}
		if resource.Resource != "" && value != "" {
			ids = append(ids, kubevirt.ID{GroupResource: resource, Namespace: item.namespace(), Name: value})
		}
	}
	return ids, nil
}

// expectMade marks what is not there yet and will be: the DataVolume and PVC of a template, when KubeVirt has not seen the VM, and the PVC of a
// DataVolume that CDI has not filled. Of a VM that KubeVirt knows, an absent disk is lost: KubeVirt would make it anew, without its data.
func expectMade(ctx context.Context, vm Item, neighbours []Neighbour, reader Reader) error {
	seen, err := seenByKubeVirt(vm)
	if err != nil {
		return err
	}
	made := map[string]string{} // because, by name
	if !seen {
		templates, err := object.Strings(vm.Object, "spec.dataVolumeTemplates[].metadata.name")
		if err != nil {
			return err
		}
		for _, template := range templates {
			made[template.Value] = "KubeVirt makes it of " + strings.TrimSuffix(template.Path, ".metadata.name")
		}
	}
	absent := map[string]bool{}
	for _, n := range neighbours {
		absent[n.Name] = absent[n.Name] || n.Absent && n.GroupResource == kubevirt.PersistentVolumeClaims
	}
	for _, n := range neighbours {
		if n.GroupResource != kubevirt.DataVolumes || n.Absent || n.Unknown != nil || !absent[n.Name] {
			continue
		}
		volume, err := reader.Get(ctx, n.ID)
		if err != nil {
			return err
		}
		if finished, err := isFinished(Item{n.GroupResource, volume}); err == nil && !finished && volume != nil {
			made[n.Name] = "CDI makes it for the DataVolume"
		}
	}
	for i := range neighbours {
		n := &neighbours[i]
		disk := n.GroupResource == kubevirt.DataVolumes || n.GroupResource == kubevirt.PersistentVolumeClaims
		if because := made[n.Name]; because != "" && n.Absent && disk && n.Namespace == vm.namespace() {
			n.Optional, n.Made, n.guessed, n.Because = true, true, false, because
		}
	}
	return nil
}
