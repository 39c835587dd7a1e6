package actions

import (
	"context"
	"errors"
	"time"

	"github.com/sirupsen/logrus"
	velerov1 "github.com/vmware-tanzu/velero/pkg/apis/velero/v1"
	"github.com/vmware-tanzu/velero/pkg/plugin/velero"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"

	"velero-plugin-for-kubevirt/pkg/consistency"
	"velero-plugin-for-kubevirt/pkg/kubevirt"
	"velero-plugin-for-kubevirt/pkg/object"
	"velero-plugin-for-kubevirt/pkg/options"
)

// Consistency is a BackupItemAction: it writes into a backed-up VM how consistent its disks are. Its name must come after that
// of Backup: Velero backs up all that Backup names, snapshots included, before it calls the next action on the same item, and
// the hooks that thaw the guest only after that (Velero 1.18.1, pkg/backup/item_backupper.go, executeActions).
type Consistency struct {
	reader  Reader
	witness *Witness
	log     logrus.FieldLogger
}

// NewConsistency returns the action for VirtualMachines and VirtualMachineInstances.
func NewConsistency(reader Reader, witness *Witness, log logrus.FieldLogger) *Consistency {
	return &Consistency{reader: reader, witness: witness, log: log}
}

// AppliesTo tells Velero which items to call Execute for.
func (c *Consistency) AppliesTo() (velero.ResourceSelector, error) {
	return c.witness.unlessPlain(c.reader, c.log, resources(machines...)), nil
}

// Execute returns the item with the verdict in its annotations, and logs it. In a plain backup, Backup has done so.
func (c *Consistency) Execute(u runtime.Unstructured, backup *velerov1.Backup) (runtime.Unstructured, []velero.ResourceIdentifier, error) {
	item, err := newItem(u.UnstructuredContent())
	if err != nil || isPlain(backup) {
		return u, nil, err
	}
	return u, nil, c.judge(item, backup)
}

// judge writes the verdict into an item and logs it. A verdict never makes the item fail: a VM that must be consistent and is not
// is an error in the log, which makes the backup PartiallyFailed, and is in the backup.
func (c *Consistency) judge(item item, backup *velerov1.Backup) error {
	if belongsToVM(item) {
		return nil // the verdict is on the VM
	}
	required, err := required(item, backup)
	objectsOnly, alsoErr := options.MetadataBackup.IsTrue(ofBackup(backup))
	if err := errors.Join(err, alsoErr); err != nil {
		c.log.WithField("item", item.String()).WithError(err).Error("what is asked for the consistency of the VM is not understood")
	}
	begin := time.Now()
	facts := c.facts(context.Background(), item, backup)
	asking := time.Since(begin)
	verdict := consistency.Judge(facts)
	if err := consistency.Stamp(item.obj, verdict, facts.Window); err != nil {
		return item.failed("backing up", err)
	}
	c.report(item, verdict, facts.Window, asking, required, objectsOnly)
	return nil
}

// belongsToVM tells whether an item is the instance of a VM.
func belongsToVM(item item) bool {
	return isVM(object.Owner(item.obj))
}

func isVM(owner *metav1.OwnerReference) bool { return owner != nil && owner.Kind == "VirtualMachine" }

// required tells whether a VM at less than the best level is an error.
func required(item item, backup *velerov1.Backup) (bool, error) {
	vm := options.Source{Place: options.OnVM, Name: item.Namespace + "/" + item.Name}
	if policy := consistency.Policy(item.obj); policy != "" {
		vm.Annotations = map[string]string{options.Consistency.Key: policy}
	}
	value, err := options.Consistency.Value(vm, ofBackup(backup))
	return value == options.Required, err
}

func ofBackup(backup *velerov1.Backup) options.Source {
	return options.Source{Place: options.OnBackup, Name: backup.Namespace + "/" + backup.Name, Labels: backup.Labels, Annotations: backup.Annotations}
}

// ofVM begins a line about the consistency of a VM. Velero shows of a warning or error its namespace, resource, name, message
// and error.
func ofVM(log logrus.FieldLogger, item item, level consistency.Level) *logrus.Entry {
	return log.WithFields(logrus.Fields{
		"item": item.String(), "namespace": item.Namespace, "resource": item.GroupResource.String(), "name": item.Name,
		"consistency": string(level),
	})
}

// report logs the verdict: of a frozen guest with the window, and what of it the plugin took to look at the VM and to ask the guest.
func (c *Consistency) report(item item, verdict consistency.Verdict, window, asking time.Duration, required, objectsOnly bool) {
	log := ofVM(c.log, item, verdict.Level)
	if verdict.Level == consistency.Filesystem {
		log = log.WithFields(logrus.Fields{"window": window.Round(100 * time.Millisecond).String(), "asking": asking.Round(time.Millisecond).String()})
	}
	if !verdict.Good() {
		log = log.WithField("error", verdict.Message())
	}
	switch {
	case verdict.Good():
		log.Info("the disks of the VM are consistent")
	case required:
		log.Error("the disks of the VM are not as consistent as required")
	case objectsOnly, verdict.Reason() == consistency.SnapshotDisabled:
		log.Info("the disks of the VM are not in the backup")
	case verdict.Reason() == consistency.FileSystemBackup, verdict.Reason() == consistency.DiskNotSnapshotted:
		log.Warn("the backup has not all disks of the VM: a restored VM misses them, or gets empty ones or the original image")
	default:
		log.Warn("the disks of the running VM are only crash-consistent")
	}
}

// logConsistency repeats what the backup says of a VM's disks, which is what the restored VM begins with.
func logConsistency(restoreLog logrus.FieldLogger, item item) {
	level, message := consistency.Stamped(item.obj)
	if level == "" {
		return
	}
	log := ofVM(restoreLog, item, level)
	if level == consistency.Crash && object.Annotation(item.obj, kubevirt.ConsistencyReason) != string(consistency.SnapshotDisabled) {
		log.WithField("error", message).Warn("the disks of the VM were only crash-consistent when they were backed up")
		return
	}
	log.Info("how consistent the disks of the VM were when they were backed up")
}
