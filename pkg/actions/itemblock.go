package actions

import (
	"context"

	velerov1 "github.com/vmware-tanzu/velero/pkg/apis/velero/v1"
	"github.com/vmware-tanzu/velero/pkg/plugin/velero"
	"k8s.io/apimachinery/pkg/runtime"

	"velero-plugin-for-kubevirt/pkg/backup"
	"velero-plugin-for-kubevirt/pkg/kubevirt"
)

// ItemBlock is an ItemBlockAction: it puts a VM, its VMI, its pods and its disks into one ItemBlock, whichever of them Velero meets first. Velero runs pod
// hooks around an ItemBlock, and only for pods that are members of it (Velero 1.18.1, pkg/backup/backup.go, backupItemBlock).
type ItemBlock struct {
	selector velero.ResourceSelector
	run      *backup.Run
}

// NewItemBlock returns the action for VMs, VMIs and what brings them or their disks into a backup: whatever is only brought by another item is backed up
// without hooks.
func NewItemBlock(run *backup.Run) *ItemBlock {
	return &ItemBlock{run: run, selector: resources(kubevirt.VirtualMachines, kubevirt.VirtualMachineInstances, kubevirt.VirtualMachinePools,
		kubevirt.VirtualMachineInstanceReplicaSets, kubevirt.DataVolumes)}
}

// NewPodItemBlock returns the action for virt-launcher and hotplug pods.
func NewPodItemBlock(run *backup.Run) *ItemBlock {
	return &ItemBlock{run: run, selector: kubevirtPods}
}

// Name is required by Velero and never called (Velero 1.18.1, pkg/plugin/velero/itemblockaction/v1).
func (b *ItemBlock) Name() string { return "" }

// AppliesTo tells Velero which items to call GetRelatedItems for.
func (b *ItemBlock) AppliesTo() (velero.ResourceSelector, error) {
	return ifItemBlocks(b.run, b.selector), nil
}

// GetRelatedItems returns the members of the item's block that it refers to.
func (b *ItemBlock) GetRelatedItems(u runtime.Unstructured, of *velerov1.Backup) ([]velero.ResourceIdentifier, error) {
	id, obj, err := decode(u)
	if err != nil {
		return nil, err
	}
	related, err := b.run.RelatedItems(context.Background(), id, obj, of)
	return toVelero(related), err
}
