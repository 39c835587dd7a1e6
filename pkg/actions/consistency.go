package actions

import (
	"context"

	velerov1 "github.com/vmware-tanzu/velero/pkg/apis/velero/v1"
	"github.com/vmware-tanzu/velero/pkg/plugin/velero"
	"k8s.io/apimachinery/pkg/runtime"

	"velero-plugin-for-kubevirt/pkg/backup"
	"velero-plugin-for-kubevirt/pkg/kubevirt"
)

// Consistency is a BackupItemAction: it writes into a backed-up VM how consistent its disks are. Its name must come after that of Backup: Velero backs up
// all that Backup names, snapshots included, before it calls the next action on the same item, and the hooks that thaw the guest only after that (Velero
// 1.18.1, pkg/backup/item_backupper.go, executeActions).
type Consistency struct{ run *backup.Run }

// NewConsistency returns the action for VirtualMachines and VirtualMachineInstances.
func NewConsistency(run *backup.Run) *Consistency { return &Consistency{run} }

// AppliesTo tells Velero which items to call Execute for.
func (c *Consistency) AppliesTo() (velero.ResourceSelector, error) {
	return ifItemBlocks(c.run, resources(kubevirt.VirtualMachines, kubevirt.VirtualMachineInstances)), nil
}

// Execute returns the item with the verdict in its annotations.
func (c *Consistency) Execute(u runtime.Unstructured, of *velerov1.Backup) (runtime.Unstructured, []velero.ResourceIdentifier, error) {
	id, obj, err := decode(u)
	if err != nil {
		return nil, nil, err
	}
	return u, nil, c.run.Judge(context.Background(), id, obj, of)
}
