package consistency

import (
	"time"

	"github.com/sirupsen/logrus"

	"velero-plugin-for-kubevirt/pkg/kubevirt"
	"velero-plugin-for-kubevirt/pkg/object"
)

// Asked is what a person asks for the consistency of a VM.
type Asked struct {
	Required    bool // anything less than the best level is an error
	ObjectsOnly bool // somebody else takes care of the disks
}

// Measured is how long it took.
type Measured struct {
	Window time.Duration // the guest had to stay frozen
	Asking time.Duration // what of it the plugin took to look at the VM and to ask the guest
}

// Log writes one line about a verdict.
func (v Verdict) Log(log logrus.FieldLogger, vm kubevirt.ID, measured Measured, asked Asked) {
	entry := log.WithFields(fields(vm, v.Level))
	if v.Level == Filesystem {
		entry = entry.WithFields(logrus.Fields{"window": measured.Window.Round(10 * time.Millisecond).String(), "asking": measured.Asking.Round(time.Millisecond).String()})
	}
	if !v.Good() {
		entry = entry.WithField("error", v.Message())
	}
	switch {
	case v.Good():
		entry.Info("the disks of the VM are consistent")
	case asked.Required:
		entry.Error("the disks of the VM are not as consistent as required")
	case asked.ObjectsOnly, v.Reason() == SnapshotDisabled:
		entry.Info("the disks of the VM are not in the backup")
	case v.Reason() == FileSystemBackup, v.Reason() == DiskNotSnapshotted:
		entry.Warn("the backup has not all disks of the VM: a restored VM misses them, or gets empty ones or the original image")
	case v.Reason() == NotTogether:
		entry.Warn("the disks of the VM are not of the same moment as those of its group")
	default:
		entry.Warn("the disks of the running VM are only crash-consistent")
	}
}

// LogStamped repeats the verdict that a backed-up VM carries, which is what the restored VM begins with. It writes nothing about any other item.
func LogStamped(log logrus.FieldLogger, vm kubevirt.ID, obj map[string]any) {
	level, message := Stamped(obj)
	if level == "" {
		return
	}
	entry := log.WithFields(fields(vm, level))
	if level == Crash && object.Annotation(obj, kubevirt.ConsistencyReason) != string(SnapshotDisabled) {
		entry.WithField("error", message).Warn("the disks of the VM were only crash-consistent when they were backed up")
		return
	}
	entry.Info("how consistent the disks of the VM were when they were backed up")
}

// fields begin a line about a VM. Velero shows of a warning or error its namespace, resource, name, message and error.
func fields(vm kubevirt.ID, level Level) logrus.Fields {
	return logrus.Fields{
		"item": vm.String(), "namespace": vm.Namespace, "resource": vm.GroupResource.String(), "name": vm.Name,
		"consistency": string(level),
	}
}
