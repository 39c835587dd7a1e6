package kubevirt

import (
	"k8s.io/apimachinery/pkg/runtime/schema"
	virtv1 "kubevirt.io/api/core/v1"
	"kubevirt.io/api/pool"
	cdi "kubevirt.io/containerized-data-importer-api/pkg/apis/core"
	cdiv1 "kubevirt.io/containerized-data-importer-api/pkg/apis/core/v1beta1"
)

// Labels that KubeVirt sets and the plugin reads.
const (
	// PodRoleLabel tells what a pod of KubeVirt is for.
	PodRoleLabel = virtv1.AppLabel
	// LauncherRole is PodRoleLabel's value on a virt-launcher pod (KubeVirt 1.9.0, pkg/virt-controller/services/template.go).
	LauncherRole = "virt-launcher"
	// HotplugRole is PodRoleLabel's value on a pod that attaches a hotplugged disk (same file).
	HotplugRole = "hotplug-disk"
	// ExporterRole is PodRoleLabel's value on a pod that hands out disks (KubeVirt 1.9.0, export/v1beta1 App; that package and
	// pool/v1beta1 would bring all their types into the binary).
	ExporterRole = "virt-exporter"
	// CreatedByLabel holds, on a launcher pod, the UID of its VirtualMachineInstance.
	CreatedByLabel = virtv1.CreatedByLabel
	// PersistentStateLabel holds, on a backend-storage PVC (vTPM, EFI variables), the name of its VirtualMachineInstance
	// (KubeVirt 1.9.0, pkg/storage/backend-storage/backend-storage.go; set since 1.4).
	PersistentStateLabel = "persistent-state-for"
)

// StartRevisionPrefix begins the name of the ControllerRevision with which KubeVirt notes down what a VM was started with;
// the VM's UID and generation follow (KubeVirt 1.9.0, pkg/virt-controller/watch/vm/vm.go, vmRevisionName).
const StartRevisionPrefix = "revision-start-vm-"

// VMSnapshotPrefix and VMSnapshotVolume stand before and after the UID of a VirtualMachineSnapshot in the names of its VolumeSnapshots; the name of the volume
// follows (KubeVirt 1.8.4, pkg/storage/snapshot/snapshot.go, createContent).
const (
	VMSnapshotPrefix = "vmsnapshot-"
	VMSnapshotVolume = "-volume-"
)

// SnapshotSucceeded is the status.phase of a VirtualMachineSnapshot that was taken (snapshot/v1beta1 Succeeded; that package would bring all its types into
// the binary).
const SnapshotSucceeded = "Succeeded"

// RuntimeLabels describe where and by whom a VirtualMachineInstance is running. KubeVirt's webhook rejects the creation
// of one that carries a reserved label among them (KubeVirt 1.9.0,
// pkg/virt-api/webhooks/validating-webhook/admitters/vmi-create-admitter.go); the last is only stale.
var RuntimeLabels = []string{
	virtv1.CreatedByLabel,
	virtv1.MigrationJobLabel,
	virtv1.NodeNameLabel,
	virtv1.MigrationTargetNodeNameLabel,
	virtv1.NodeSchedulable,
	virtv1.InstallStrategyLabel,
	virtv1.OutdatedLauncherImageLabel,
}

// Labels of what CDI works with (CDI 1.65.0, pkg/common/common.go): CDILabel says that it is CDI's, CDIComponentLabel on a pod
// what it does, with a value of CDIWorkers if that is to fill or read a disk.
const (
	CDILabel          = "app"
	CDILabelValue     = "containerized-data-importer"
	CDIComponentLabel = cdi.GroupName
)

// CDIWorkers are the values of CDIComponentLabel on pods that fill or read a disk.
var CDIWorkers = []string{"importer", "cdi-clone-source", "cdi-upload-server", "cdi-populator-prep"}

// Finalizers, each with the file of its owner: KubeVirt 1.8.4, CDI 1.65.0, external-snapshotter 8.7.0.
const (
	PoolFinalizer           = pool.GroupName + "/finalizer"                             // staging/src/kubevirt.io/api/pool/v1beta1/types.go
	SnapshotSourceFinalizer = "snapshot.kubevirt.io/snapshot-source-protection"         // pkg/storage/snapshot/source.go
	CrossNamespaceFinalizer = cdi.GroupName + "/dataVolumeFinalizer"                    // pkg/controller/datavolume/clone-controller-base.go
	ClonePopulatorFinalizer = cdi.GroupName + "/clonePopulator"                         // pkg/controller/populators/clone-populator.go
	CloneSourceFinalizer    = cdi.GroupName + "/cloneSource"                            // pkg/controller/clone-controller.go
	ImageStreamFinalizer    = cdi.GroupName + "/importImageStream"                      // pkg/controller/import-controller.go
	SnapshottedFinalizer    = "snapshot.storage.kubernetes.io/pvc-as-source-protection" // pkg/utils/util.go
)

// Annotations of CDI (1.65.0, pkg/controller/common/util.go unless exported by its API).
const (
	// PrePopulated on a DataVolume: its PVC comes from elsewhere, create none.
	PrePopulated = cdiv1.AnnPrePopulated
	// PopulatedFor on a PVC: it holds the finished data of the DataVolume of this name.
	PopulatedFor = cdi.GroupName + "/storage.populatedFor"
	// PodPhase on a PVC: the phase of the pod that last worked on it.
	PodPhase = cdi.GroupName + "/storage.pod.phase"
	// ImportEndpoint and ImportSource on a PVC: an importer pod is to write into it.
	ImportEndpoint = cdi.GroupName + "/storage.import.endpoint"
	ImportSource   = cdi.GroupName + "/storage.import.source"
	// ImportSecretHeaders on a DataVolume or PVC, with a number behind: a secret with headers for the importer.
	ImportSecretHeaders = cdi.GroupName + "/storage.import.secretExtraHeaders"
	// UploadTarget on a PVC: an upload pod is to write into it.
	UploadTarget = cdi.GroupName + "/storage.upload.target"
	// CloneRequest on a PVC: a clone pod is to write into it; CloneOf: the clone is complete.
	CloneRequest = "k8s.io/CloneRequest"
	CloneOf      = "k8s.io/CloneOf"
	// CurrentCheckpoint on a PVC: an import in several stages; CheckpointsDone: its last stage is in.
	CurrentCheckpoint = cdi.GroupName + "/storage.checkpoint.current"
	CheckpointsDone   = cdi.GroupName + "/storage.checkpoint.done"
	// CloneToken and ExtendedCloneToken on a DataVolume or PVC: it may be filled from another namespace.
	CloneToken         = cdi.GroupName + "/storage.clone.token"
	ExtendedCloneToken = cdi.GroupName + "/storage.extended.clone.token"
	// OwnedByDataVolume and EventsSource on a PVC: the DataVolume, as namespace/name.
	OwnedByDataVolume = cdi.GroupName + "/ownedByDataVolume"
	EventsSource      = cdi.GroupName + "/events.source"
	// DataSourceNamespace on a PVC: where its VolumeCloneSource is (pkg/controller/populators/clone-populator.go).
	DataSourceNamespace = cdi.GroupName + "/dataSourceNamespace"
)

// ImportAnnotations on a DataVolume or PVC name what an importer needs (CDI 1.65.0, pkg/controller/common/util.go).
var ImportAnnotations = map[string]schema.GroupResource{
	cdi.GroupName + "/storage.import.secretName":    Secrets,
	cdi.GroupName + "/storage.import.certConfigMap": ConfigMaps,
	cdi.GroupName + "/storage.pod.vddk.extraargs":   ConfigMaps,
}

// Annotations and labels that kubevirt-velero-plugin 0.9 leaves in a backup (pkg/util).
const (
	// IsOwned on a VirtualMachineInstance: a VM makes it.
	IsOwned = cdi.GroupName + "/velero.isOwned"
	// InProgress on a PVC: CDI had not finished filling it.
	InProgress = "kvp.kubevirt.io/storage.inprogress"
)

// AdditionalItems is the plugin's own annotation on a backed-up VirtualMachine or VirtualMachineInstance: the additional
// items that were in the cluster and admitted by the backup's filters, so that a restore asks for those and no others.
const AdditionalItems = "velero.kubevirt.io/additional-items"

// The plugin's own annotations on a backed-up VirtualMachine, or on a VirtualMachineInstance of its own: how consistent its disks
// are with each other.
const (
	Consistency        = "velero.kubevirt.io/consistency"
	ConsistencyReason  = Consistency + "-reason"
	ConsistencyMessage = Consistency + "-message"
	// ConsistencyGroup is the group of VMs all of whose disks are of one moment.
	ConsistencyGroup = Consistency + "-group"
	// FreezeWindow is how long the guest had to stay frozen, such as 12.5s.
	FreezeWindow = "velero.kubevirt.io/freeze-window"
	// ConsistencyPolicy is what the VM's owner asks for.
	ConsistencyPolicy = Consistency + "-policy"
)

// FreezeTogether is a label by which a person puts VMs of a namespace into a group: their guests are frozen, and their disks snapshotted, at one moment.
const FreezeTogether = "velero.kubevirt.io/freeze-together"

// Snapshotter is the value of the parameter "snapshotter" of a volume policy's action "custom" by which the plugin is asked to take the snapshots
// (Velero 1.18.1, internal/resourcepolicies/resource_policies.go).
const Snapshotter = "kubevirt"

// ResolvedSource is the plugin's own annotation on a backed-up DataVolume: the disk or snapshot that its DataSource stands for,
// as the source of a DataVolume in JSON.
const ResolvedSource = "velero.kubevirt.io/resolved-source"

// VolumeSnapshotsOnStorage is the plugin's own annotation on a backed-up VirtualMachineSnapshotContent: by the name of each of its VolumeSnapshots, in JSON, the
// spec of a VolumeSnapshotContent for the snapshot that the storage has.
const VolumeSnapshotsOnStorage = "velero.kubevirt.io/volume-snapshots-on-storage"

// RestoreStatus asks Velero for an item's status, too (Velero 1.18.1, pkg/restore/restore.go; since 1.16).
const RestoreStatus = "velero.io/restore-status"

// HeldRunStrategy is the plugin's own annotation on a restored VirtualMachine that does not run yet: the run strategy that it
// gets when its disks have their data.
const HeldRunStrategy = "velero.kubevirt.io/held-run-strategy"

// HeldBecause is the plugin's own annotation on a restored VirtualMachine that does not run since a disk is missing: which, why,
// and how to start it all the same.
const HeldBecause = "velero.kubevirt.io/held-because"

// The plugin's own labels on items in a backup, by which a restore can select them, and the annotations that keep a value that the object had itself. The
// claim's label, its values and its annotations are those of kubevirt-velero-plugin (pkg/util).
const (
	VMLabel          = "velero.kubevirt.io/vm"      // on a VirtualMachine: its name
	PVCUIDLabel      = "velero.kubevirt.io/pvc-uid" // on a PersistentVolumeClaim and its VolumeSnapshot: the claim's UID
	OriginalVM       = "velero.kubevirt.io/original-vm"
	OriginalPVCUID   = "velero.kubevirt.io/original-pvc-uid"
	OriginalSnapshot = "velero.kubevirt.io/original-volumesnapshot-uid"
)

// Annotations of a VirtualMachineInstance that name other objects.
const (
	// HookSidecars lists containers that run beside the guest, as JSON (KubeVirt 1.9.0, pkg/hooks/hooks.go).
	HookSidecars = "hooks.kubevirt.io/hookSidecars"
	// MultusNetworks and MultusDefaultNetwork list networks of the launcher pod.
	MultusNetworks       = "k8s.v1.cni.cncf.io/networks"
	MultusDefaultNetwork = "v1.multus-cni.io/default-network"
)
