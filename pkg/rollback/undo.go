package rollback

import (
	"context"
	"errors"
	"fmt"

	"github.com/google/uuid"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"

	"velero-plugin-for-kubevirt/pkg/kubevirt"
	"velero-plugin-for-kubevirt/pkg/object"
	"velero-plugin-for-kubevirt/pkg/options"
	"velero-plugin-for-kubevirt/pkg/rules"
	"velero-plugin-for-kubevirt/pkg/vm"
)

// Undo brings back the VM that was there before, on the volumes that were kept. What the restored one has written since is lost.
func (r *Run) Undo(ctx context.Context) error {
	return r.through(ctx, []step{
		{"", func(ctx context.Context) error {
			r.Record.Direction = Undo
			return r.save(ctx)
		}},
		{"what was restored is taken away", r.takeRestoredAway},
		{"the old volumes are bound again", r.bind},
		{"the VM is there as it was", r.recreate},
		{"", r.awaitStart},
		{"the volumes have their reclaim policy again", r.policiesBack},
		{"undone", r.forget},
	})
}

// takeRestoredAway removes what the Restore brought: the VM with all that it has made since, DataVolumes and claims.
func (r *Run) takeRestoredAway(ctx context.Context) error {
	var bad vm.NotGood
	// What Velero is still about to make could not be removed. How well it has ended does not matter.
	if err := vm.AwaitRestore(ctx, r.Cluster, r.restoreID(), r.Waiting); err != nil && (!errors.As(err, &bad) || ctx.Err() != nil) {
		return err
	}
	restored, err := r.Cluster.Now(ctx, r.VM)
	if err != nil {
		return err
	}
	if r.Record.isRestored(restored) && !isBeingDeleted(restored) {
		if err := r.halt(ctx); err != nil {
			return err
		}
	}
	ids := []kubevirt.ID{r.VM}
	for _, resource := range []schema.GroupResource{kubevirt.DataVolumes, kubevirt.PersistentVolumeClaims} {
		for _, name := range r.Record.Restored {
			ids = append(ids, kubevirt.ID{GroupResource: resource, Namespace: r.VM.Namespace, Name: name})
		}
	}
	for _, id := range ids {
		obj, err := r.Cluster.Now(ctx, id)
		if err != nil {
			return err
		}
		if !r.Record.isRestored(obj) {
			continue
		}
		// Foreground: the VM goes when what it has made has gone, a backend storage say, which would be found beside the old one.
		if err := r.Cluster.Remove(ctx, id, object.UID(obj), metav1.DeletePropagationForeground); err != nil {
			return err
		}
		if err := r.awaitGone(ctx, Object{ID: id, UID: object.UID(obj)}); err != nil {
			return err
		}
	}
	return nil
}

// bind makes the old claims anew, each for the volume that it had.
func (r *Run) bind(ctx context.Context) error {
	volumes := map[string]Volume{}
	for _, volume := range r.Record.Volumes {
		volumes[volume.Claim] = volume
	}
	for _, old := range r.Record.had(kubevirt.PersistentVolumeClaims) {
		volume, bound := volumes[old.ID.Name]
		if !bound {
			if err := r.makeAnew(ctx, old); err != nil {
				return err
			}
			continue
		}
		err := r.poll(ctx, old.ID, func(claim map[string]any) (string, error) {
			switch name, err := object.String(claim, "spec.volumeName"); {
			case err != nil:
				return "", err
			case claim == nil:
				if err := r.release(ctx, volume); err != nil {
					return "", err
				}
				return "the claim is being made", r.makeAnew(ctx, old)
			case isBeingDeleted(claim):
				return "the claim is being deleted", nil
			case name != volume.Name:
				return "", vm.NotGood(fmt.Sprintf("%s is bound to %s, and neither the rollback nor its undoing made it: delete it if it is not needed", old.ID, name))
			}
			phase, err := object.String(claim, "status.phase")
			if err != nil || phase == string(corev1.ClaimBound) {
				return "", err
			}
			return "the claim is " + phase, nil
		})
		if err != nil {
			return err
		}
	}
	return nil
}

// release makes a volume free for a new claim of the old one's name. It must only be called when the old claim is gone.
func (r *Run) release(ctx context.Context, volume Volume) error {
	id := kubevirt.ID{GroupResource: kubevirt.PersistentVolumes, Name: volume.Name}
	pv, err := r.Cluster.Now(ctx, id)
	if err != nil {
		return err
	}
	if pv == nil {
		return vm.NotGood(fmt.Sprintf("%s, the old volume of claim %s, is gone", id, volume.Claim))
	}
	uid, err := object.String(pv, "spec.claimRef.uid")
	if err != nil || uid != volume.ClaimUID {
		return err
	}
	return r.patch(ctx, id, map[string]any{"spec": map[string]any{"claimRef": map[string]any{"uid": nil, "resourceVersion": nil}}})
}

// recreate makes the old revisions, DataVolumes and the VM anew. A VM that has only been stopped gets its run strategy back.
func (r *Run) recreate(ctx context.Context) error {
	for _, old := range r.Record.had(kubevirt.ControllerRevisions, kubevirt.DataVolumes) {
		if err := r.makeAnew(ctx, old); err != nil {
			return err
		}
	}
	old := r.Record.old(r.VM)
	live, err := r.Cluster.Now(ctx, r.VM)
	if err != nil {
		return err
	}
	if r.Record.isOld(r.VM, live) && !isBeingDeleted(live) {
		spec, err := object.Map(old.Content, "spec")
		if err != nil {
			return err
		}
		return r.patch(ctx, r.VM, map[string]any{"spec": map[string]any{"running": spec["running"], "runStrategy": spec["runStrategy"]}})
	}
	if err := r.awaitGone(ctx, *old); err != nil {
		return err
	}
	return r.makeAnew(ctx, *old)
}

// makeAnew creates an object as it was, if it is not there, by the rules by which a restore would. One that the rules leave out makes CDI by itself.
func (r *Run) makeAnew(ctx context.Context, old Object) error {
	obj, err := anew(old)
	if err != nil || obj == nil {
		return err
	}
	_, err = r.Cluster.Create(ctx, old.ID, obj)
	return err
}

// cleared are the annotations that tell of a claim that it has been bound, and where: Velero removes them, too (Velero 1.18.1, pkg/restore/restore.go,
// resetVolumeBindingInfo).
var cleared = []string{"pv.kubernetes.io/bind-completed", "pv.kubernetes.io/bound-by-controller", "volume.kubernetes.io/selected-node"}

// anew returns an old object as it is to be created, nil when a rule leaves it out.
func anew(old Object) (map[string]any, error) {
	obj := runtime.DeepCopyJSON(old.Content)
	metadata, err := object.Map(obj, "metadata")
	if err != nil {
		return nil, object.Failed(obj, "making anew", err)
	}
	kept := map[string]any{}
	for _, field := range []string{"name", "namespace", "labels", "annotations", "finalizers"} { // what Velero keeps
		if metadata[field] != nil {
			kept[field] = metadata[field]
		}
	}
	obj["metadata"] = kept
	delete(obj, "status")
	for _, key := range cleared {
		object.DeleteAnnotation(obj, key)
	}
	applied, err := rules.Run(old.ID.GroupResource, obj, rules.Input{
		Phase: rules.Restore, Original: old.Content, Target: old.ID, NewUUID: uuid.NewString, Data: rules.There,
		Restore: options.Source{Place: options.OnRestore, Labels: map[string]string{options.Identity.Key: options.Keep}},
	})
	if err != nil {
		return nil, object.Failed(obj, "making anew", err)
	}
	if n := len(applied); n > 0 && applied[n-1].LeaveOut != "" {
		return nil, nil
	}
	return obj, nil
}

// policiesBack gives the volumes that are in use again the reclaim policy that they had.
func (r *Run) policiesBack(ctx context.Context) error {
	for _, volume := range r.Record.Volumes {
		if err := r.setPolicy(ctx, kubevirt.ID{GroupResource: kubevirt.PersistentVolumes, Name: volume.Name}, volume.ReclaimPolicy); err != nil {
			return err
		}
	}
	return nil
}

// forget removes the record.
func (r *Run) forget(ctx context.Context) error {
	id := recordID(r.VM)
	secret, err := r.Cluster.Now(ctx, id)
	if err != nil || secret == nil {
		return err
	}
	return r.Cluster.Remove(ctx, id, object.UID(secret), metav1.DeletePropagationBackground)
}

func isBeingDeleted(obj map[string]any) bool {
	return (&unstructured.Unstructured{Object: obj}).GetDeletionTimestamp() != nil
}
