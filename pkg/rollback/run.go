// Package rollback puts one VM in place of itself as it was backed up, and back again. What it is about to do is decided in plan.go from facts, and kept in a
// record beside the VM, from which every step knows whether it has been done: a rollback that was interrupted goes on when it is asked for again.
package rollback

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strings"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	virtv1 "kubevirt.io/api/core/v1"

	"velero-plugin-for-kubevirt/pkg/kubevirt"
	"velero-plugin-for-kubevirt/pkg/object"
	"velero-plugin-for-kubevirt/pkg/options"
	"velero-plugin-for-kubevirt/pkg/rules"
	"velero-plugin-for-kubevirt/pkg/vm"
)

// A Run does a rollback, undoes it or finishes it.
type Run struct {
	Cluster vm.Cluster
	VM      kubevirt.ID
	Record  *Record
	// Done is told each step that has been done, Waiting what is being waited for.
	Done, Waiting func(string)
}

// A step looks at the cluster for what of it has been done already, and does the rest.
type step struct {
	done string
	do   func(context.Context) error
}

func (r *Run) through(ctx context.Context, steps []step) error {
	for _, s := range steps {
		if err := s.do(ctx); err != nil {
			return err
		}
		if s.done != "" {
			r.Done(s.done)
		}
	}
	return nil
}

// Begin writes the record. Nothing has been changed before.
func (r *Run) Begin(ctx context.Context) error {
	return r.through(ctx, []step{{"written down in " + recordID(r.VM).String() + ": the VM, its DataVolumes and claims", r.create}})
}

// Rollback does what is still to be done of a rollback.
func (r *Run) Rollback(ctx context.Context) error {
	return r.through(ctx, []step{
		{"the VM is stopped", r.stop},
		{"its volumes are kept: their reclaim policy is Retain", r.keep},
		{"VirtualMachine, DataVolumes and claims are taken away", r.takeAway},
		{"restored from " + r.Record.Backup, r.restore},
		{"", r.awaitStart},
		{"rolled back", func(ctx context.Context) error {
			r.Record.Done = true
			return r.save(ctx)
		}},
	})
}

// stop stops the VM that was there before, if it still is.
func (r *Run) stop(ctx context.Context) error {
	live, err := r.Cluster.Now(ctx, r.VM)
	if err != nil || !r.Record.isOld(r.VM, live) {
		return err
	}
	return r.halt(ctx)
}

func (r *Run) halt(ctx context.Context) error {
	if err := r.patch(ctx, r.VM, map[string]any{"spec": map[string]any{"running": nil, "runStrategy": string(virtv1.RunStrategyHalted)}}); err != nil {
		return err
	}
	instance := kubevirt.ID{GroupResource: kubevirt.VirtualMachineInstances, Namespace: r.VM.Namespace, Name: r.VM.Name}
	return r.poll(ctx, instance, func(vmi map[string]any) (string, error) {
		if vmi == nil {
			return "", nil
		}
		return "the guest shuts down", nil
	})
}

// keep makes every volume outlive its claim.
func (r *Run) keep(ctx context.Context) error {
	for _, volume := range r.Record.Volumes {
		id := kubevirt.ID{GroupResource: kubevirt.PersistentVolumes, Name: volume.Name}
		pv, err := r.Cluster.Now(ctx, id)
		if err != nil {
			return err
		}
		if pv == nil {
			return vm.NotGood(fmt.Sprintf("%s, the volume of claim %s, is gone: look for it in the storage; nothing more is done", id, volume.Claim))
		}
		if err := r.setPolicy(ctx, id, string(corev1.PersistentVolumeReclaimRetain)); err != nil {
			return err
		}
	}
	return nil
}

func (r *Run) setPolicy(ctx context.Context, volume kubevirt.ID, policy string) error {
	return r.patch(ctx, volume, map[string]any{"spec": map[string]any{"persistentVolumeReclaimPolicy": policy}})
}

// takeAway removes what is recorded: the VM first, or it would make its DataVolumes anew. Its dependents are orphaned, so that nothing goes but what is
// recorded. Its revisions go with it: Kubernetes cannot orphan them, and would wait for ever (Kubernetes 1.36.3 refuses any patch of a ControllerRevision
// whose data was written in another order: "data: field is immutable"; seen on the real one).
func (r *Run) takeAway(ctx context.Context) error {
	for _, together := range [][]Object{
		r.Record.had(kubevirt.VirtualMachines, kubevirt.ControllerRevisions),
		r.Record.had(kubevirt.DataVolumes, kubevirt.PersistentVolumeClaims),
	} {
		for _, old := range together {
			if err := r.Cluster.Remove(ctx, old.ID, old.UID, metav1.DeletePropagationOrphan); err != nil {
				return err
			}
		}
		for _, old := range together {
			if err := r.awaitGone(ctx, old); err != nil {
				return err
			}
		}
	}
	return nil
}

func (r *Run) awaitGone(ctx context.Context, old Object) error {
	return r.poll(ctx, old.ID, func(obj map[string]any) (string, error) {
		if obj == nil || object.UID(obj) != old.UID {
			return "", nil
		}
		finalizers, err := object.Strings(obj, "metadata.finalizers[]")
		var names []string
		for _, f := range finalizers {
			names = append(names, f.Value)
		}
		return "it is being deleted; its finalizers are " + strings.Join(names, ", "), err
	})
}

func (r *Run) restoreID() kubevirt.ID {
	return kubevirt.ID{GroupResource: kubevirt.VeleroRestores, Namespace: r.Record.Velero, Name: r.Record.Restore}
}

// restore has Velero restore the VM alone, with its identity.
func (r *Run) restore(ctx context.Context) error {
	id := r.restoreID()
	if _, err := r.Cluster.Create(ctx, id, vm.Restore(id, r.Record.Backup, r.VM.Namespace, r.Record.Label, map[string]any{options.Identity.Key: options.Keep})); err != nil {
		return err
	}
	if err := vm.AwaitRestore(ctx, r.Cluster, id, r.Waiting); err != nil {
		return r.goOn(err)
	}
	restored, err := r.Cluster.Now(ctx, r.VM)
	if err == nil && !r.Record.isRestored(restored) {
		err = vm.NotGood(fmt.Sprintf("Restore %s is Completed, and has not brought the VirtualMachine", id.Name))
	}
	return err
}

// goOn says what a person can do when not all came back.
func (r *Run) goOn(err error) error {
	var bad vm.NotGood
	if !errors.As(err, &bad) {
		return err
	}
	return vm.NotGood(fmt.Sprintf("%s\nTo try again, delete Restore %s and repeat the command; to go back, call it with --undo", bad, r.Record.Restore))
}

// awaitStart waits until the VM runs, if it starts by itself.
func (r *Run) awaitStart(ctx context.Context) error {
	live, err := r.Cluster.Now(ctx, r.VM)
	if err != nil {
		return err
	}
	starts, err := rules.StartsByItself(live)
	switch {
	case err != nil:
		return err
	case starts:
		if err := vm.AwaitRunning(ctx, r.Cluster, r.VM, r.Waiting); err != nil {
			return err
		}
		r.Done("the VM runs")
	default:
		r.Done("the VM is not running, as its run strategy says")
	}
	return nil
}

func (r *Run) patch(ctx context.Context, id kubevirt.ID, change map[string]any) error {
	patch, err := json.Marshal(change)
	if err != nil {
		return fmt.Errorf("patching %s: %w", id, err)
	}
	return r.Cluster.Patch(ctx, id, patch)
}

func (r *Run) poll(ctx context.Context, id kubevirt.ID, look vm.Look) error {
	return vm.Poll(ctx, r.Cluster, id, r.Waiting, look)
}
