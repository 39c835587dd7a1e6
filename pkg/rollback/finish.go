package rollback

import (
	"context"
	"fmt"

	corev1 "k8s.io/api/core/v1"

	"velero-plugin-for-kubevirt/pkg/kubevirt"
	"velero-plugin-for-kubevirt/pkg/object"
)

// Finish gives the old volumes up: they get their reclaim policy back, which is Delete for most. There is no way back from here.
func (r *Run) Finish(ctx context.Context) error {
	return r.through(ctx, []step{
		{"", func(ctx context.Context) error {
			r.Record.Direction = Finish
			return r.save(ctx)
		}},
		{"the old volumes are given up", r.giveUp},
		{"finished", r.forget},
	})
}

func (r *Run) giveUp(ctx context.Context) error {
	for _, volume := range r.Record.Volumes {
		id := kubevirt.ID{GroupResource: kubevirt.PersistentVolumes, Name: volume.Name}
		pv, err := r.Cluster.Now(ctx, id)
		if err != nil {
			return err
		}
		if pv == nil {
			continue
		}
		claim, err := object.String(pv, "spec.claimRef.uid")
		if err != nil {
			return err
		}
		if claim != volume.ClaimUID {
			r.Done(fmt.Sprintf("%s is left: somebody uses it for another claim", id))
			continue
		}
		if err := r.setPolicy(ctx, id, volume.ReclaimPolicy); err != nil {
			return err
		}
		if volume.ReclaimPolicy != string(corev1.PersistentVolumeReclaimDelete) {
			r.Done(fmt.Sprintf("%s is left: its reclaim policy was %s before the rollback, too", id, volume.ReclaimPolicy))
			continue
		}
		err = r.poll(ctx, id, func(pv map[string]any) (string, error) {
			phase, err := object.String(pv, "status.phase")
			if err != nil || pv == nil {
				return "", err
			}
			message, err := object.String(pv, "status.message")
			return "the storage deletes the volume, which is " + phase + " " + message, err
		})
		if err != nil {
			return err
		}
	}
	return nil
}
