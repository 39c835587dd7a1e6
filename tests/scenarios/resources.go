package scenarios

import (
	"cmp"
	"fmt"
	"slices"
	"strings"
	"time"

	velerov1 "github.com/vmware-tanzu/velero/pkg/apis/velero/v1"
	"github.com/vmware-tanzu/velero/pkg/discovery"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/types"
)

// A Served is a kind as an API server serves it.
type Served struct {
	schema.GroupVersionResource
	Kind       string
	Namespaced bool
	ShortNames []string
}

// Resources lists the kinds that occur in the scenarios.
var Resources = []Served{
	{core("namespaces"), "Namespace", false, nil},
	{core("persistentvolumes"), "PersistentVolume", false, nil},
	{core("persistentvolumeclaims"), "PersistentVolumeClaim", true, []string{"pvc"}},
	{core("pods"), "Pod", true, []string{"po"}},
	{core("nodes"), "Node", false, nil},
	{resource("velero.io", "v1", "backups"), "Backup", true, nil},
	{core("secrets"), "Secret", true, nil},
	{core("configmaps"), "ConfigMap", true, []string{"cm"}},
	{core("services"), "Service", true, nil},
	{core("serviceaccounts"), "ServiceAccount", true, []string{"sa"}},
	{resource("apps", "v1", "controllerrevisions"), "ControllerRevision", true, nil},
	{resource("policy", "v1", "poddisruptionbudgets"), "PodDisruptionBudget", true, nil},
	{resource("scheduling.k8s.io", "v1", "priorityclasses"), "PriorityClass", false, nil},
	{resource("resource.k8s.io", "v1", "resourceclaims"), "ResourceClaim", true, nil},
	{resource("resource.k8s.io", "v1", "resourceclaimtemplates"), "ResourceClaimTemplate", true, nil},
	{resource("snapshot.storage.k8s.io", "v1", "volumesnapshots"), "VolumeSnapshot", true, nil},
	{resource("snapshot.storage.k8s.io", "v1", "volumesnapshotcontents"), "VolumeSnapshotContent", false, nil},
	{resource("snapshot.storage.k8s.io", "v1", "volumesnapshotclasses"), "VolumeSnapshotClass", false, nil},
	{resource("k8s.cni.cncf.io", "v1", "network-attachment-definitions"), "NetworkAttachmentDefinition", true, nil},
	{resource("image.openshift.io", "v1", "imagestreams"), "ImageStream", true, nil},
	{resource("kubevirt.io", "v1", "kubevirts"), "KubeVirt", true, nil},
	{resource("kubevirt.io", "v1", "virtualmachines"), "VirtualMachine", true, []string{"vm", "vms"}},
	{resource("kubevirt.io", "v1", "virtualmachineinstanceguestagentinfos"), "VirtualMachineInstanceGuestAgentInfo", true, nil},
	{resource("kubevirt.io", "v1", "virtualmachineinstances"), "VirtualMachineInstance", true, []string{"vmi", "vmis"}},
	{resource("kubevirt.io", "v1", "virtualmachineinstancereplicasets"), "VirtualMachineInstanceReplicaSet", true, nil},
	{resource("kubevirt.io", "v1", "virtualmachineinstancepresets"), "VirtualMachineInstancePreset", true, nil},
	{resource("kubevirt.io", "v1", "virtualmachineinstancemigrations"), "VirtualMachineInstanceMigration", true, nil},
	{resource("snapshot.kubevirt.io", "v1beta1", "virtualmachinesnapshots"), "VirtualMachineSnapshot", true, nil},
	{resource("snapshot.kubevirt.io", "v1beta1", "virtualmachinesnapshotcontents"), "VirtualMachineSnapshotContent", true, nil},
	{resource("snapshot.kubevirt.io", "v1beta1", "virtualmachinerestores"), "VirtualMachineRestore", true, nil},
	{resource("clone.kubevirt.io", "v1beta1", "virtualmachineclones"), "VirtualMachineClone", true, nil},
	{resource("export.kubevirt.io", "v1beta1", "virtualmachineexports"), "VirtualMachineExport", true, nil},
	{resource("backup.kubevirt.io", "v1alpha1", "virtualmachinebackups"), "VirtualMachineBackup", true, nil},
	{resource("backup.kubevirt.io", "v1alpha1", "virtualmachinebackuptrackers"), "VirtualMachineBackupTracker", true, nil},
	{resource("cdi.kubevirt.io", "v1beta1", "objecttransfers"), "ObjectTransfer", false, nil},
	{resource("pool.kubevirt.io", "v1beta1", "virtualmachinepools"), "VirtualMachinePool", true, nil},
	{resource("instancetype.kubevirt.io", "v1beta1", "virtualmachineinstancetypes"), "VirtualMachineInstancetype", true, nil},
	{resource("instancetype.kubevirt.io", "v1beta1", "virtualmachinepreferences"), "VirtualMachinePreference", true, nil},
	{resource("instancetype.kubevirt.io", "v1beta1", "virtualmachineclusterinstancetypes"), "VirtualMachineClusterInstancetype", false, nil},
	{resource("instancetype.kubevirt.io", "v1beta1", "virtualmachineclusterpreferences"), "VirtualMachineClusterPreference", false, nil},
	{resource("cdi.kubevirt.io", "v1beta1", "datavolumes"), "DataVolume", true, []string{"dv", "dvs"}},
	{resource("cdi.kubevirt.io", "v1beta1", "datasources"), "DataSource", true, nil},
	{resource("cdi.kubevirt.io", "v1beta1", "volumeimportsources"), "VolumeImportSource", true, nil},
	{resource("cdi.kubevirt.io", "v1beta1", "volumeclonesources"), "VolumeCloneSource", true, nil},
	{resource("cdi.kubevirt.io", "v1beta1", "volumeuploadsources"), "VolumeUploadSource", true, nil},
	{resource("forklift.cdi.kubevirt.io", "v1beta1", "ovirtvolumepopulators"), "OvirtVolumePopulator", true, nil},
	{resource("forklift.cdi.kubevirt.io", "v1beta1", "openstackvolumepopulators"), "OpenstackVolumePopulator", true, nil},
}

func core(name string) schema.GroupVersionResource { return resource("", "v1", name) }

func resource(group, version, name string) schema.GroupVersionResource {
	return schema.GroupVersionResource{Group: group, Version: version, Resource: name}
}

// Discovery knows the resources above, as Velero's own helper knows those of a cluster.
func Discovery() (discovery.Helper, error) { return served{}, nil }

type served struct{ discovery.Helper }

// ResourceFor finds a resource by its name, with or without its group, by the singular or a short name.
func (served) ResourceFor(name schema.GroupVersionResource) (schema.GroupVersionResource, metav1.APIResource, error) {
	lower := strings.ToLower(name.Resource)
	for _, s := range Resources {
		named := lower == s.Resource || lower == strings.ToLower(s.Kind) || slices.Contains(s.ShortNames, name.Resource)
		if named && (name.Group == "" || name.Group == s.Group) {
			return s.GroupVersionResource, metav1.APIResource{Name: s.Resource, Namespaced: s.Namespaced}, nil
		}
	}
	return name, metav1.APIResource{}, fmt.Errorf("%s is not served", name)
}

// Resource returns the resource of an object of a scenario.
func Resource(obj *unstructured.Unstructured) (schema.GroupResource, bool) {
	for _, served := range Resources {
		if served.Kind == obj.GetKind() {
			return served.GroupResource(), true
		}
	}
	return schema.GroupResource{}, false
}

// Backup returns the Backup that a request is part of.
func Backup(request Request) *velerov1.Backup {
	backup := &velerov1.Backup{ObjectMeta: metav1.ObjectMeta{Namespace: "velero", Name: "nightly", Labels: request.Labels}}
	backup.UID = types.UID(fmt.Sprint(request.Backup)) // another spec is another Backup
	if err := runtime.DefaultUnstructuredConverter.FromUnstructured(request.Backup, &backup.Spec); err != nil {
		panic(err) // a typo in request.yaml
	}
	return backup
}

// Restore returns the Restore that a request is part of.
func Restore(request Request) *velerov1.Restore {
	restore := &velerov1.Restore{}
	if err := runtime.DefaultUnstructuredConverter.FromUnstructured(request.Restore, restore); err != nil {
		panic(err) // a typo in request.yaml
	}
	restore.Namespace, restore.Name = "velero", "morning"
	restore.Spec.BackupName = cmp.Or(restore.Spec.BackupName, "nightly")
	restore.CreationTimestamp = metav1.NewTime(time.Date(2026, 11, 1, 6, 0, 0, 0, time.UTC))
	return restore
}
