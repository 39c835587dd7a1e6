package actions

import (
	"github.com/sirupsen/logrus"
	"github.com/vmware-tanzu/velero/pkg/plugin/velero"
	"k8s.io/apimachinery/pkg/runtime/schema"

	"velero-plugin-for-kubevirt/pkg/consistency"
	"velero-plugin-for-kubevirt/pkg/graph"
	"velero-plugin-for-kubevirt/pkg/kubevirt"
	"velero-plugin-for-kubevirt/pkg/object"
	"velero-plugin-for-kubevirt/pkg/rules"
)

// Restore is a RestoreItemAction: it leaves an item out or applies the restore rules to it, and adds what it refers to.
type Restore struct {
	selector velero.ResourceSelector
	log      logrus.FieldLogger
}

// NewRestore returns the action for VMs, VMIs, replica sets, pools, DataVolumes and PersistentVolumeClaims, and for the
// operations on them.
func NewRestore(log logrus.FieldLogger) *Restore {
	selector := resources(
		kubevirt.VirtualMachines, kubevirt.VirtualMachineInstances, kubevirt.VirtualMachineInstanceReplicaSets, kubevirt.VirtualMachinePools,
		kubevirt.DataVolumes, kubevirt.PersistentVolumeClaims,
		kubevirt.VirtualMachineInstanceMigrations, kubevirt.VirtualMachineSnapshots, kubevirt.VirtualMachineSnapshotContents,
		kubevirt.VirtualMachineRestores, kubevirt.VirtualMachineClones, kubevirt.VirtualMachineExports,
		kubevirt.VirtualMachineBackups, kubevirt.VirtualMachineBackupTrackers, kubevirt.ObjectTransfers,
	)
	return &Restore{selector: selector, log: log}
}

// NewPodRestore returns the action for virt-launcher and hotplug pods.
func NewPodRestore(log logrus.FieldLogger) *Restore {
	return &Restore{selector: kubevirtPods, log: log}
}

// AppliesTo tells Velero which items to call Execute for.
func (r *Restore) AppliesTo() (velero.ResourceSelector, error) { return r.selector, nil }

// Execute returns the edited item and what is to be restored before it, or that it is not to be restored.
func (r *Restore) Execute(input *velero.RestoreItemActionExecuteInput) (*velero.RestoreItemActionExecuteOutput, error) {
	item, err := newItem(input.Item.UnstructuredContent())
	if err != nil {
		return nil, err
	}
	original := input.ItemFromBackup.UnstructuredContent()
	applied, err := rules.Run(item.GroupResource, item.obj, rules.Input{Phase: rules.Restore, Original: original})
	if err != nil {
		return nil, item.failed("restoring", err)
	}
	logApplied(r.log, item, applied)
	r.logConsistency(item)
	output := velero.NewRestoreItemActionExecuteOutput(input.Item)
	if n := len(applied); n > 0 && applied[n-1].LeaveOut != "" {
		return output.WithoutRestore(), nil
	}
	ids, err := inBackup(item.GroupResource, original)
	if err != nil {
		return nil, item.failed("finding what to restore with", err)
	}
	output.AdditionalItems = toVelero(ids)
	return output, nil
}

// logConsistency repeats what the backup says of a VM's disks, which is what the restored VM begins with.
func (r *Restore) logConsistency(item item) {
	level, message := consistency.Stamped(item.obj)
	if level == "" {
		return
	}
	log := r.log.WithFields(logrus.Fields{
		"item": item.String(), "namespace": item.Namespace, "resource": item.GroupResource.String(), "name": item.Name,
		"consistency": string(level),
	})
	if level == consistency.Crash {
		log.WithField("error", message).Warn("the disks of the VM were only crash-consistent when they were backed up")
		return
	}
	log.Info("the disks of the VM were consistent when they were backed up")
}

// inBackup returns the neighbours of a backed-up item that are in the backup: those it lists, or, in a backup made without
// this plugin, those of its namespace that it could not have run without.
func inBackup(resource schema.GroupResource, original map[string]any) ([]kubevirt.ID, error) {
	ids, found, err := rules.AdditionalItems(original)
	if err != nil || found {
		return ids, err
	}
	named, err := graph.Named(resource, original)
	if err != nil {
		return nil, err
	}
	for _, neighbour := range named {
		if !neighbour.Optional && (neighbour.Namespace == "" || neighbour.Namespace == object.Namespace(original)) {
			ids = append(ids, neighbour.ID)
		}
	}
	return ids, nil
}
