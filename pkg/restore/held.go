package restore

import (
	"context"
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/sirupsen/logrus"
	velerov1 "github.com/vmware-tanzu/velero/pkg/apis/velero/v1"
	"github.com/vmware-tanzu/velero/pkg/plugin/velero"
	corev1 "k8s.io/api/core/v1"

	"velero-plugin-for-kubevirt/pkg/graph"
	"velero-plugin-for-kubevirt/pkg/kubevirt"
	"velero-plugin-for-kubevirt/pkg/object"
	"velero-plugin-for-kubevirt/pkg/rules"
)

// Progress tells whether a held VM has been released, and releases it when all its disks are there. Velero asks every ten seconds, each time in a new
// process. What cannot be found out or done now is tried again then: an error would end the operation and leave the VM held.
func (r *Run) Progress(ctx context.Context, operation string) velero.OperationProgress {
	progress := velero.OperationProgress{OperationUnits: "disks", Updated: time.Now()}
	if err := r.releaseWhenFilled(ctx, operation, &progress); err != nil {
		r.log.WithField("target", operation).WithError(err).Warn("the VM is held, and could not be looked at or released; this is tried again")
		progress.Description = err.Error()
	}
	return progress
}

func (r *Run) releaseWhenFilled(ctx context.Context, operation string, progress *velero.OperationProgress) error {
	vm, err := r.held(ctx, operation)
	if err != nil {
		return err
	}
	if vm == nil { // it is gone, or somebody has released it
		progress.Completed = true
		return nil
	}
	if why := object.Annotation(vm, kubevirt.HeldBecause); why != "" { // a person has to decide, and the restore does not wait for that
		progress.Completed, progress.Err = true, fmt.Sprintf("VirtualMachine %s is not started: %s", operation, why)
		return nil
	}
	neighbours, err := graph.Neighbours(ctx, kubevirt.VirtualMachines, vm, r.reader)
	if err != nil {
		return err
	}
	var ids []kubevirt.ID
	for _, neighbour := range neighbours {
		ids = append(ids, neighbour.ID)
	}
	claims := claimsAmong(ids, object.Namespace(vm))
	// By now the restore has brought every claim that it brings at all.
	waiting, err := r.waiting(ctx, claims)
	if err != nil {
		return err
	}
	progress.NTotal, progress.NCompleted = int64(len(claims)), int64(len(claims)-len(waiting))
	if len(waiting) > 0 {
		progress.Description = "waiting for the data of " + strings.Join(waiting, ", ")
		return nil
	}
	if err := r.release(ctx, vm); err != nil {
		return err
	}
	progress.Completed = true
	return nil
}

// Cancel releases a held VM although its disks are not there: Velero has waited for as long as the Restore allows. One that a person has to decide about
// stays held.
func (r *Run) Cancel(ctx context.Context, operation string) error {
	vm, err := r.held(ctx, operation)
	if object.Annotation(vm, kubevirt.HeldBecause) != "" {
		return nil
	}
	if vm != nil {
		err = r.release(ctx, vm)
	}
	log := r.log.WithFields(logrus.Fields{"rule": "vm-hold", "target": operation})
	if err != nil {
		log.WithError(err).Errorf("the VM is still held: set its run strategy to what its annotation %s says", kubevirt.HeldRunStrategy)
		return err
	}
	log.Warn("the disks of the VM did not come in time, and it is no longer held: it may not start")
	return nil
}

// held returns the VM that an operation is about, nil when it is not held any more.
func (r *Run) held(ctx context.Context, operation string) (map[string]any, error) {
	namespace, name, _ := strings.Cut(operation, "/")
	vm, err := r.reader.Get(ctx, kubevirt.ID{GroupResource: kubevirt.VirtualMachines, Namespace: namespace, Name: name})
	if err != nil || object.Annotation(vm, kubevirt.HeldRunStrategy) == "" { // one that is gone has no annotation
		return nil, err
	}
	return vm, nil
}

// release gives a VM the run strategy that it was held with.
func (r *Run) release(ctx context.Context, vm map[string]any) error {
	patch, err := json.Marshal(map[string]any{
		"metadata": map[string]any{"annotations": map[string]any{kubevirt.HeldRunStrategy: nil}},
		"spec":     map[string]any{"runStrategy": object.Annotation(vm, kubevirt.HeldRunStrategy)},
	})
	if err != nil {
		return err
	}
	id := kubevirt.ID{GroupResource: kubevirt.VirtualMachines, Namespace: object.Namespace(vm), Name: object.Name(vm)}
	return r.writer.Patch(ctx, id, patch)
}

// claimsAmong returns the claims of one namespace among objects.
func claimsAmong(ids []kubevirt.ID, namespace string) []kubevirt.ID {
	var claims []kubevirt.ID
	for _, id := range ids {
		if id.GroupResource == kubevirt.PersistentVolumeClaims && id.Namespace == namespace {
			claims = append(claims, id)
		}
	}
	return claims
}

// waiting returns the names of the claims that the data mover has still to fill.
func (r *Run) waiting(ctx context.Context, claims []kubevirt.ID) ([]string, error) {
	var waiting []string
	for _, id := range claims {
		claim, err := r.reader.Get(ctx, id)
		if err != nil {
			return nil, err
		}
		data, err := byDataMover(claim)
		if err != nil {
			return nil, fmt.Errorf("reading %s: %w", id, err)
		}
		if data == rules.Coming {
			waiting = append(waiting, id.Name)
		}
	}
	slices.Sort(waiting)
	return waiting, nil
}

// byDataMover tells whether the data mover has filled a claim, or has still to do it. It marks the claim with a selector that only the volume with the data
// will fit (Velero 1.18.1, pkg/restore/actions/csi/pvc_action.go).
func byDataMover(claim map[string]any) (rules.Data, error) {
	selector, err := object.Map(claim, "spec.selector.matchLabels")
	if err != nil || selector[velerov1.DynamicPVRestoreLabel] == nil {
		return rules.NoData, err
	}
	phase, err := object.String(claim, "status.phase")
	if phase == string(corev1.ClaimBound) {
		return rules.FromSnapshot, err
	}
	return rules.Coming, err
}
