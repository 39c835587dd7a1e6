package actions

import (
	"context"

	velerov1 "github.com/vmware-tanzu/velero/pkg/apis/velero/v1"
	"github.com/vmware-tanzu/velero/pkg/plugin/velero"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"

	"velero-plugin-for-kubevirt/pkg/backup"
	"velero-plugin-for-kubevirt/pkg/kubevirt"
)

// Backup is a BackupItemAction: it applies the backup rules to an item and adds what the item refers to.
type Backup struct {
	selector func() velero.ResourceSelector
	run      *backup.Run
}

// NewBackup returns the action for everything of KubeVirt and CDI that refers to other objects or is noted, but pods and DataVolumes: what those lead to is in their
// ItemBlock. Without ItemBlocks the VMI of a VM leads to nothing that the VM does not lead to.
func NewBackup(run *backup.Run) *Backup {
	selector := func() velero.ResourceSelector {
		list := []schema.GroupResource{
			kubevirt.VirtualMachines, kubevirt.VirtualMachineInstanceReplicaSets, kubevirt.VirtualMachineInstancePresets, kubevirt.VirtualMachinePools,
			kubevirt.DataSources, kubevirt.VolumeImportSources, kubevirt.OvirtVolumePopulators, kubevirt.OpenstackVolumePopulators,
			kubevirt.VirtualMachineSnapshotContents,
		}
		if run.Calls().Instances {
			list = append(list, kubevirt.VirtualMachineInstances)
		}
		if run.Calls().ItemBlocks {
			list = append(list, kubevirt.VolumeSnapshots)
		}
		return resources(list...)
	}
	return &Backup{selector: selector, run: run}
}

// NewDataVolumeBackup returns the action for DataVolumes that no VM made: only they name a DataSource (KubeVirt 1.8.4, pkg/storage/types/dv.go), which
// may be in a namespace that is not in the backup.
func NewDataVolumeBackup(run *backup.Run) *Backup {
	return &Backup{selector: func() velero.ResourceSelector { return ownDataVolumes }, run: run}
}

// AppliesTo tells Velero which items to call Execute for.
func (b *Backup) AppliesTo() (velero.ResourceSelector, error) { return b.selector(), nil }

// Execute returns the edited item and the items that are to be backed up with it. A neighbour that the cluster does not have is not named, since Velero
// would warn about it once more.
func (b *Backup) Execute(u runtime.Unstructured, of *velerov1.Backup) (runtime.Unstructured, []velero.ResourceIdentifier, error) {
	id, obj, err := decode(u)
	if err != nil {
		return nil, nil, err
	}
	additional, err := b.run.BackUp(context.Background(), id, obj, of)
	return u, toVelero(additional), err
}
