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
	find func(ctx context.Context, item Item, reader Reader) ([]Neighbour, error)
	// optional is as Reference.Optional.
	optional string
	relation string // what the neighbour is to the item, in a word or two
	why      string // for the README's table, and for people when the question could not be answered
}

// byID turns what a lookup found into neighbours about which there is nothing more to say.
func byID(find func(context.Context, Item, Reader) ([]kubevirt.ID, error)) func(context.Context, Item, Reader) ([]Neighbour, error) {
	return func(ctx context.Context, item Item, reader Reader) ([]Neighbour, error) {
		ids, err := find(ctx, item, reader)
		var neighbours []Neighbour
		for _, id := range ids {
			neighbours = append(neighbours, Neighbour{ID: id})
		}
		return neighbours, err
	}
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
	{from: vms, find: byID(instanceOfVM), relation: "runs as", why: "VirtualMachineInstance of a running VM, by its name"},
	{from: []schema.GroupResource{kubevirt.VirtualMachines, kubevirt.VirtualMachinePools}, find: instancetypeAndPreference,
		why: "instancetype and preference, by the kind and name of the matcher; cluster-wide ones in a backup that asks for cluster resources"},
	{from: []schema.GroupResource{kubevirt.VirtualMachines, kubevirt.VirtualMachineInstances, kubevirt.VirtualMachinePools}, find: byID(backendStorage),
		relation: "TPM and EFI", why: "backend storage PVC (vTPM, EFI variables), by its label or, before KubeVirt 1.4, its name"},
	{from: vmis, find: byID(owner(kubevirt.VirtualMachines, "VirtualMachine")), relation: "instance of", why: "VM of a VirtualMachineInstance, by owner reference"},
	{from: vmis, find: byID(podsOfInstance), relation: "runs in", why: "virt-launcher and hotplug pods of a VirtualMachineInstance, by its UID"},
	{from: []schema.GroupResource{kubevirt.Pods}, find: byID(familyOfPod), relation: "pod of",
		why: "VirtualMachineInstance, VM and sibling pods of a virt-launcher or hotplug pod, by owner references"},
	{from: []schema.GroupResource{kubevirt.VirtualMachinePools}, find: byID(owned(kubevirt.VirtualMachines)), relation: "made", why: "VMs of a pool, by owner reference"},
	{from: []schema.GroupResource{kubevirt.VirtualMachineInstanceReplicaSets}, find: byID(owned(kubevirt.VirtualMachineInstances)), relation: "made",
		why: "VirtualMachineInstances of a replica set, by owner reference"},
	{from: append(slices.Clone(templates), vmis...), find: byID(inAnnotations(kubevirt.HookSidecars, sidecars)), relation: "hook sidecar",
		why: "config maps and PVCs of hook sidecars, named in an annotation"},
	{from: append(slices.Clone(templates), vmis...), find: byID(inAnnotations(kubevirt.MultusNetworks, networks)), optional: ownNetworks, relation: "network annotation",
		why: "networks named in an annotation"},
	{from: append(slices.Clone(templates), vmis...), find: byID(inAnnotations(kubevirt.MultusDefaultNetwork, networks)), optional: ownNetworks, relation: "network annotation",
		why: "default network named in an annotation"},
	{from: append(slices.Clone(templates), vmis...), find: byID(presets), relation: "preset", why: "presets whose selector fits the VirtualMachineInstance's labels"},
	{from: append(slices.Clone(templates), vmis...), find: byID(bindingPluginNetworks), relation: "network binding",
		why: "NetworkAttachmentDefinition of a network binding plugin, by the KubeVirt configuration"},
	// CDI up to 1.61 collected finished DataVolumes.
	{from: []schema.GroupResource{kubevirt.PersistentVolumeClaims}, find: byID(owner(kubevirt.DataVolumes, "DataVolume")), optional: "the claim is enough", relation: "made by",
		why: "DataVolume of a PVC, by owner reference"},
	{from: []schema.GroupResource{kubevirt.PersistentVolumeClaims, kubevirt.DataVolumes, kubevirt.VirtualMachines}, find: byID(sourceOfVolume), relation: "filled from",
		why: "data source or populator of a PVC or DataVolume that is not filled yet, or still to be made"},
	{from: []schema.GroupResource{kubevirt.DataVolumes}, find: byID(imageOfDataSource), relation: "filled from",
		why: "PVC or snapshot that the DataSource of a DataVolume that is not filled yet points at, in the same namespace"},
	{from: []schema.GroupResource{kubevirt.VolumeCloneSources}, find: byID(clonedVolume), relation: "copies", why: "PVC or snapshot that a VolumeCloneSource copies"},
	{from: []schema.GroupResource{kubevirt.PersistentVolumeClaims, kubevirt.DataVolumes}, find: byID(importAnnotations), relation: "import annotation",
		why: "secrets and config maps in CDI's annotations of a PVC or DataVolume that is not filled yet"},
}

// KubeVirt writes its own list of networks over the annotation of a VM that has Multus networks (KubeVirt 1.9.0, pkg/virt-controller/services/template.go).
const ownNetworks = "KubeVirt may write its own networks over the annotation"

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

// instancetypeAndPreference finds what the two matchers of a VM point at. The VM can do without when it has a revision: a full copy.
func instancetypeAndPreference(_ context.Context, item Item, _ Reader) ([]Neighbour, error) {
	var neighbours []Neighbour
	for _, m := range matchers {
		id, kind, err := m.find(item)
		switch {
		case err != nil:
			return nil, err
		case id.Name == "":
			continue
		case id.Resource == "":
			return nil, fmt.Errorf("%s.kind: want one of %s, %s, found %q", m.path(item), m.namespaced.Resource, m.cluster.Resource, kind)
		}
		revision, err := m.revision(item)
		if err != nil {
			return nil, err
		}
		n := Neighbour{ID: id, Relation: m.field, Optional: revision != ""}
		if n.Optional {
			n.Because = "the VM has its revision " + revision
		}
		neighbours = append(neighbours, n)
	}
	return neighbours, nil
}

// revision is the one that a VM uses; the fields are those of the table.
func (m matcher) revision(item Item) (string, error) {
	for _, path := range []string{m.path(item) + ".revisionName", "status." + m.field + "Ref.controllerRevisionRef.name"} {
		if name, err := object.String(item.Object, path); err != nil || name != "" {
			return name, err
		}
	}
	return "", nil
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
