package actions

import (
	"context"
	"sync"

	"github.com/sirupsen/logrus"
	velerov1 "github.com/vmware-tanzu/velero/pkg/apis/velero/v1"
	"github.com/vmware-tanzu/velero/pkg/plugin/velero"
	"k8s.io/apimachinery/pkg/runtime"

	"velero-plugin-for-kubevirt/pkg/graph"
	"velero-plugin-for-kubevirt/pkg/kubevirt"
	"velero-plugin-for-kubevirt/pkg/rules"
)

// Backup is a BackupItemAction: it applies the backup rules to an item and adds what the item refers to.
type Backup struct {
	selector velero.ResourceSelector
	reader   graph.Reader
	log      logrus.FieldLogger
	noted    sync.Map // the absent neighbours that the log has; a VM and its VMI name the same
}

// NewBackup returns the action for everything of KubeVirt and CDI that refers to other objects, but pods.
func NewBackup(reader graph.Reader, log logrus.FieldLogger) *Backup {
	return &Backup{selector: handled, reader: reader, log: log}
}

// NewPodBackup returns the action for virt-launcher and hotplug pods.
func NewPodBackup(reader graph.Reader, log logrus.FieldLogger) *Backup {
	return &Backup{selector: kubevirtPods, reader: reader, log: log}
}

// AppliesTo tells Velero which items to call Execute for.
func (b *Backup) AppliesTo() (velero.ResourceSelector, error) { return b.selector, nil }

// Execute returns the edited item and the items that are to be backed up with it. A neighbour that the cluster does not
// have is not named, since Velero would warn about it once more.
func (b *Backup) Execute(u runtime.Unstructured, backup *velerov1.Backup) (runtime.Unstructured, []velero.ResourceIdentifier, error) {
	item, err := newItem(u.UnstructuredContent())
	if err != nil {
		return nil, nil, err
	}
	neighbours, err := graph.Neighbours(context.Background(), item.GroupResource, item.obj, b.reader)
	if err != nil {
		return nil, nil, item.failed("finding what to back up with", err)
	}
	var wanted []kubevirt.ID
	for _, neighbour := range neighbours {
		if b.present(item, neighbour) && admits(backup.Spec, neighbour.ID) {
			wanted = append(wanted, neighbour.ID)
		}
	}
	applied, err := rules.Run(item.GroupResource, item.obj, rules.Input{Phase: rules.Backup, Original: item.obj, AdditionalItems: wanted})
	if err != nil {
		return nil, nil, item.failed("backing up", err)
	}
	logApplied(b.log, item, applied)
	return u, toVelero(wanted), nil
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
