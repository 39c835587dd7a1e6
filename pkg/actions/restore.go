package actions

import (
	"context"
	"slices"
	"sync"

	"github.com/sirupsen/logrus"
	velerov1 "github.com/vmware-tanzu/velero/pkg/apis/velero/v1"
	"github.com/vmware-tanzu/velero/pkg/plugin/velero"
	"k8s.io/apimachinery/pkg/runtime/schema"

	"velero-plugin-for-kubevirt/pkg/graph"
	"velero-plugin-for-kubevirt/pkg/kubevirt"
	"velero-plugin-for-kubevirt/pkg/object"
	"velero-plugin-for-kubevirt/pkg/rules"
)

// A Patch changes an object of the cluster by a JSON merge patch.
type Patch func(ctx context.Context, id kubevirt.ID, patch []byte) error

// Restore is a RestoreItemAction: it leaves an item out or applies the restore rules to it, and adds what it refers to.
type Restore struct {
	selector velero.ResourceSelector
	reader   graph.Reader
	patch    Patch
	log      logrus.FieldLogger

	mu      sync.Mutex
	holders map[rules.Mark][]kubevirt.ID // nil until an item needs it; the process serves one restore
}

// NewRestore returns the action for VMs, VMIs, replica sets, pools, their disks and the sources of those, and for the
// operations on them.
func NewRestore(reader Reader, patch Patch, log logrus.FieldLogger) *Restore {
	selector := resources(
		kubevirt.VirtualMachines, kubevirt.VirtualMachineInstances, kubevirt.VirtualMachineInstanceReplicaSets, kubevirt.VirtualMachinePools,
		kubevirt.DataVolumes, kubevirt.DataSources, kubevirt.PersistentVolumeClaims,
		kubevirt.VolumeImportSources, kubevirt.VolumeUploadSources, kubevirt.VolumeCloneSources,
		// No label tells those of KubeVirt from others.
		kubevirt.ControllerRevisions, kubevirt.PodDisruptionBudgets,
		kubevirt.VirtualMachineInstanceMigrations, kubevirt.VirtualMachineSnapshots, kubevirt.VirtualMachineSnapshotContents,
		kubevirt.VirtualMachineRestores, kubevirt.VirtualMachineClones, kubevirt.VirtualMachineExports,
		kubevirt.VirtualMachineBackups, kubevirt.VirtualMachineBackupTrackers, kubevirt.ObjectTransfers,
	)
	return &Restore{selector: selector, reader: reader, patch: patch, log: log}
}

// NewPodRestore returns the action for virt-launcher and hotplug pods.
func NewPodRestore(reader Reader, log logrus.FieldLogger) *Restore {
	return &Restore{selector: kubevirtPods, reader: reader, log: log}
}

// NewExporterRestore returns the action for the pods and Services of exports.
func NewExporterRestore(reader Reader, log logrus.FieldLogger) *Restore {
	return &Restore{selector: exporters, reader: reader, log: log}
}

// NewCDIPodRestore returns the action for the pods in which CDI fills or reads disks.
func NewCDIPodRestore(reader Reader, log logrus.FieldLogger) *Restore {
	return &Restore{selector: cdiPods, reader: reader, log: log}
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
	in, err := r.input(context.Background(), item, original, input.Restore)
	if err != nil {
		return nil, item.failed("restoring", err)
	}
	applied, err := rules.Run(item.GroupResource, item.obj, in)
	if err != nil {
		return nil, item.failed("restoring", err)
	}
	logApplied(r.log.WithField("target", in.Target.Namespace+"/"+in.Target.Name), item, applied)
	logConsistency(r.log, item)
	output := velero.NewRestoreItemActionExecuteOutput(input.Item)
	if n := len(applied); n > 0 && applied[n-1].LeaveOut != "" {
		return output.WithoutRestore(), nil
	}
	if err := r.warnAbsent(item, in, input.Restore.Spec); err != nil {
		return nil, item.failed("looking for what is named by", err)
	}
	if object.Annotation(item.obj, kubevirt.HeldRunStrategy) != "" {
		output.OperationID = in.Target.Namespace + "/" + in.Target.Name
	}
	ids, err := inBackup(item.GroupResource, original)
	if err != nil {
		return nil, item.failed("finding what to restore with", err)
	}
	output.AdditionalItems = toVelero(r.notComing(context.Background(), ids, input.Restore))
	return output, nil
}

// notComing returns what Velero has to be told of, to have it restored before an item. A restore that selects nothing by label brings
// all that has a namespace by itself, and in its usual order has done so before: what is there is left out, since Velero would read the
// namespace of each once more (Velero 1.18.1, pkg/restore/restore.go, restoreItem).
func (r *Restore) notComing(ctx context.Context, ids []kubevirt.ID, restore *velerov1.Restore) []kubevirt.ID {
	if restore.Spec.LabelSelector != nil || len(restore.Spec.OrLabelSelectors) > 0 {
		return ids
	}
	return slices.DeleteFunc(ids, func(id kubevirt.ID) bool {
		if id.Namespace == "" {
			return false
		}
		id = target(id, restore)
		there, err := graph.MetadataOf(ctx, r.reader, id)
		if err != nil {
			r.log.WithError(err).WithField("neighbour", id.String()).Debug("could not see what has been restored; Velero is told of it")
		}
		return there != nil
	})
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
