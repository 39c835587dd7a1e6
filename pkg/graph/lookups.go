package graph

import (
	"context"
	"fmt"
	"regexp"
	"slices"
	"strings"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"

	"velero-plugin-for-kubevirt/pkg/kubevirt"
	"velero-plugin-for-kubevirt/pkg/object"
)

// A lookup finds neighbours that no single field names.
type lookup struct {
	from []schema.GroupResource
	find func(ctx context.Context, item Item, reader Reader) ([]kubevirt.ID, error)
	// optional is as Reference.Optional.
	optional bool
	why      string // for the README's table
}

// An Item is an object with its resource.
type Item struct {
	schema.GroupResource
	Object map[string]any
}

func (i Item) namespace() string { return object.Namespace(i.Object) }
func (i Item) name() string      { return object.Name(i.Object) }

func (i Item) id() kubevirt.ID {
	return kubevirt.ID{GroupResource: i.GroupResource, Namespace: i.namespace(), Name: i.name()}
}

var (
	vms  = []schema.GroupResource{kubevirt.VirtualMachines}
	vmis = []schema.GroupResource{kubevirt.VirtualMachineInstances}
	// templates are the kinds that make VMIs of a spec that they embed.
	templates = []schema.GroupResource{kubevirt.VirtualMachines, kubevirt.VirtualMachineInstanceReplicaSets, kubevirt.VirtualMachinePools}
)

var lookups = []lookup{
	{from: vms, find: instanceOfVM, why: "VirtualMachineInstance of a running VM, by its name"},
	{from: []schema.GroupResource{kubevirt.VirtualMachines, kubevirt.VirtualMachinePools}, find: instancetypeAndPreference, optional: true,
		why: "instancetype and preference, by the kind and name of the matcher; cluster-wide ones in a backup that asks for cluster resources"},
	{from: []schema.GroupResource{kubevirt.VirtualMachines, kubevirt.VirtualMachineInstances, kubevirt.VirtualMachinePools}, find: backendStorage,
		why: "backend storage PVC (vTPM, EFI variables), by its label or, before KubeVirt 1.4, its name"},
	{from: vmis, find: owner(kubevirt.VirtualMachines, "VirtualMachine"), why: "VM of a VirtualMachineInstance, by owner reference"},
	{from: vmis, find: podsOfInstance, why: "virt-launcher and hotplug pods of a VirtualMachineInstance, by its UID"},
	{from: []schema.GroupResource{kubevirt.Pods}, find: familyOfPod, why: "VirtualMachineInstance, VM and sibling pods of a virt-launcher or hotplug pod, by owner references"},
	{from: []schema.GroupResource{kubevirt.VirtualMachinePools}, find: owned(kubevirt.VirtualMachines), why: "VMs of a pool, by owner reference"},
	{from: []schema.GroupResource{kubevirt.VirtualMachineInstanceReplicaSets}, find: owned(kubevirt.VirtualMachineInstances), why: "VirtualMachineInstances of a replica set, by owner reference"},
	{from: append(slices.Clone(templates), vmis...), find: inAnnotations(kubevirt.HookSidecars, sidecars), why: "config maps and PVCs of hook sidecars, named in an annotation"},
	{from: append(slices.Clone(templates), vmis...), find: inAnnotations(kubevirt.MultusNetworks, networks), optional: true, why: "networks named in an annotation"},
	{from: append(slices.Clone(templates), vmis...), find: inAnnotations(kubevirt.MultusDefaultNetwork, networks), optional: true, why: "default network named in an annotation"},
	{from: append(slices.Clone(templates), vmis...), find: presets, why: "presets whose selector fits the VirtualMachineInstance's labels"},
	{from: append(slices.Clone(templates), vmis...), find: bindingPluginNetworks, why: "NetworkAttachmentDefinition of a network binding plugin, by the KubeVirt configuration"},
	// CDI up to 1.61 collected finished DataVolumes.
	{from: []schema.GroupResource{kubevirt.PersistentVolumeClaims}, find: owner(kubevirt.DataVolumes, "DataVolume"), optional: true, why: "DataVolume of a PVC, by owner reference"},
	{from: []schema.GroupResource{kubevirt.PersistentVolumeClaims, kubevirt.DataVolumes}, find: sourceOfVolume, optional: true,
		why: "data source or populator of a PVC or DataVolume that is not filled yet"},
}

// instanceOfVM finds the VMI of a VM: it has the VM's name (KubeVirt 1.9.0, pkg/virt-controller/watch/vm/vm.go).
func instanceOfVM(ctx context.Context, vm Item, reader Reader) ([]kubevirt.ID, error) {
	id := kubevirt.ID{GroupResource: kubevirt.VirtualMachineInstances, Namespace: vm.namespace(), Name: vm.name()}
	found, err := MetadataOf(ctx, reader, id)
	if err != nil || found == nil {
		return nil, err
	}
	return []kubevirt.ID{id}, nil
}

// A matcher is a field of a VM's spec that points at an instancetype or a preference.
type matcher struct {
	field               string
	namespaced, cluster schema.GroupResource
}

var matchers = []matcher{
	{"instancetype", kubevirt.Instancetypes, kubevirt.ClusterInstancetypes},
	{"preference", kubevirt.Preferences, kubevirt.ClusterPreferences},
}

func (m matcher) path(item Item) string { return vmSpec[item.GroupResource] + "." + m.field }

// find returns what the matcher of a VM points at: without a name when it points at nothing, without a resource when KubeVirt
// does not know its kind. An empty kind means the cluster-wide resource; kinds are compared without regard to case, singular
// or plural (KubeVirt 1.9.0, pkg/instancetype/find/spec.go and pkg/instancetype/preference/find/spec.go).
func (m matcher) find(item Item) (id kubevirt.ID, kind string, err error) {
	if id.Name, err = object.String(item.Object, m.path(item)+".name"); err != nil {
		return id, "", err
	}
	if kind, err = object.String(item.Object, m.path(item)+".kind"); err != nil {
		return id, "", err
	}
	switch plural := strings.TrimSuffix(strings.ToLower(kind), "s") + "s"; {
	case plural == m.namespaced.Resource:
		id.GroupResource, id.Namespace = m.namespaced, item.namespace()
	case kind == "" || plural == m.cluster.Resource:
		id.GroupResource = m.cluster
	}
	return id, kind, nil
}

// instancetypeAndPreference finds what the two matchers of a VM point at.
func instancetypeAndPreference(_ context.Context, item Item, _ Reader) ([]kubevirt.ID, error) {
	var ids []kubevirt.ID
	for _, m := range matchers {
		id, kind, err := m.find(item)
		switch {
		case err != nil:
			return nil, err
		case id.Name == "":
		case id.Resource == "":
			return nil, fmt.Errorf("%s.kind: want one of %s, %s, found %q", m.path(item), m.namespaced.Resource, m.cluster.Resource, kind)
		default:
			ids = append(ids, id)
		}
	}
	return ids, nil
}

// ClusterTypes returns the cluster-wide instancetype and preference that a VM or pool names. Other items name none.
func ClusterTypes(resource schema.GroupResource, obj map[string]any) ([]Neighbour, error) {
	item := Item{resource, obj}
	if _, has := vmSpec[resource]; !has {
		return nil, nil
	}
	var found []Neighbour
	for _, m := range matchers {
		id, _, err := m.find(item)
		if err != nil {
			return nil, err
		}
		if id.Name != "" && id.GroupResource == m.cluster {
			found = append(found, Neighbour{ID: id, Path: m.path(item) + ".name"})
		}
	}
	return found, nil
}

// backendStorage finds the PVCs that keep a VM's vTPM and EFI variables. Since KubeVirt 1.4 they carry a label with the
// VM's name; before, the PVC had a fixed name (KubeVirt 1.9.0, pkg/storage/backend-storage/backend-storage.go). Whether
// there is one cannot be told from the spec: a preference may ask for it.
func backendStorage(ctx context.Context, item Item, reader Reader) ([]kubevirt.ID, error) {
	pvcs, err := reader.List(ctx, Query{GroupResource: kubevirt.PersistentVolumeClaims, Namespace: item.namespace()})
	if err != nil {
		return nil, err
	}
	if item.GroupResource == kubevirt.VirtualMachinePools {
		return poolStorage(item, pvcs), nil
	}
	var ids []kubevirt.ID
	for _, pvc := range pvcs.Labelled(kubevirt.PersistentStateLabel, item.name()) {
		ids = append(ids, idOf(kubevirt.PersistentVolumeClaims, pvc))
	}
	if pvc := pvcs.Named(kubevirt.PersistentStateLabel + "-" + item.name()); pvc != nil {
		ids = append(ids, idOf(kubevirt.PersistentVolumeClaims, pvc))
	}
	return ids, nil
}

// poolStorage finds the backend storage of the VMs of a pool, which have its name and a number.
func poolStorage(pool Item, pvcs *Objects) []kubevirt.ID {
	vm := regexp.QuoteMeta(pool.name()) + "-[0-9]+$"
	label, legacyName := regexp.MustCompile("^"+vm), regexp.MustCompile("^"+kubevirt.PersistentStateLabel+"-"+vm)
	var ids []kubevirt.ID
	for i := range pvcs.All {
		if label.MatchString(pvcs.All[i].Labels[kubevirt.PersistentStateLabel]) || legacyName.MatchString(pvcs.All[i].Name) {
			ids = append(ids, idOf(kubevirt.PersistentVolumeClaims, &pvcs.All[i]))
		}
	}
	return ids
}

// bindingPluginNetworks finds the networks that a VM needs because of how its interfaces are bound: the KubeVirt resource
// says which network a binding plugin wants (KubeVirt 1.9.0, pkg/network/multus/annotation.go).
func bindingPluginNetworks(ctx context.Context, item Item, reader Reader) ([]kubevirt.ID, error) {
	plugins, err := object.Strings(item.Object, vmiSpec[item.GroupResource]+".domain.devices.interfaces[].binding.name")
	if err != nil || len(plugins) == 0 {
		return nil, err
	}
	installations, err := reader.List(ctx, Query{GroupResource: kubevirt.KubeVirts})
	if err != nil {
		return nil, err
	}
	var ids []kubevirt.ID
	for i := range installations.All {
		id := idOf(kubevirt.KubeVirts, &installations.All[i])
		configuration, err := reader.Get(ctx, id)
		if err != nil {
			return nil, err
		}
		for _, plugin := range plugins {
			// The plugin's name is a key and may have dots, so no path leads to it.
			binding, err := object.Map(configuration, "spec.configuration.network.binding")
			if err != nil {
				return nil, fmt.Errorf("%s: %w", id, err)
			}
			registered, _ := binding[plugin.Value].(map[string]any)
			if network, _ := registered["networkAttachmentDefinition"].(string); network != "" {
				ids = append(ids, namespacedID(kubevirt.NetworkAttachmentDefinitions, item.namespace(), network))
			}
		}
	}
	return ids, nil
}

// presets finds the presets that KubeVirt merges into a VMI whenever one is created (KubeVirt 1.9.0,
// pkg/virt-api/webhooks/mutating-webhook/mutators/preset.go).
func presets(ctx context.Context, item Item, reader Reader) ([]kubevirt.ID, error) {
	found, err := reader.List(ctx, Query{GroupResource: kubevirt.VirtualMachineInstancePresets, Namespace: item.namespace()})
	if err != nil {
		return nil, err
	}
	vmi := labels.Set{}
	metadata, err := object.Map(item.Object, vmiMetadata[item.GroupResource]+".labels")
	if err != nil {
		return nil, err
	}
	for key, value := range metadata {
		vmi[key], _ = value.(string)
	}
	var ids []kubevirt.ID
	for i := range found.All {
		id := idOf(kubevirt.VirtualMachineInstancePresets, &found.All[i])
		preset, err := reader.Get(ctx, id)
		if err != nil {
			return nil, err
		}
		spec, err := object.Map(preset, "spec.selector")
		if err != nil {
			return nil, fmt.Errorf("%s: %w", id, err)
		}
		var selector metav1.LabelSelector
		if err := runtime.DefaultUnstructuredConverter.FromUnstructured(spec, &selector); err != nil {
			return nil, fmt.Errorf("%s: spec.selector: %w", id, err)
		}
		matches, err := metav1.LabelSelectorAsSelector(&selector)
		if err != nil {
			return nil, fmt.Errorf("%s: spec.selector: %w", id, err)
		}
		if matches.Matches(vmi) {
			ids = append(ids, id)
		}
	}
	return ids, nil
}

// dataSources are the kinds that a volume's data may come from.
var dataSources = map[string]schema.GroupResource{
	"VolumeImportSource":       kubevirt.VolumeImportSources,
	"VolumeCloneSource":        kubevirt.VolumeCloneSources,
	"VolumeUploadSource":       kubevirt.VolumeUploadSources,
	"OvirtVolumePopulator":     kubevirt.OvirtVolumePopulators,
	"OpenstackVolumePopulator": kubevirt.OpenstackVolumePopulators,
	"VolumeSnapshot":           kubevirt.VolumeSnapshots,
	"PersistentVolumeClaim":    kubevirt.PersistentVolumeClaims,
}

// sourceOfVolume finds what a PVC of its own – not a DataVolume's – or a DataVolume is still to be filled from.
func sourceOfVolume(_ context.Context, item Item, _ Reader) ([]kubevirt.ID, error) {
	phase, err := object.String(item.Object, "status.phase")
	if err != nil || phase == "Bound" || phase == "Succeeded" {
		return nil, err
	}
	paths := []string{"spec.dataSourceRef"}
	switch {
	case item.GroupResource == kubevirt.DataVolumes:
		paths = []string{"spec.pvc.dataSource", "spec.pvc.dataSourceRef", "spec.storage.dataSource", "spec.storage.dataSourceRef"}
	case object.Owner(item.Object) != nil:
		return nil, nil // its DataVolume makes the source anew
	}
	var ids []kubevirt.ID
	for _, path := range paths {
		kind, err := object.String(item.Object, path+".kind")
		if err != nil {
			return nil, err
		}
		name, err := object.String(item.Object, path+".name")
		if err != nil {
			return nil, err
		}
		if resource, known := dataSources[kind]; known && name != "" {
			ids = append(ids, kubevirt.ID{GroupResource: resource, Namespace: item.namespace(), Name: name})
		}
	}
	return ids, nil
}

// owner returns a lookup for the controller of an object, when it is of the given kind.
func owner(resource schema.GroupResource, kind string) func(context.Context, Item, Reader) ([]kubevirt.ID, error) {
	return func(_ context.Context, item Item, _ Reader) ([]kubevirt.ID, error) {
		if ref := object.Owner(item.Object); ref != nil && ref.Kind == kind {
			return []kubevirt.ID{{GroupResource: resource, Namespace: item.namespace(), Name: ref.Name}}, nil
		}
		return nil, nil
	}
}

// owned returns a lookup for the objects of a resource whose controller is the item.
func owned(resource schema.GroupResource) func(context.Context, Item, Reader) ([]kubevirt.ID, error) {
	return func(ctx context.Context, item Item, reader Reader) ([]kubevirt.ID, error) {
		candidates, err := reader.List(ctx, Query{GroupResource: resource, Namespace: item.namespace()})
		if err != nil {
			return nil, err
		}
		var ids []kubevirt.ID
		for _, candidate := range candidates.ControlledBy(object.UID(item.Object)) {
			ids = append(ids, idOf(resource, candidate))
		}
		return ids, nil
	}
}

// MetadataOf returns the metadata of an object, from the list that all of its namespace share; nil when it is not there.
func MetadataOf(ctx context.Context, reader Reader, id kubevirt.ID) (*metav1.PartialObjectMetadata, error) {
	items, err := reader.List(ctx, Query{GroupResource: id.GroupResource, Namespace: id.Namespace})
	if err != nil {
		return nil, err
	}
	return items.Named(id.Name), nil
}

func idOf(resource schema.GroupResource, item *metav1.PartialObjectMetadata) kubevirt.ID {
	return kubevirt.ID{GroupResource: resource, Namespace: item.Namespace, Name: item.Name}
}

// namespacedID reads "namespace/name", or "name" for an object in the referrer's namespace.
func namespacedID(resource schema.GroupResource, namespace, text string) kubevirt.ID {
	if before, after, found := strings.Cut(text, "/"); found {
		namespace, text = before, after
	}
	return kubevirt.ID{GroupResource: resource, Namespace: namespace, Name: text}
}
