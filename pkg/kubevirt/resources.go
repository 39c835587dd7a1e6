// Package kubevirt names the KubeVirt, CDI and Kubernetes things this plugin deals in: resources, kinds, labels,
// annotations and item IDs. It holds words, no behaviour.
package kubevirt

import (
	"strings"

	"k8s.io/apimachinery/pkg/runtime/schema"
	"kubevirt.io/api/backup"
	"kubevirt.io/api/clone"
	"kubevirt.io/api/core"
	"kubevirt.io/api/export"
	"kubevirt.io/api/instancetype"
	"kubevirt.io/api/pool"
	"kubevirt.io/api/snapshot"
	cdi "kubevirt.io/containerized-data-importer-api/pkg/apis/core"
	"kubevirt.io/containerized-data-importer-api/pkg/apis/forklift"
)

// The resources the plugin reads, edits or names as additional items.
var (
	KubeVirts                         = schema.GroupResource{Group: core.GroupName, Resource: "kubevirts"}
	VirtualMachines                   = schema.GroupResource{Group: core.GroupName, Resource: "virtualmachines"}
	VirtualMachineInstances           = schema.GroupResource{Group: core.GroupName, Resource: "virtualmachineinstances"}
	VirtualMachineInstanceReplicaSets = schema.GroupResource{Group: core.GroupName, Resource: "virtualmachineinstancereplicasets"}
	VirtualMachineInstancePresets     = schema.GroupResource{Group: core.GroupName, Resource: "virtualmachineinstancepresets"}
	VirtualMachinePools               = schema.GroupResource{Group: pool.GroupName, Resource: "virtualmachinepools"}

	VirtualMachineInstanceMigrations = schema.GroupResource{Group: core.GroupName, Resource: "virtualmachineinstancemigrations"}
	VirtualMachineSnapshots          = schema.GroupResource{Group: snapshot.GroupName, Resource: "virtualmachinesnapshots"}
	VirtualMachineSnapshotContents   = schema.GroupResource{Group: snapshot.GroupName, Resource: "virtualmachinesnapshotcontents"}
	VirtualMachineRestores           = schema.GroupResource{Group: snapshot.GroupName, Resource: "virtualmachinerestores"}
	VirtualMachineClones             = schema.GroupResource{Group: clone.GroupName, Resource: "virtualmachineclones"}
	VirtualMachineExports            = schema.GroupResource{Group: export.GroupName, Resource: "virtualmachineexports"}
	VirtualMachineBackups            = schema.GroupResource{Group: backup.GroupName, Resource: "virtualmachinebackups"}
	VirtualMachineBackupTrackers     = schema.GroupResource{Group: backup.GroupName, Resource: "virtualmachinebackuptrackers"}
	ObjectTransfers                  = schema.GroupResource{Group: cdi.GroupName, Resource: "objecttransfers"}

	Instancetypes        = schema.GroupResource{Group: instancetype.GroupName, Resource: instancetype.PluralResourceName}
	ClusterInstancetypes = schema.GroupResource{Group: instancetype.GroupName, Resource: instancetype.ClusterPluralResourceName}
	Preferences          = schema.GroupResource{Group: instancetype.GroupName, Resource: instancetype.PluralPreferenceResourceName}
	ClusterPreferences   = schema.GroupResource{Group: instancetype.GroupName, Resource: instancetype.ClusterPluralPreferenceResourceName}

	DataVolumes               = schema.GroupResource{Group: cdi.GroupName, Resource: "datavolumes"}
	DataSources               = schema.GroupResource{Group: cdi.GroupName, Resource: "datasources"}
	VolumeImportSources       = schema.GroupResource{Group: cdi.GroupName, Resource: "volumeimportsources"}
	VolumeCloneSources        = schema.GroupResource{Group: cdi.GroupName, Resource: "volumeclonesources"}
	VolumeUploadSources       = schema.GroupResource{Group: cdi.GroupName, Resource: "volumeuploadsources"}
	OvirtVolumePopulators     = schema.GroupResource{Group: forklift.GroupName, Resource: "ovirtvolumepopulators"}
	OpenstackVolumePopulators = schema.GroupResource{Group: forklift.GroupName, Resource: "openstackvolumepopulators"}

	// VeleroBackups tell what is backed up and was restored.
	VeleroBackups = schema.GroupResource{Group: "velero.io", Resource: "backups"}
	// DataUploads are what Velero's data mover works from.
	DataUploads = schema.GroupResource{Group: "velero.io", Resource: "datauploads"}
	// VeleroRestores are what a rollback or a drill has Velero do.
	VeleroRestores = schema.GroupResource{Group: "velero.io", Resource: "restores"}

	Namespaces                   = schema.GroupResource{Resource: "namespaces"}
	Events                       = schema.GroupResource{Resource: "events"}
	NetworkPolicies              = schema.GroupResource{Group: "networking.k8s.io", Resource: "networkpolicies"}
	Nodes                        = schema.GroupResource{Resource: "nodes"}
	Pods                         = schema.GroupResource{Resource: "pods"}
	PersistentVolumes            = schema.GroupResource{Resource: "persistentvolumes"}
	PersistentVolumeClaims       = schema.GroupResource{Resource: "persistentvolumeclaims"}
	Secrets                      = schema.GroupResource{Resource: "secrets"}
	ConfigMaps                   = schema.GroupResource{Resource: "configmaps"}
	Services                     = schema.GroupResource{Resource: "services"}
	ServiceAccounts              = schema.GroupResource{Resource: "serviceaccounts"}
	ControllerRevisions          = schema.GroupResource{Group: "apps", Resource: "controllerrevisions"}
	PodDisruptionBudgets         = schema.GroupResource{Group: "policy", Resource: "poddisruptionbudgets"}
	PriorityClasses              = schema.GroupResource{Group: "scheduling.k8s.io", Resource: "priorityclasses"}
	ResourceClaims               = schema.GroupResource{Group: "resource.k8s.io", Resource: "resourceclaims"}
	ResourceClaimTemplates       = schema.GroupResource{Group: "resource.k8s.io", Resource: "resourceclaimtemplates"}
	VolumeSnapshots              = schema.GroupResource{Group: "snapshot.storage.k8s.io", Resource: "volumesnapshots"}
	VolumeSnapshotClasses        = schema.GroupResource{Group: "snapshot.storage.k8s.io", Resource: "volumesnapshotclasses"}
	VolumeSnapshotContents       = schema.GroupResource{Group: "snapshot.storage.k8s.io", Resource: "volumesnapshotcontents"}
	NetworkAttachmentDefinitions = schema.GroupResource{Group: "k8s.cni.cncf.io", Resource: "network-attachment-definitions"}
	// What verify compares a backup with.
	CDIs           = schema.GroupResource{Group: cdi.GroupName, Resource: "cdis"}
	StorageClasses = schema.GroupResource{Group: "storage.k8s.io", Resource: "storageclasses"}

	// GuestAgentInfos are no objects: KubeVirt asks the guest agent when one is read.
	GuestAgentInfos = schema.GroupResource{Group: core.GroupName, Resource: "virtualmachineinstanceguestagentinfos"}
	ImageStreams    = schema.GroupResource{Group: "image.openshift.io", Resource: "imagestreams"}
)

// SharedTypes are the cluster-wide resources that a VM brings only into a backup that asks for them: every namespace shares them, and the VM's revision
// is enough to restore it.
var SharedTypes = []schema.GroupResource{ClusterInstancetypes, ClusterPreferences}

// VMISpec is where each kind that has guests or makes them embeds the spec of a VirtualMachineInstance.
var VMISpec = map[schema.GroupResource]string{
	VirtualMachines:                   "spec.template.spec",
	VirtualMachineInstances:           "spec",
	VirtualMachineInstanceReplicaSets: "spec.template.spec",
	VirtualMachinePools:               "spec.virtualMachineTemplate.spec.template.spec",
}

// VMSpec is where each kind that is or makes VirtualMachines has the spec of one.
var VMSpec = map[schema.GroupResource]string{
	VirtualMachines:     "spec",
	VirtualMachinePools: "spec.virtualMachineTemplate.spec",
}

// A kind is what an item calls itself: its API group and kind.
type kind struct{ group, kind string }

// kinds lists the items Velero hands to the plugin.
var kinds = map[kind]schema.GroupResource{
	{core.GroupName, "VirtualMachine"}:                    VirtualMachines,
	{core.GroupName, "VirtualMachineInstance"}:            VirtualMachineInstances,
	{core.GroupName, "VirtualMachineInstanceReplicaSet"}:  VirtualMachineInstanceReplicaSets,
	{core.GroupName, "VirtualMachineInstancePreset"}:      VirtualMachineInstancePresets,
	{pool.GroupName, "VirtualMachinePool"}:                VirtualMachinePools,
	{core.GroupName, "VirtualMachineInstanceMigration"}:   VirtualMachineInstanceMigrations,
	{snapshot.GroupName, "VirtualMachineSnapshot"}:        VirtualMachineSnapshots,
	{snapshot.GroupName, "VirtualMachineSnapshotContent"}: VirtualMachineSnapshotContents,
	{snapshot.GroupName, "VirtualMachineRestore"}:         VirtualMachineRestores,
	{clone.GroupName, "VirtualMachineClone"}:              VirtualMachineClones,
	{export.GroupName, "VirtualMachineExport"}:            VirtualMachineExports,
	{backup.GroupName, "VirtualMachineBackup"}:            VirtualMachineBackups,
	{backup.GroupName, "VirtualMachineBackupTracker"}:     VirtualMachineBackupTrackers,
	{cdi.GroupName, "ObjectTransfer"}:                     ObjectTransfers,
	{cdi.GroupName, "DataVolume"}:                         DataVolumes,
	{cdi.GroupName, "DataSource"}:                         DataSources,
	{cdi.GroupName, "VolumeImportSource"}:                 VolumeImportSources,
	{cdi.GroupName, "VolumeCloneSource"}:                  VolumeCloneSources,
	{cdi.GroupName, "VolumeUploadSource"}:                 VolumeUploadSources,
	{forklift.GroupName, "OvirtVolumePopulator"}:          OvirtVolumePopulators,
	{forklift.GroupName, "OpenstackVolumePopulator"}:      OpenstackVolumePopulators,
	{"", "PersistentVolumeClaim"}:                         PersistentVolumeClaims,
	{"", "Pod"}:                                           Pods,
	{"", "Service"}:                                       Services,
	{"apps", "ControllerRevision"}:                        ControllerRevisions,
	{"policy", "PodDisruptionBudget"}:                     PodDisruptionBudgets,
	{VolumeSnapshots.Group, "VolumeSnapshot"}:             VolumeSnapshots,
	{VolumeSnapshots.Group, "VolumeSnapshotContent"}:      VolumeSnapshotContents,
}

// ResourceOf returns the resource of an item by its apiVersion and kind, and false for a kind the plugin has no rule for.
func ResourceOf(apiVersion, kindName string) (schema.GroupResource, bool) {
	group := ""
	if i := strings.LastIndexByte(apiVersion, '/'); i >= 0 {
		group = apiVersion[:i]
	}
	resource, known := kinds[kind{group, kindName}]
	return resource, known
}
