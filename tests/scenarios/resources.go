package scenarios

import (
	"cmp"
	"time"

	velerov1 "github.com/vmware-tanzu/velero/pkg/apis/velero/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
)

// A Served is a kind as an API server serves it.
type Served struct {
	schema.GroupVersionResource
	Kind       string
	Namespaced bool
}

// Resources lists the kinds that occur in the scenarios.
var Resources = []Served{
	{core("namespaces"), "Namespace", false},
	{core("persistentvolumes"), "PersistentVolume", false},
	{core("persistentvolumeclaims"), "PersistentVolumeClaim", true},
	{core("pods"), "Pod", true},
	{core("nodes"), "Node", false},
	{resource("velero.io", "v1", "backups"), "Backup", true},
	{core("secrets"), "Secret", true},
	{core("configmaps"), "ConfigMap", true},
	{core("services"), "Service", true},
	{core("serviceaccounts"), "ServiceAccount", true},
	{resource("apps", "v1", "controllerrevisions"), "ControllerRevision", true},
	{resource("policy", "v1", "poddisruptionbudgets"), "PodDisruptionBudget", true},
	{resource("scheduling.k8s.io", "v1", "priorityclasses"), "PriorityClass", false},
	{resource("resource.k8s.io", "v1", "resourceclaims"), "ResourceClaim", true},
	{resource("resource.k8s.io", "v1", "resourceclaimtemplates"), "ResourceClaimTemplate", true},
	{resource("snapshot.storage.k8s.io", "v1", "volumesnapshots"), "VolumeSnapshot", true},
	{resource("k8s.cni.cncf.io", "v1", "network-attachment-definitions"), "NetworkAttachmentDefinition", true},
	{resource("image.openshift.io", "v1", "imagestreams"), "ImageStream", true},
	{resource("kubevirt.io", "v1", "kubevirts"), "KubeVirt", true},
	{resource("kubevirt.io", "v1", "virtualmachines"), "VirtualMachine", true},
	{resource("kubevirt.io", "v1", "virtualmachineinstanceguestagentinfos"), "VirtualMachineInstanceGuestAgentInfo", true},
	{resource("kubevirt.io", "v1", "virtualmachineinstances"), "VirtualMachineInstance", true},
	{resource("kubevirt.io", "v1", "virtualmachineinstancereplicasets"), "VirtualMachineInstanceReplicaSet", true},
	{resource("kubevirt.io", "v1", "virtualmachineinstancepresets"), "VirtualMachineInstancePreset", true},
	{resource("kubevirt.io", "v1", "virtualmachineinstancemigrations"), "VirtualMachineInstanceMigration", true},
	{resource("snapshot.kubevirt.io", "v1beta1", "virtualmachinesnapshots"), "VirtualMachineSnapshot", true},
	{resource("snapshot.kubevirt.io", "v1beta1", "virtualmachinesnapshotcontents"), "VirtualMachineSnapshotContent", true},
	{resource("snapshot.kubevirt.io", "v1beta1", "virtualmachinerestores"), "VirtualMachineRestore", true},
	{resource("clone.kubevirt.io", "v1beta1", "virtualmachineclones"), "VirtualMachineClone", true},
	{resource("export.kubevirt.io", "v1beta1", "virtualmachineexports"), "VirtualMachineExport", true},
	{resource("backup.kubevirt.io", "v1alpha1", "virtualmachinebackups"), "VirtualMachineBackup", true},
	{resource("backup.kubevirt.io", "v1alpha1", "virtualmachinebackuptrackers"), "VirtualMachineBackupTracker", true},
	{resource("cdi.kubevirt.io", "v1beta1", "objecttransfers"), "ObjectTransfer", false},
	{resource("pool.kubevirt.io", "v1beta1", "virtualmachinepools"), "VirtualMachinePool", true},
	{resource("instancetype.kubevirt.io", "v1beta1", "virtualmachineinstancetypes"), "VirtualMachineInstancetype", true},
	{resource("instancetype.kubevirt.io", "v1beta1", "virtualmachinepreferences"), "VirtualMachinePreference", true},
	{resource("instancetype.kubevirt.io", "v1beta1", "virtualmachineclusterinstancetypes"), "VirtualMachineClusterInstancetype", false},
	{resource("instancetype.kubevirt.io", "v1beta1", "virtualmachineclusterpreferences"), "VirtualMachineClusterPreference", false},
	{resource("cdi.kubevirt.io", "v1beta1", "datavolumes"), "DataVolume", true},
	{resource("cdi.kubevirt.io", "v1beta1", "datasources"), "DataSource", true},
	{resource("cdi.kubevirt.io", "v1beta1", "volumeimportsources"), "VolumeImportSource", true},
	{resource("cdi.kubevirt.io", "v1beta1", "volumeclonesources"), "VolumeCloneSource", true},
	{resource("cdi.kubevirt.io", "v1beta1", "volumeuploadsources"), "VolumeUploadSource", true},
	{resource("forklift.cdi.kubevirt.io", "v1beta1", "ovirtvolumepopulators"), "OvirtVolumePopulator", true},
	{resource("forklift.cdi.kubevirt.io", "v1beta1", "openstackvolumepopulators"), "OpenstackVolumePopulator", true},
}

func core(name string) schema.GroupVersionResource { return resource("", "v1", name) }

func resource(group, version, name string) schema.GroupVersionResource {
	return schema.GroupVersionResource{Group: group, Version: version, Resource: name}
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
