package graph

import (
	"context"
	"fmt"
	"strings"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"

	"velero-plugin-for-kubevirt/pkg/kubevirt"
	"velero-plugin-for-kubevirt/pkg/object"
)

// A Query selects objects of one resource in one namespace, by labels and fields as the Kubernetes API has them.
type Query struct {
	schema.GroupResource
	Namespace string // empty for cluster-scoped resources
	Labels    string
	Fields    string
}

// A Reader answers queries with the metadata of what exists: from a live cluster, from files or from memory. An error
// means that it does not know; nothing found is no error.
type Reader interface {
	List(ctx context.Context, query Query) ([]metav1.PartialObjectMetadata, error)
}

// A lookup finds neighbours that the object does not name.
type lookup struct {
	from   schema.GroupResource
	find   func(ctx context.Context, obj map[string]any, reader Reader) ([]kubevirt.ID, error)
	unsure bool // as Reference.Unsure
}

var lookups = []lookup{
	{from: kubevirt.VirtualMachines, find: instanceOfMachine},
	{from: kubevirt.VirtualMachines, find: instancetypeAndPreference, unsure: true}, // a revision is as good
	{from: kubevirt.VirtualMachines, find: backendStorage},
	{from: kubevirt.VirtualMachineInstances, find: owner(kubevirt.VirtualMachines, "VirtualMachine")},
	{from: kubevirt.VirtualMachineInstances, find: backendStorage},
	{from: kubevirt.VirtualMachineInstances, find: podsOfInstance},
	{from: kubevirt.Pods, find: familyOfPod},
	{from: kubevirt.PersistentVolumeClaims, find: owner(kubevirt.DataVolumes, "DataVolume"), unsure: true}, // CDI up to 1.61 collected it
}

// instanceOfMachine finds the VMI of a VM: it has the VM's name (KubeVirt 1.9.0, pkg/virt-controller/watch/vm/vm.go).
func instanceOfMachine(ctx context.Context, vm map[string]any, reader Reader) ([]kubevirt.ID, error) {
	id := kubevirt.ID{GroupResource: kubevirt.VirtualMachineInstances, Namespace: object.Namespace(vm), Name: object.Name(vm)}
	found, err := exists(ctx, reader, id)
	if err != nil || !found {
		return nil, err
	}
	return []kubevirt.ID{id}, nil
}

// instancetypeAndPreference finds what the VM's two matchers point at. An empty kind means the cluster-wide resource;
// kinds are compared without regard to case, singular or plural (KubeVirt 1.9.0, pkg/instancetype/find/spec.go and
// pkg/instancetype/preference/find/spec.go).
func instancetypeAndPreference(_ context.Context, vm map[string]any, _ Reader) ([]kubevirt.ID, error) {
	var ids []kubevirt.ID
	for _, matcher := range []struct {
		path                string
		namespaced, cluster schema.GroupResource
	}{
		{"spec.instancetype", kubevirt.Instancetypes, kubevirt.ClusterInstancetypes},
		{"spec.preference", kubevirt.Preferences, kubevirt.ClusterPreferences},
	} {
		name, err := object.String(vm, matcher.path+".name")
		if err != nil {
			return nil, err
		}
		kind, err := object.String(vm, matcher.path+".kind")
		if err != nil {
			return nil, err
		}
		switch kind := strings.TrimSuffix(strings.ToLower(kind), "s"); {
		case name == "":
		case kind+"s" == matcher.namespaced.Resource:
			ids = append(ids, kubevirt.ID{GroupResource: matcher.namespaced, Namespace: object.Namespace(vm), Name: name})
		case kind == "" || kind+"s" == matcher.cluster.Resource:
			ids = append(ids, kubevirt.ID{GroupResource: matcher.cluster, Name: name})
		default:
			return nil, fmt.Errorf("%s.kind: want one of %s, %s, found %q", matcher.path, matcher.namespaced.Resource, matcher.cluster.Resource, kind)
		}
	}
	return ids, nil
}

// backendStorage finds the PVCs that keep a VM's vTPM and EFI variables. Since KubeVirt 1.4 they carry a label with the
// VM's name; before, the PVC had a fixed name (KubeVirt 1.9.0, pkg/storage/backend-storage/backend-storage.go). Whether
// there is one cannot be told from the spec: a preference may ask for it.
func backendStorage(ctx context.Context, obj map[string]any, reader Reader) ([]kubevirt.ID, error) {
	pvcs, err := reader.List(ctx, Query{GroupResource: kubevirt.PersistentVolumeClaims, Namespace: object.Namespace(obj)})
	if err != nil {
		return nil, err
	}
	name := object.Name(obj)
	legacyName := kubevirt.PersistentStateLabel + "-" + name
	var ids []kubevirt.ID
	for i := range pvcs {
		if pvcs[i].Labels[kubevirt.PersistentStateLabel] == name || pvcs[i].Name == legacyName {
			ids = append(ids, idOf(kubevirt.PersistentVolumeClaims, &pvcs[i]))
		}
	}
	return ids, nil
}

// activePods are KubeVirt's pods that still run something: a Completed launcher is the leftover of a migration.
func activePods(ctx context.Context, reader Reader, namespace string) ([]metav1.PartialObjectMetadata, error) {
	return reader.List(ctx, Query{
		GroupResource: kubevirt.Pods,
		Namespace:     namespace,
		Labels:        kubevirt.PodRoleLabel + " in (" + kubevirt.LauncherRole + "," + kubevirt.HotplugRole + ")",
		Fields:        "status.phase!=Succeeded,status.phase!=Failed",
	})
}

// podsOfInstance finds the launcher pods of a VMI – two during a migration – and the pods that hold their hotplugged disks.
func podsOfInstance(ctx context.Context, vmi map[string]any, reader Reader) ([]kubevirt.ID, error) {
	return podsByInstanceUID(ctx, reader, object.Namespace(vmi), object.UID(vmi))
}

func podsByInstanceUID(ctx context.Context, reader Reader, namespace, uid string) ([]kubevirt.ID, error) {
	pods, err := activePods(ctx, reader, namespace)
	if err != nil || uid == "" {
		return nil, err
	}
	var ids []kubevirt.ID
	launchers := map[string]bool{}
	for i := range pods {
		if pods[i].Labels[kubevirt.CreatedByLabel] == uid {
			launchers[string(pods[i].UID)] = true
			ids = append(ids, idOf(kubevirt.Pods, &pods[i]))
		}
	}
	for i := range pods {
		if launcher := metav1.GetControllerOf(&pods[i]); launcher != nil && launchers[string(launcher.UID)] {
			ids = append(ids, idOf(kubevirt.Pods, &pods[i]))
		}
	}
	return ids, nil
}

// familyOfPod finds, for a launcher or hotplug pod, its VMI, the VM of that and all its pods. A hotplug pod belongs to a
// launcher pod (KubeVirt 1.9.0, pkg/virt-controller/services/template.go, RenderHotplugAttachmentPodTemplate).
func familyOfPod(ctx context.Context, pod map[string]any, reader Reader) ([]kubevirt.ID, error) {
	namespace := object.Namespace(pod)
	parent := object.Owner(pod)
	if parent != nil && parent.Kind == "Pod" {
		pods, err := activePods(ctx, reader, namespace)
		if err != nil {
			return nil, err
		}
		launcher := byUID(pods, string(parent.UID))
		if launcher == nil {
			return nil, nil
		}
		parent = metav1.GetControllerOf(launcher)
	}
	if parent == nil || parent.Kind != "VirtualMachineInstance" {
		return nil, nil
	}
	ids, err := podsByInstanceUID(ctx, reader, namespace, string(parent.UID))
	if err != nil {
		return nil, err
	}
	vmis, err := reader.List(ctx, Query{GroupResource: kubevirt.VirtualMachineInstances, Namespace: namespace})
	if err != nil {
		return nil, err
	}
	if vmi := byUID(vmis, string(parent.UID)); vmi != nil {
		ids = append(ids, idOf(kubevirt.VirtualMachineInstances, vmi))
		if vm := metav1.GetControllerOf(vmi); vm != nil && vm.Kind == "VirtualMachine" {
			ids = append(ids, kubevirt.ID{GroupResource: kubevirt.VirtualMachines, Namespace: namespace, Name: vm.Name})
		}
	}
	return ids, nil
}

// owner returns a lookup for the controller of an object, when it is of the given kind.
func owner(resource schema.GroupResource, kind string) func(context.Context, map[string]any, Reader) ([]kubevirt.ID, error) {
	return func(_ context.Context, obj map[string]any, _ Reader) ([]kubevirt.ID, error) {
		if ref := object.Owner(obj); ref != nil && ref.Kind == kind {
			return []kubevirt.ID{{GroupResource: resource, Namespace: object.Namespace(obj), Name: ref.Name}}, nil
		}
		return nil, nil
	}
}

// exists tells whether the object is there.
func exists(ctx context.Context, reader Reader, id kubevirt.ID) (bool, error) {
	items, err := reader.List(ctx, Query{GroupResource: id.GroupResource, Namespace: id.Namespace})
	if err != nil {
		return false, err
	}
	for i := range items {
		if items[i].Name == id.Name {
			return true, nil
		}
	}
	return false, nil
}

func byUID(items []metav1.PartialObjectMetadata, uid string) *metav1.PartialObjectMetadata {
	for i := range items {
		if string(items[i].UID) == uid {
			return &items[i]
		}
	}
	return nil
}

func idOf(resource schema.GroupResource, item *metav1.PartialObjectMetadata) kubevirt.ID {
	return kubevirt.ID{GroupResource: resource, Namespace: item.Namespace, Name: item.Name}
}
