package actions

import (
	"context"

	"github.com/vmware-tanzu/velero/pkg/plugin/velero"

	"velero-plugin-for-kubevirt/pkg/backup"
	"velero-plugin-for-kubevirt/pkg/kubevirt"
)

// Delete is a DeleteItemAction: it removes what the plugin made for a backup that is deleted, and that is not in it.
type Delete struct{ run *backup.Run }

// NewDelete returns the action for what a backup with snapshots of the plugin has in it.
func NewDelete(run *backup.Run) *Delete { return &Delete{run} }

// AppliesTo tells Velero which items to call Execute for.
func (d *Delete) AppliesTo() (velero.ResourceSelector, error) {
	return resources(kubevirt.VirtualMachines, kubevirt.VirtualMachineInstances, kubevirt.PersistentVolumeClaims), nil
}

// Execute removes what is left of the item's backup.
func (d *Delete) Execute(input *velero.DeleteItemActionExecuteInput) error {
	return d.run.DeleteLeftovers(context.Background(), input.Backup)
}
