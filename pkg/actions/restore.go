package actions

import (
	"context"

	velerov1 "github.com/vmware-tanzu/velero/pkg/apis/velero/v1"
	"github.com/vmware-tanzu/velero/pkg/plugin/velero"

	"velero-plugin-for-kubevirt/pkg/kubevirt"
	"velero-plugin-for-kubevirt/pkg/restore"
)

// BringFirst is a RestoreItemAction: it names what an item refers to. It is the first of the plugin's, by its name, so that Velero has restored all that
// when Restore decides.
type BringFirst struct{ run *restore.Run }

// NewBringFirst returns the action for everything of KubeVirt and CDI that refers to other objects.
func NewBringFirst(run *restore.Run) *BringFirst { return &BringFirst{run} }

// AppliesTo tells Velero which items to call Execute for.
func (b *BringFirst) AppliesTo() (velero.ResourceSelector, error) {
	return resources(
		kubevirt.VirtualMachines, kubevirt.VirtualMachineInstances, kubevirt.VirtualMachineInstanceReplicaSets, kubevirt.VirtualMachinePools,
		kubevirt.DataVolumes, kubevirt.DataSources, kubevirt.VolumeImportSources,
	), nil
}

// Execute returns the item as it is, and what is to be restored before it.
func (b *BringFirst) Execute(input *velero.RestoreItemActionExecuteInput) (*velero.RestoreItemActionExecuteOutput, error) {
	id, obj, err := decode(input.Item)
	if err != nil {
		return nil, err
	}
	ids, err := b.run.BringFirst(context.Background(), id, obj, input.ItemFromBackup.UnstructuredContent(), input.Restore)
	if err != nil {
		return nil, err
	}
	output := velero.NewRestoreItemActionExecuteOutput(input.Item)
	output.AdditionalItems = toVelero(ids)
	return output, nil
}

// Restore is a RestoreItemAction: it leaves an item out or applies the restore rules to it.
type Restore struct {
	selector velero.ResourceSelector
	run      *restore.Run
}

// NewRestore returns the action for VMs, VMIs, replica sets, pools, their disks and the sources of those, and for the
// operations on them.
func NewRestore(run *restore.Run) *Restore {
	selector := resources(
		kubevirt.VirtualMachines, kubevirt.VirtualMachineInstances, kubevirt.VirtualMachineInstanceReplicaSets, kubevirt.VirtualMachinePools,
		kubevirt.DataVolumes, kubevirt.DataSources, kubevirt.PersistentVolumeClaims, kubevirt.VolumeSnapshots,
		kubevirt.VolumeImportSources, kubevirt.VolumeUploadSources, kubevirt.VolumeCloneSources,
		// No label tells those of KubeVirt from others.
		kubevirt.ControllerRevisions, kubevirt.PodDisruptionBudgets,
		kubevirt.VirtualMachineInstanceMigrations, kubevirt.VirtualMachineSnapshots, kubevirt.VirtualMachineSnapshotContents,
		kubevirt.VirtualMachineRestores, kubevirt.VirtualMachineClones, kubevirt.VirtualMachineExports,
		kubevirt.VirtualMachineBackups, kubevirt.VirtualMachineBackupTrackers, kubevirt.ObjectTransfers,
		// A VolumeSnapshotContent has no label that tells whose it is.
		kubevirt.VolumeSnapshots, kubevirt.VolumeSnapshotContents,
	)
	return &Restore{selector: selector, run: run}
}

// NewPodRestore returns the action for virt-launcher and hotplug pods.
func NewPodRestore(run *restore.Run) *Restore { return &Restore{selector: kubevirtPods, run: run} }

// NewExporterRestore returns the action for the pods and Services of exports.
func NewExporterRestore(run *restore.Run) *Restore { return &Restore{selector: exporters, run: run} }

// NewCDIPodRestore returns the action for the pods in which CDI fills or reads disks.
func NewCDIPodRestore(run *restore.Run) *Restore { return &Restore{selector: cdiPods, run: run} }

// AppliesTo tells Velero which items to call Execute for.
func (r *Restore) AppliesTo() (velero.ResourceSelector, error) { return r.selector, nil }

// Execute returns the edited item, or that it is not to be restored.
func (r *Restore) Execute(input *velero.RestoreItemActionExecuteInput) (*velero.RestoreItemActionExecuteOutput, error) {
	id, obj, err := decode(input.Item)
	if err != nil {
		return nil, err
	}
	answer, err := r.run.Restore(context.Background(), id, obj, input.ItemFromBackup.UnstructuredContent(), input.Restore)
	if err != nil {
		return nil, err
	}
	output := velero.NewRestoreItemActionExecuteOutput(input.Item)
	if answer.LeaveOut {
		return output.WithoutRestore(), nil
	}
	output.OperationID = answer.Operation
	return output, nil
}

// Progress tells Velero whether a VM that waits for its disks has been released.
func (r *Restore) Progress(operation string, _ *velerov1.Restore) (velero.OperationProgress, error) {
	return r.run.Progress(context.Background(), operation), nil
}

// Cancel releases a VM although its disks are not there: Velero has waited for as long as the Restore allows.
func (r *Restore) Cancel(operation string, _ *velerov1.Restore) error {
	return r.run.Cancel(context.Background(), operation)
}

// AreAdditionalItemsReady is never asked: no item waits for others.
func (r *Restore) AreAdditionalItemsReady([]velero.ResourceIdentifier, *velerov1.Restore) (bool, error) {
	return true, nil
}

// Name is required by Velero and never called (Velero 1.18.1, pkg/plugin/velero/restoreitemaction/v2).
func (r *Restore) Name() string { return "" }
