// Package graph knows which objects a KubeVirt or CDI object refers to. What is named in a field is a row of the table
// in references.go; what has to be looked up – by label, by owner – is a function in lookups.go; neighbours.go puts the
// two together.
package graph

import (
	"k8s.io/apimachinery/pkg/runtime/schema"

	"velero-plugin-for-kubevirt/pkg/kubevirt"
)

// A Reference is a field that holds the name of another object in the same namespace.
type Reference struct {
	From shape
	Path string // below the place where From's kinds have the shape
	To   schema.GroupResource
	// OptionalIf is a boolean beside the name that tells KubeVirt to do without the object.
	OptionalIf string
	// Unsure marks an object that need not exist although it is named, and without which the referrer works as well:
	// it is followed only when it is known to be there.
	Unsure bool
}

// A shape is a part that several kinds embed, with the path at which each has it.
type shape map[schema.GroupResource]string

var (
	vmiSpec = shape{
		kubevirt.VirtualMachines:         "spec.template.spec",
		kubevirt.VirtualMachineInstances: "spec",
	}
	vm         = shape{kubevirt.VirtualMachines: ""}
	dataVolume = shape{kubevirt.DataVolumes: ""}
)

// references is the table. Paths and what stands behind them: kubevirt.io/api v1.9.0, core/v1/schema.go and types.go.
var references = []Reference{
	// A disk made by a DataVolume is a PVC of the same name (KubeVirt 1.9.0, pkg/storage/types/pvc.go). The DataVolume
	// itself may be gone – CDI up to 1.61 collected finished ones – and KubeVirt then uses the PVC.
	{From: vmiSpec, Path: "volumes[].dataVolume.name", To: kubevirt.PersistentVolumeClaims},
	{From: vmiSpec, Path: "volumes[].dataVolume.name", To: kubevirt.DataVolumes, Unsure: true},
	// A claim may belong to a DataVolume of the same name (KubeVirt, docs/backup-restore-integration.md).
	{From: vmiSpec, Path: "volumes[].persistentVolumeClaim.claimName", To: kubevirt.PersistentVolumeClaims},
	{From: vmiSpec, Path: "volumes[].persistentVolumeClaim.claimName", To: kubevirt.DataVolumes, Unsure: true},
	{From: vmiSpec, Path: "volumes[].ephemeral.persistentVolumeClaim.claimName", To: kubevirt.PersistentVolumeClaims},
	{From: vmiSpec, Path: "volumes[].memoryDump.claimName", To: kubevirt.PersistentVolumeClaims, Unsure: true},

	{From: vmiSpec, Path: "volumes[].configMap.name", To: kubevirt.ConfigMaps, OptionalIf: "optional"},
	{From: vmiSpec, Path: "volumes[].secret.secretName", To: kubevirt.Secrets, OptionalIf: "optional"},
	{From: vmiSpec, Path: "volumes[].serviceAccount.serviceAccountName", To: kubevirt.ServiceAccounts},
	{From: vmiSpec, Path: "volumes[].sysprep.configMap.name", To: kubevirt.ConfigMaps},
	{From: vmiSpec, Path: "volumes[].sysprep.secret.name", To: kubevirt.Secrets},
	{From: vmiSpec, Path: "volumes[].cloudInitNoCloud.secretRef.name", To: kubevirt.Secrets},
	{From: vmiSpec, Path: "volumes[].cloudInitNoCloud.networkDataSecretRef.name", To: kubevirt.Secrets},
	{From: vmiSpec, Path: "volumes[].cloudInitConfigDrive.secretRef.name", To: kubevirt.Secrets},
	{From: vmiSpec, Path: "volumes[].cloudInitConfigDrive.networkDataSecretRef.name", To: kubevirt.Secrets},

	{From: vmiSpec, Path: "accessCredentials[].sshPublicKey.source.secret.secretName", To: kubevirt.Secrets},
	{From: vmiSpec, Path: "accessCredentials[].userPassword.source.secret.secretName", To: kubevirt.Secrets},

	// The revision is a full copy of the type as the VM uses it. KubeVirt up to 1.4 names it in the spec, newer ones in
	// the status; the spec wins (KubeVirt 1.9.0, pkg/instancetype/find/revision.go).
	{From: vm, Path: "spec.instancetype.revisionName", To: kubevirt.ControllerRevisions},
	{From: vm, Path: "spec.preference.revisionName", To: kubevirt.ControllerRevisions},
	{From: vm, Path: "status.instancetypeRef.controllerRevisionRef.name", To: kubevirt.ControllerRevisions},
	{From: vm, Path: "status.preferenceRef.controllerRevisionRef.name", To: kubevirt.ControllerRevisions},

	// The PVC that CDI makes for a DataVolume has its name; the status has it once there is one (CDI API 1.65.0, types.go).
	{From: dataVolume, Path: "status.claimName", To: kubevirt.PersistentVolumeClaims},
	{From: dataVolume, Path: "metadata.name", To: kubevirt.PersistentVolumeClaims, Unsure: true},
}
