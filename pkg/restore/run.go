// Package restore is one restore run as this plugin process sees it: it gathers what the rules for a restored item need to know – identities in the
// cluster, objects that are there, nodes, disks on their way – and looks after the VMs that wait for their disks. Velero starts a plugin process for each
// restore, so a Run lives exactly as long.
package restore

import (
	"context"
	"sync"

	"github.com/sirupsen/logrus"
	velerov1 "github.com/vmware-tanzu/velero/pkg/apis/velero/v1"

	"velero-plugin-for-kubevirt/pkg/consistency"
	"velero-plugin-for-kubevirt/pkg/graph"
	"velero-plugin-for-kubevirt/pkg/kubevirt"
	"velero-plugin-for-kubevirt/pkg/object"
	"velero-plugin-for-kubevirt/pkg/rules"
	"velero-plugin-for-kubevirt/pkg/snapshot"
)

// A Writer changes the cluster.
type Writer interface {
	snapshot.Cluster
	// Patch changes an object by a JSON merge patch.
	Patch(ctx context.Context, id kubevirt.ID, patch []byte) error
}

// A Run is one restore. All of the process's actions share it; it is safe for parallel use.
type Run struct {
	reader graph.Reader
	writer Writer
	log    logrus.FieldLogger

	mu     sync.Mutex
	owners map[rules.Identifier][]kubevirt.ID // nil until an item needs them
}

// NewRun returns a run that has read nothing.
func NewRun(reader graph.Reader, writer Writer, log logrus.FieldLogger) *Run {
	return &Run{reader: reader, writer: writer, log: log}
}

// An Answer is what becomes of an item, besides what was edited in place.
type Answer struct {
	LeaveOut  bool
	Operation string // what Velero is to ask about until it has ended; empty when the item is complete
}

// BringFirst returns what is to be restored before an item, as it is called in the backup. Velero restores it before the next action for the item, Restore,
// which so sees what has become of it (Velero 1.18.1, pkg/restore/restore.go, restoreItem). Original is the item as it is in the backup.
func (r *Run) BringFirst(ctx context.Context, id kubevirt.ID, obj, original map[string]any, restore *velerov1.Restore) ([]kubevirt.ID, error) {
	in, err := r.asked(ctx, id, original, restore)
	if err != nil {
		return nil, object.Failed(obj, "restoring", err)
	}
	leftOut, err := rules.LeftOut(id.GroupResource, obj, in)
	if err != nil {
		return nil, object.Failed(obj, "restoring", err)
	}
	if leftOut {
		return nil, nil
	}
	ids, err := r.comesWith(ctx, id, original, restore)
	if err != nil {
		return nil, object.Failed(obj, "finding what to restore with", err)
	}
	return ids, nil
}

// Restore applies the restore rules to an item, in place. Original is the item as it is in the backup.
func (r *Run) Restore(ctx context.Context, id kubevirt.ID, obj, original map[string]any, restore *velerov1.Restore) (Answer, error) {
	in, applied, err := r.apply(ctx, id, obj, original, restore)
	if err != nil {
		return Answer{}, err
	}
	target := in.Target.Namespace + "/" + in.Target.Name
	log := r.log.WithField("target", target)
	rules.Log(log, id, applied)
	consistency.LogStamped(r.log, id, obj)
	if len(in.Disks) > 0 {
		log.WithFields(logrus.Fields{"item": id.String(), "disks": rules.DisksOf(in.Disks)}).Info("what has become of the disks of the VM")
	}
	if n := len(applied); n > 0 && applied[n-1].LeaveOut != "" {
		return Answer{LeaveOut: true}, nil
	}
	if left, err := r.withVolumeSnapshots(ctx, id, original, in, restore); err != nil || left {
		return Answer{LeaveOut: left}, err
	}
	if err := r.warnAbsent(ctx, id, obj, in.Target, restore.Spec); err != nil {
		return Answer{}, object.Failed(obj, "looking for what is named by", err)
	}
	var answer Answer
	if object.Annotation(obj, kubevirt.HeldRunStrategy) != "" {
		answer.Operation = target
	}
	return answer, nil
}

// Apply applies the restore rules to an item, in place, and returns what they did. Original is the item as it is in the backup.
func (r *Run) Apply(ctx context.Context, id kubevirt.ID, obj, original map[string]any, restore *velerov1.Restore) ([]rules.Applied, error) {
	_, applied, err := r.apply(ctx, id, obj, original, restore)
	return applied, err
}

func (r *Run) apply(ctx context.Context, id kubevirt.ID, obj, original map[string]any, restore *velerov1.Restore) (rules.Input, []rules.Applied, error) {
	in, err := r.input(ctx, id, obj, original, restore)
	if err != nil {
		return in, nil, object.Failed(obj, "restoring", err)
	}
	applied, err := rules.Run(id.GroupResource, obj, in)
	if err != nil {
		return in, nil, object.Failed(obj, "restoring", err)
	}
	return in, applied, nil
}
