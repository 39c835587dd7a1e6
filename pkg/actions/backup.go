package actions

import (
	"context"
	"slices"
	"sync"

	"github.com/sirupsen/logrus"
	velerov1 "github.com/vmware-tanzu/velero/pkg/apis/velero/v1"
	"github.com/vmware-tanzu/velero/pkg/plugin/velero"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"

	"velero-plugin-for-kubevirt/pkg/graph"
	"velero-plugin-for-kubevirt/pkg/kubevirt"
	"velero-plugin-for-kubevirt/pkg/object"
	"velero-plugin-for-kubevirt/pkg/rules"
)

// Backup is a BackupItemAction: it applies the backup rules to an item and adds what the item refers to.
type Backup struct {
	appliesTo func() velero.ResourceSelector
	reader    Reader
	witness   *Witness
	verdicts  *Consistency
	log       logrus.FieldLogger
	noted     sync.Map // the absent neighbours that the log has; a VM and its VMI name the same
}

// NewBackup returns the action for everything of KubeVirt and CDI that refers to other objects, but pods and DataVolumes: what those lead to
// is in their ItemBlock.
func NewBackup(reader Reader, witness *Witness, log logrus.FieldLogger) *Backup {
	appliesTo := func() velero.ResourceSelector {
		return resources(handled(witness.needed(reader, log))...)
	}
	return &Backup{appliesTo: appliesTo, reader: reader, witness: witness, verdicts: NewConsistency(reader, witness, log), log: log}
}

// NewDataVolumeBackup returns the action for DataVolumes that no VM made: only they name a DataSource (KubeVirt 1.8.4,
// pkg/storage/types/dv.go), which may be in a namespace that is not in the backup.
func NewDataVolumeBackup(reader Reader, witness *Witness, log logrus.FieldLogger) *Backup {
	appliesTo := func() velero.ResourceSelector { return ownDataVolumes }
	return &Backup{appliesTo: appliesTo, reader: reader, witness: witness, log: log}
}

// AppliesTo tells Velero which items to call Execute for.
func (b *Backup) AppliesTo() (velero.ResourceSelector, error) { return b.appliesTo(), nil }

// Execute returns the edited item and the items that are to be backed up with it. A neighbour that the cluster does not
// have is not named, since Velero would warn about it once more.
func (b *Backup) Execute(u runtime.Unstructured, backup *velerov1.Backup) (runtime.Unstructured, []velero.ResourceIdentifier, error) {
	item, err := newItem(u.UnstructuredContent())
	if err != nil {
		return nil, nil, err
	}
	if snapshot := snapshotOf(item, backup); snapshot != "" {
		b.witness.hasSnapshot(item.ID, snapshot, object.Label(item.obj, backup.Spec.VolumeGroupSnapshotLabelKey))
	}
	judged := isPlain(backup) && isMachine(item)
	if judged { // it is in no ItemBlock of the plugin's
		enter(item.Namespace, b.reader, b.witness, b.log)
	}
	met := b.witness.shown(item.ID)
	neighbours, err := neighboursOf(context.Background(), item.GroupResource, item.obj, met, b.reader)
	if err != nil {
		return nil, nil, item.failed("finding what to back up with", err)
	}
	in, err := b.input(item, backup, neighbours)
	if err != nil {
		return nil, nil, err
	}
	b.witness.brings(item.ID, in.AdditionalItems)
	applied, err := rules.Run(item.GroupResource, item.obj, in)
	if err != nil {
		return nil, nil, item.failed("backing up", err)
	}
	logApplied(b.log, item, applied)
	if judged {
		if err := b.verdicts.judge(item, backup); err != nil {
			return nil, nil, err
		}
	}
	return u, toVelero(still(in.AdditionalItems, met.related, isPlain(backup))), nil
}

// neighboursOf returns what an item refers to, from its ItemBlock if it was met there.
func neighboursOf(ctx context.Context, resource schema.GroupResource, obj map[string]any, met meeting, reader graph.Reader) ([]graph.Neighbour, error) {
	if met.obj != nil {
		return met.neighbours, nil
	}
	return graph.Neighbours(ctx, resource, obj, reader)
}

// still returns what has to be named of the additional items: not what the ItemBlock brings anyway, but its disks, which must have their
// snapshots before the last action for the VM. In a plain backup all that is admitted and has a namespace comes by itself.
func still(additional, related []kubevirt.ID, plain bool) []kubevirt.ID {
	return slices.DeleteFunc(additional, func(id kubevirt.ID) bool {
		if plain {
			return id.Namespace != ""
		}
		return id.GroupResource != kubevirt.PersistentVolumeClaims && slices.Contains(related, id)
	})
}

// input gathers what the rules may know about an item.
func (b *Backup) input(item item, backup *velerov1.Backup, neighbours []graph.Neighbour) (rules.Input, error) {
	in := rules.Input{
		Phase: rules.Backup, Original: item.obj,
	}
	for _, neighbour := range neighbours {
		comes := b.present(item, neighbour) && admits(backup.Spec, neighbour.ID) && neighbour.Labels[velerov1.ExcludeFromBackupLabel] != "true"
		if comes {
			in.AdditionalItems = append(in.AdditionalItems, neighbour.ID)
		}
		// A restore of the DataVolume's namespace alone brings no DataSource of another one.
		if item.GroupResource == kubevirt.DataVolumes && neighbour.GroupResource == kubevirt.DataSources && (!comes || neighbour.Namespace != item.Namespace) {
			var err error
			if in.DataSource, err = b.reader.Get(context.Background(), neighbour.ID); err != nil {
				return in, item.failed("finding the source of", err)
			}
		}
	}
	if item.GroupResource == kubevirt.VirtualMachines {
		instance := kubevirt.ID{GroupResource: kubevirt.VirtualMachineInstances, Namespace: item.Namespace, Name: item.Name}
		in.Instance = func() (map[string]any, error) {
			return instanceOf(context.Background(), b.reader, b.witness.shown(instance).obj, instance, neighbours)
		}
	}
	return in, nil
}

// instanceOf returns the running instance of a VM, nil when there is none: as Velero has shown it, or else as the cluster has it when it is
// among the VM's neighbours. A request for each VM would be the larger part of what a backup costs the API server.
func instanceOf(ctx context.Context, reader graph.Reader, shown map[string]any, id kubevirt.ID, neighbours []graph.Neighbour) (map[string]any, error) {
	if shown != nil {
		return shown, nil
	}
	if !slices.ContainsFunc(neighbours, func(n graph.Neighbour) bool { return n.ID == id }) {
		return nil, nil
	}
	return reader.Get(ctx, id)
}

// snapshotOf returns the name of the VolumeSnapshot that Velero's CSI action has just taken of a PVC, "" when it took none. A
// restored PVC may carry the name of an older one (Velero 1.18.1, pkg/backup/actions/csi/pvc_action.go).
func snapshotOf(item item, backup *velerov1.Backup) string {
	if item.GroupResource != kubevirt.PersistentVolumeClaims || object.Label(item.obj, velerov1.BackupNameLabel) != backup.Name {
		return ""
	}
	return object.Annotation(item.obj, velerov1.VolumeSnapshotLabel)
}

// present drops neighbours that are known not to exist, and says so when the item cannot do without them.
func (b *Backup) present(item item, neighbour graph.Neighbour) bool {
	log := b.log.WithFields(logrus.Fields{"item": item.String(), "neighbour": neighbour.String(), "path": neighbour.Path})
	switch {
	case neighbour.Unknown != nil:
		log.WithError(neighbour.Unknown).Warn("could not check that the neighbour exists; Velero is asked to back it up all the same")
	case neighbour.Absent && !neighbour.Optional:
		if _, noted := b.noted.LoadOrStore(neighbour.ID, true); noted {
			return false
		}
		log.Warn("the item names an object that does not exist; a restored VM will miss it too")
		return false
	case neighbour.Absent:
		log.Debug("the item names an object that does not exist and can do without it")
		return false
	}
	return true
}
