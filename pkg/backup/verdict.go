package backup

import (
	"context"
	"errors"
	"time"

	velerov1 "github.com/vmware-tanzu/velero/pkg/apis/velero/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	virtv1 "kubevirt.io/api/core/v1"

	"velero-plugin-for-kubevirt/pkg/consistency"
	"velero-plugin-for-kubevirt/pkg/freeze"
	"velero-plugin-for-kubevirt/pkg/graph"
	"velero-plugin-for-kubevirt/pkg/kubevirt"
	"velero-plugin-for-kubevirt/pkg/object"
	"velero-plugin-for-kubevirt/pkg/options"
	"velero-plugin-for-kubevirt/pkg/snapshot"
)

// Judge writes into a VM, or an instance of its own, how consistent its disks are, and logs it. It is the last call for the item: all of its disks have
// their snapshots, and the guest is not thawed yet. A verdict never makes the item fail: a VM that must be consistent and is not is an error in the log,
// which makes the backup PartiallyFailed, and is in the backup. In a backup without ItemBlocks BackUp has done this.
func (r *Run) Judge(ctx context.Context, id kubevirt.ID, obj map[string]any, backup *velerov1.Backup) error {
	scope, err := r.scope(backup)
	if err != nil || !scope.itemBlocks {
		return err
	}
	defer r.finish(id)
	return r.judge(ctx, id, obj, backup, scope)
}

func (r *Run) judge(ctx context.Context, id kubevirt.ID, obj map[string]any, backup *velerov1.Backup, scope *scope) error {
	if isVM(object.Owner(obj)) {
		return nil // the verdict is on the VM
	}
	asked, err := askedOf(obj, backup)
	if err != nil {
		r.log.WithField("item", id.String()).WithError(err).Error("what is asked for the consistency of the VM is not understood")
	}
	begin := time.Now()
	facts := r.facts(ctx, id, obj, scope)
	asking := time.Since(begin)
	verdict := consistency.Judge(facts)
	if err := consistency.Stamp(obj, verdict, facts); err != nil {
		return object.Failed(obj, "backing up", err)
	}
	verdict.Log(r.log, id, consistency.Measured{Window: facts.Window, Asking: asking}, asked)
	return nil
}

func isVM(owner *metav1.OwnerReference) bool { return owner != nil && owner.Kind == "VirtualMachine" }

// askedOf returns what is asked for the consistency of a VM, by itself or by the backup.
func askedOf(obj map[string]any, backup *velerov1.Backup) (asked consistency.Asked, err error) {
	ofBackup := sourceOf(backup)
	vm := options.Source{Place: options.OnVM, Name: object.Namespace(obj) + "/" + object.Name(obj)}
	if policy := consistency.Policy(obj); policy != "" {
		vm.Annotations = map[string]string{options.Consistency.Key: policy}
	}
	value, err := options.Consistency.Value(vm, ofBackup)
	asked.Required = value == options.Required
	objectsOnly, alsoErr := options.MetadataBackup.IsTrue(ofBackup)
	asked.ObjectsOnly = objectsOnly
	return asked, errors.Join(err, alsoErr)
}

// facts gathers what was seen of a VM, or of an instance of its own.
func (r *Run) facts(ctx context.Context, id kubevirt.ID, obj map[string]any, scope *scope) consistency.Facts {
	instance := instanceOf(id)
	if !scope.itemBlocks {
		return r.factsFromLists(ctx, instance, scope)
	}
	claims, err := r.claimsOf(ctx, id, obj)
	if err != nil {
		return consistency.Facts{Snapshots: scope.snapshots, Unseen: []error{err}}
	}
	b, joined := r.blockOf(id)
	disks := r.disks(claims, b.window.Joined(instance), b.window.ThawedAt(instance))
	if !scope.snapshots {
		_, facts := r.runs(ctx, instance)
		facts.Disks = disks
		return facts
	}
	facts := b.window.Facts(ctx, id, instance)
	facts.Joined, facts.Disks = joined, disks
	if facts.Group = groupOf(obj); facts.Group != "" {
		facts.Together = r.together(b)
	}
	return facts
}

// blockOf returns the ItemBlock of an item, and whether the plugin saw the item join it; an empty one when it knows none.
func (r *Run) blockOf(id kubevirt.ID) (*block, bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if b := r.blocks[id]; b != nil {
		return b, b.members[id]
	}
	return &block{window: freeze.Open(r.reader), cuts: map[kubevirt.ID]snapshot.Result{}}, false
}

// factsFromLists gathers what matters of a VM without ItemBlocks, from lists that all VMs share: whether it runs, and of which disks Velero copies the files.
func (r *Run) factsFromLists(ctx context.Context, instance kubevirt.ID, scope *scope) consistency.Facts {
	vmi, facts := r.runs(ctx, instance)
	if vmi == nil {
		return facts
	}
	var err error
	if facts.Disks, err = r.disksCopied(ctx, instance.Namespace, string(vmi.UID), scope); err != nil {
		facts.Unseen = append(facts.Unseen, err)
	}
	return facts
}

// runs returns the metadata of an instance, nil when there is none, and the facts that follow from that.
func (r *Run) runs(ctx context.Context, instance kubevirt.ID) (*metav1.PartialObjectMetadata, consistency.Facts) {
	vmi, err := graph.MetadataOf(ctx, r.reader, instance)
	switch {
	case err != nil:
		return nil, consistency.Facts{Unseen: []error{err}}
	case vmi == nil:
		return nil, consistency.Facts{}
	}
	return vmi, consistency.Facts{After: &virtv1.VirtualMachineInstance{}}
}
