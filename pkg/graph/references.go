// Package graph knows which objects a KubeVirt or CDI object refers to. What is named in a field is a row of the table
// in references.go; what has to be looked up – by label, by owner – is a function in lookups.go; neighbours.go puts the
// two together.
package graph

import (
	"maps"

	"k8s.io/apimachinery/pkg/runtime/schema"

	"velero-plugin-for-kubevirt/pkg/kubevirt"
)

// A Reference is a field that holds the name of another object: in the same namespace, unless it says otherwise.
type Reference struct {
	From shape
	Path string // below the place where From's kinds have the shape
	To   schema.GroupResource
	Name naming
	// OptionalIf is a boolean beside the name that tells KubeVirt to do without the object.
	OptionalIf string
	// Optional says why the referrer can do without the object: it is brought along only when it is known to be there.
	Optional string
	// Guessed marks an object that nobody names: when it is not there, nobody misses it.
	Guessed bool
	// UntilFilled says why an object is optional once a volume has been filled. Before, it is needed.
	UntilFilled string
	// OnlyUnfinished marks what a DataVolume needs until it has fetched its source: nothing that a restore needs
	// afterwards. It is followed in the DataVolume's own namespace only: elsewhere it is an image that many share.
	OnlyUnfinished bool
	// OnlyFinished marks what is of no use until a DataVolume has fetched its source.
	OnlyFinished bool
	// NumberedIf is the pool's setting that makes each of its VMs use the object of this name with the VM's number behind.
	NumberedIf string
}

// A naming is how a field names an object.
type naming int

const (
	name                naming = iota // its name, in the referrer's namespace
	clusterName                       // its name; it has no namespace
	namespacedName                    // namespace/name, or its name
	nameBesideNamespace               // its name; the namespace stands in the field namespace beside it
)

// A shape is a part that several kinds embed, with the path at which each has it.
type shape map[schema.GroupResource]string

var (
	vmiSpec = shape(kubevirt.VMISpec)
	// domain is the part of it that presets have too.
	domain     = with(vmiSpec, ".domain", shape{kubevirt.VirtualMachineInstancePresets: "spec.domain"})
	vmSpec     = shape(kubevirt.VMSpec)
	vm         = shape{kubevirt.VirtualMachines: ""}
	vmi        = shape{kubevirt.VirtualMachineInstances: ""}
	dataVolume = shape{kubevirt.DataVolumes: ""}
	// dataVolumeSpec is also what a VM or pool makes DataVolumes of.
	dataVolumeSpec = with(vmSpec, ".dataVolumeTemplates[].spec", shape{kubevirt.DataVolumes: "spec"})
	importSource   = with(dataVolumeSpec, ".source", shape{kubevirt.VolumeImportSources: "spec.source"})
	dataSource     = shape{kubevirt.DataSources: ""}
	serviceAccount = shape{kubevirt.ServiceAccounts: ""}
	forkliftSource = shape{kubevirt.OvirtVolumePopulators: "spec", kubevirt.OpenstackVolumePopulators: "spec"}
)

// with returns more and, for the kinds of s, the part below theirs.
func with(s shape, below string, more shape) shape {
	result := maps.Clone(more)
	for kind, path := range s {
		result[kind] = path + below
	}
	return result
}

// What a pool's nameGeneration calls its settings (KubeVirt 1.9.0, pkg/virt-controller/watch/pool/pool.go, indexVMSpec).
const (
	numberedConfigMaps = "appendIndexToConfigMapRefs"
	numberedSecrets    = "appendIndexToSecretRefs"
)

// Why something that is named is not needed.
const (
	claimIsEnough = "KubeVirt uses the claim of this name"
	onlyADump     = "a memory dump is for people, the VM does not read it"
	filled        = "the disk is filled, nothing is fetched any more"
)

// references is the table. Paths and what stands behind them: kubevirt.io/api v1.9.0, core/v1/schema.go and types.go;
// containerized-data-importer-api v1.65.0, core/v1beta1/types.go. A test resolves every path in those types, and another
// finds the fields that are not here.
var references = []Reference{
	// A disk made by a DataVolume is a PVC of the same name (KubeVirt 1.9.0, pkg/storage/types/pvc.go). The DataVolume
	// itself may be gone – CDI up to 1.61 collected finished ones – and KubeVirt then uses the PVC.
	{From: vmiSpec, Path: "volumes[].dataVolume.name", To: kubevirt.PersistentVolumeClaims},
	{From: vmiSpec, Path: "volumes[].dataVolume.name", To: kubevirt.DataVolumes, Optional: claimIsEnough},
	// A claim may belong to a DataVolume of the same name (KubeVirt, docs/backup-restore-integration.md).
	{From: vmiSpec, Path: "volumes[].persistentVolumeClaim.claimName", To: kubevirt.PersistentVolumeClaims},
	{From: vmiSpec, Path: "volumes[].persistentVolumeClaim.claimName", To: kubevirt.DataVolumes, Optional: claimIsEnough, Guessed: true},
	{From: vmiSpec, Path: "volumes[].ephemeral.persistentVolumeClaim.claimName", To: kubevirt.PersistentVolumeClaims},
	{From: vmiSpec, Path: "volumes[].ephemeral.persistentVolumeClaim.claimName", To: kubevirt.DataVolumes, Optional: claimIsEnough, Guessed: true},
	{From: vmiSpec, Path: "volumes[].memoryDump.claimName", To: kubevirt.PersistentVolumeClaims, Optional: onlyADump},

	{From: vmiSpec, Path: "volumes[].configMap.name", To: kubevirt.ConfigMaps, OptionalIf: "optional", NumberedIf: numberedConfigMaps},
	{From: vmiSpec, Path: "volumes[].secret.secretName", To: kubevirt.Secrets, OptionalIf: "optional", NumberedIf: numberedSecrets},
	{From: vmiSpec, Path: "volumes[].cloudInitNoCloud.secretRef.name", To: kubevirt.Secrets, NumberedIf: numberedSecrets},
	{From: vmiSpec, Path: "volumes[].cloudInitNoCloud.networkDataSecretRef.name", To: kubevirt.Secrets, NumberedIf: numberedSecrets},
	{From: vmiSpec, Path: "volumes[].cloudInitConfigDrive.secretRef.name", To: kubevirt.Secrets, NumberedIf: numberedSecrets},
	{From: vmiSpec, Path: "volumes[].cloudInitConfigDrive.networkDataSecretRef.name", To: kubevirt.Secrets, NumberedIf: numberedSecrets},
	{From: vmiSpec, Path: "volumes[].sysprep.configMap.name", To: kubevirt.ConfigMaps},
	{From: vmiSpec, Path: "volumes[].sysprep.secret.name", To: kubevirt.Secrets},
	{From: vmiSpec, Path: "volumes[].serviceAccount.serviceAccountName", To: kubevirt.ServiceAccounts},
	{From: vmiSpec, Path: "serviceAccountName", To: kubevirt.ServiceAccounts}, // since KubeVirt 1.9; wins over the volume
	// The image itself is outside the cluster; the secret that opens its registry is not.
	{From: vmiSpec, Path: "volumes[].containerDisk.imagePullSecret", To: kubevirt.Secrets},
	{From: domain, Path: "firmware.kernelBoot.container.imagePullSecret", To: kubevirt.Secrets},

	{From: vmiSpec, Path: "accessCredentials[].sshPublicKey.source.secret.secretName", To: kubevirt.Secrets},
	{From: vmiSpec, Path: "accessCredentials[].userPassword.source.secret.secretName", To: kubevirt.Secrets},

	{From: vmiSpec, Path: "resourceClaims[].resourceClaimName", To: kubevirt.ResourceClaims},                 // since KubeVirt 1.6
	{From: vmiSpec, Path: "resourceClaims[].resourceClaimTemplateName", To: kubevirt.ResourceClaimTemplates}, // since KubeVirt 1.6
	// KubeVirt 1.9.0, pkg/network/multus/nad.go
	{From: vmiSpec, Path: "networks[].multus.networkName", To: kubevirt.NetworkAttachmentDefinitions, Name: namespacedName},
	{From: vmiSpec, Path: "priorityClassName", To: kubevirt.PriorityClasses, Name: clusterName},

	// The revision is a full copy of the type as the VM uses it. KubeVirt up to 1.4 names it in the spec, newer ones in
	// the status; the spec wins (KubeVirt 1.9.0, pkg/instancetype/find/revision.go).
	{From: vmSpec, Path: "instancetype.revisionName", To: kubevirt.ControllerRevisions},
	{From: vmSpec, Path: "preference.revisionName", To: kubevirt.ControllerRevisions},
	{From: vm, Path: "status.instancetypeRef.controllerRevisionRef.name", To: kubevirt.ControllerRevisions},
	{From: vm, Path: "status.preferenceRef.controllerRevisionRef.name", To: kubevirt.ControllerRevisions},

	// A disk that was asked for and is not yet in the spec.
	{From: vm, Path: "status.volumeRequests[].addVolumeOptions.volumeSource.dataVolume.name", To: kubevirt.PersistentVolumeClaims},
	{From: vm, Path: "status.volumeRequests[].addVolumeOptions.volumeSource.dataVolume.name", To: kubevirt.DataVolumes, Optional: claimIsEnough},
	{From: vm, Path: "status.volumeRequests[].addVolumeOptions.volumeSource.persistentVolumeClaim.claimName", To: kubevirt.PersistentVolumeClaims},
	{From: vm, Path: "status.memoryDumpRequest.claimName", To: kubevirt.PersistentVolumeClaims, Optional: onlyADump},
	// While volumes migrate the spec names the destination, and the data is still on the source
	// (KubeVirt 1.9.0, pkg/virt-controller/watch/vm/vm.go).
	{From: vm, Path: "status.volumeUpdateState.volumeMigrationState.migratedVolumes[].sourcePVCInfo.claimName", To: kubevirt.PersistentVolumeClaims},
	{From: vm, Path: "status.volumeUpdateState.volumeMigrationState.migratedVolumes[].destinationPVCInfo.claimName", To: kubevirt.PersistentVolumeClaims},
	{From: vmi, Path: "status.migratedVolumes[].sourcePVCInfo.claimName", To: kubevirt.PersistentVolumeClaims},
	{From: vmi, Path: "status.migratedVolumes[].destinationPVCInfo.claimName", To: kubevirt.PersistentVolumeClaims},
	// What the guest really has: hotplugged disks, and under the name persistent-state-for-this-vm its backend storage.
	{From: vmi, Path: "status.volumeStatus[].persistentVolumeClaimInfo.claimName", To: kubevirt.PersistentVolumeClaims},
	{From: vmi, Path: "status.volumeStatus[].memoryDumpVolume.claimName", To: kubevirt.PersistentVolumeClaims, Optional: onlyADump},

	// The PVC that CDI makes for a DataVolume has its name; the status has it once there is one.
	// Before it is filled a restore leaves it out, and Velero cannot back it up: it has no volume.
	{From: dataVolume, Path: "status.claimName", To: kubevirt.PersistentVolumeClaims, OnlyFinished: true},
	{From: dataVolume, Path: "metadata.name", To: kubevirt.PersistentVolumeClaims, Optional: "status.claimName names the PVC", Guessed: true, OnlyFinished: true},
	// Without its DataSource CDI does not reconcile even a finished DataVolume (CDI 1.65.0,
	// pkg/controller/datavolume/controller-base.go).
	{From: dataVolumeSpec, Path: "sourceRef.name", To: kubevirt.DataSources, Name: nameBesideNamespace},
	{From: dataVolumeSpec, Path: "serviceAccountName", To: kubevirt.ServiceAccounts, UntilFilled: filled}, // since CDI 1.65
	{From: dataVolumeSpec, Path: "priorityClassName", To: kubevirt.PriorityClasses, Name: clusterName, UntilFilled: filled},
	{From: dataVolumeSpec, Path: "source.pvc.name", To: kubevirt.PersistentVolumeClaims, Name: nameBesideNamespace, OnlyUnfinished: true},
	{From: dataVolumeSpec, Path: "source.snapshot.name", To: kubevirt.VolumeSnapshots, Name: nameBesideNamespace, OnlyUnfinished: true},
	{From: importSource, Path: "http.secretRef", To: kubevirt.Secrets, UntilFilled: filled},
	{From: importSource, Path: "http.certConfigMap", To: kubevirt.ConfigMaps, UntilFilled: filled},
	{From: importSource, Path: "http.secretExtraHeaders[]", To: kubevirt.Secrets, UntilFilled: filled},
	{From: importSource, Path: "s3.secretRef", To: kubevirt.Secrets, UntilFilled: filled},
	{From: importSource, Path: "s3.certConfigMap", To: kubevirt.ConfigMaps, UntilFilled: filled},
	{From: importSource, Path: "gcs.secretRef", To: kubevirt.Secrets, UntilFilled: filled},
	{From: importSource, Path: "registry.secretRef", To: kubevirt.Secrets, UntilFilled: filled},
	{From: importSource, Path: "registry.certConfigMap", To: kubevirt.ConfigMaps, UntilFilled: filled},
	{From: importSource, Path: "registry.imageStream", To: kubevirt.ImageStreams, UntilFilled: filled},
	{From: importSource, Path: "imageio.secretRef", To: kubevirt.Secrets, UntilFilled: filled},
	{From: importSource, Path: "imageio.certConfigMap", To: kubevirt.ConfigMaps, UntilFilled: filled},
	{From: importSource, Path: "vddk.secretRef", To: kubevirt.Secrets, UntilFilled: filled},
	{From: importSource, Path: "vddk.extraArgs", To: kubevirt.ConfigMaps, UntilFilled: filled}, // since CDI 1.63

	// A DataSource may point at another one (since CDI 1.63); CDI follows one step.
	{From: dataSource, Path: "spec.source.dataSource.name", To: kubevirt.DataSources, Name: nameBesideNamespace},

	// Kubernetes starts pods without these; an image of a private registry is then not pulled.
	{From: serviceAccount, Path: "imagePullSecrets[].name", To: kubevirt.Secrets, Optional: "only images of a private registry need it"},

	{From: forkliftSource, Path: "secretRef", To: kubevirt.Secrets, UntilFilled: filled},
	{From: forkliftSource, Path: "transferNetwork", To: kubevirt.NetworkAttachmentDefinitions, Name: namespacedName, UntilFilled: filled},
}
