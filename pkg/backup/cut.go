package backup

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/sirupsen/logrus"
	velerov1 "github.com/vmware-tanzu/velero/pkg/apis/velero/v1"
	"github.com/vmware-tanzu/velero/pkg/label"
	"github.com/vmware-tanzu/velero/pkg/util/boolptr"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"

	"velero-plugin-for-kubevirt/pkg/kubevirt"
	"velero-plugin-for-kubevirt/pkg/object"
	"velero-plugin-for-kubevirt/pkg/snapshot"
)

// snapshotClaim takes the snapshot of a claim, together with those of all other claims of its ItemBlock, if the backup's policy asks for it. It returns nil if
// it does not.
func (r *Run) snapshotClaim(ctx context.Context, id kubevirt.ID, obj map[string]any, backup *velerov1.Backup, scope *scope) (*snapshot.Result, error) {
	asked, err := scope.policy.asksFor(obj)
	if err != nil || !asked {
		return nil, err
	}
	b, _ := r.blockOf(id)
	b.cutting.Lock()
	defer b.cutting.Unlock()
	result, done := r.cutOf(b, id)
	if !done {
		r.cut(ctx, b, id, backup, scope)
		result, done = r.cutOf(b, id)
	}
	if !done {
		return nil, object.Failed(obj, "snapshotting", errors.New("it was deleted or excluded from the backup meanwhile"))
	}
	return &result, result.Err
}

func isFinalizing(backup *velerov1.Backup) bool {
	return backup.Status.Phase == velerov1.BackupPhaseFinalizing || backup.Status.Phase == velerov1.BackupPhaseFinalizingPartiallyFailed
}

// cutOf returns what came of a claim's snapshot, and whether it was taken.
func (r *Run) cutOf(b *block, id kubevirt.ID) (snapshot.Result, bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	result, done := b.cuts[id]
	return result, done
}

// cut takes the snapshots of all claims of an ItemBlock that have none. The guests are thawed when no other disk is left to Velero; at the first trouble they are
// thawed at once, and the snapshots go on.
func (r *Run) cut(ctx context.Context, b *block, id kubevirt.ID, backup *velerov1.Backup, scope *scope) {
	began := time.Now()
	r.begin(b, began, backup, scope)
	watch := r.watch(id.Namespace, backup, scope)
	who := r.cuttersOf(ctx, b, id, backup, scope)
	r.expect(b, func() cutters { return who })
	timeout, cancel := context.WithTimeout(ctx, backup.Spec.CSISnapshotTimeout.Duration)
	defer cancel()
	var trouble atomic.Bool
	thawAtOnce := func(error) {
		if !trouble.Swap(true) {
			r.thaw(ctx, b)
		}
	}
	if len(who.failed) > 0 {
		thawAtOnce(who.failed[0].Err)
	}
	results := append(snapshot.Take(timeout, r.storage, watch, who.requests, thawAtOnce), who.failed...)
	took := time.Since(began)
	r.recordCuts(b, results)
	r.thawWhenCut(ctx, b)
	r.logCut(b, results, took)
	r.sweeping.Do(func() {
		if err := r.deleteOfFailed(ctx); err != nil {
			r.log.WithError(err).Warn("VolumeSnapshots that failed backups may have left were not removed; the next backup tries again")
		}
	})
}

// cutters tell who snapshots the claims of an ItemBlock.
type cutters struct {
	requests []snapshot.Request // the plugin
	failed   []snapshot.Result  // the plugin cannot
	velero   []kubevirt.ID      // Velero, or its file-system backup
}

// cuttersOf finds out who snapshots a claim and the others of its ItemBlock that have no snapshot yet. The guests are frozen meanwhile: all claims are looked at
// at once.
func (r *Run) cuttersOf(ctx context.Context, b *block, id kubevirt.ID, backup *velerov1.Backup, scope *scope) cutters {
	claims := slices.DeleteFunc(r.claimsToCut(b, id), func(claim kubevirt.ID) bool { return claim != id && !scope.admits(claim) })
	found := make([]cutters, len(claims))
	var all sync.WaitGroup
	for n, claim := range claims {
		all.Go(func() {
			request, velero, err := r.cutterOf(ctx, claim, backup, scope)
			switch {
			case err != nil:
				found[n].failed = []snapshot.Result{{Request: snapshot.Request{Namespace: claim.Namespace, Claim: claim.Name}, Err: err}}
			case velero:
				found[n].velero = []kubevirt.ID{claim}
			case request != nil:
				found[n].requests = []snapshot.Request{*request}
			}
		})
	}
	all.Wait()
	var c cutters
	for _, of := range found {
		c.requests, c.failed, c.velero = append(c.requests, of.requests...), append(c.failed, of.failed...), append(c.velero, of.velero...)
	}
	return c
}

// cutterOf finds out who snapshots a claim: the plugin, with the class and labels that Velero would give it (Velero 1.18.1,
// pkg/backup/actions/csi/pvc_action.go, createVolumeSnapshot), Velero, or nobody.
func (r *Run) cutterOf(ctx context.Context, id kubevirt.ID, backup *velerov1.Backup, scope *scope) (request *snapshot.Request, velero bool, err error) {
	obj, err := r.reader.Now(ctx, id)
	if err != nil || obj == nil || object.Label(obj, velerov1.ExcludeFromBackupLabel) == "true" {
		return nil, false, err
	}
	asked, err := scope.policy.asksFor(obj)
	if err != nil {
		return nil, false, object.Failed(obj, "applying the volume policy to", err)
	}
	if !asked {
		velero, err := scope.policy.leavesToVelero(ctx, obj)
		return nil, velero || err != nil || r.copiedFrom(id), nil //nolint:nilerr // what is not known is waited for
	}
	claim, err := as[corev1.PersistentVolumeClaim](obj)
	if err != nil {
		return nil, false, err
	}
	class, err := scope.policy.classFor(ctx, claim, backup)
	if err != nil {
		return nil, false, err
	}
	labels := map[string]string{velerov1.BackupUIDLabel: string(backup.UID)}
	maps.Copy(labels, claim.Labels)
	labels[velerov1.BackupNameLabel] = label.GetValidName(backup.Name)
	return &snapshot.Request{
		Name: nameAgain("velero-"+claim.Name, string(backup.UID)+"/"+string(claim.UID)), Namespace: claim.Namespace, Claim: claim.Name, Class: class.Name, Driver: class.Driver, Labels: labels,
	}, false, nil
}

// nameAgain returns a name that begins readably and is always the same for what it is made for: a plugin that Velero starts again finds what it has made before.
func nameAgain(begin, madeFor string) string {
	const longest = 207 // of 253
	sum := sha256.Sum256([]byte(madeFor))
	return fmt.Sprintf("%.*s-%x", longest, begin, sum[:5])
}

// claimsToCut returns the claims of an ItemBlock that have not been snapshotted, and one of its own.
func (r *Run) claimsToCut(b *block, id kubevirt.ID) []kubevirt.ID {
	r.mu.Lock()
	defer r.mu.Unlock()
	claims := []kubevirt.ID{id}
	for member := range b.members {
		if _, done := b.cuts[member]; !done && member.GroupResource == kubevirt.PersistentVolumeClaims && member != id {
			claims = append(claims, member)
		}
	}
	return claims
}

// recordCuts records what came of the snapshots.
func (r *Run) recordCuts(b *block, results []snapshot.Result) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, result := range results {
		id := result.ClaimID()
		b.cuts[id] = result
		if result.Err != nil {
			continue
		}
		cut := r.recordCut(id, result.At) // whoever watches may have seen it before, and thawed the guests
		c := r.claims[id]
		c.snapshotted = cut
		r.claims[id] = c
	}
}

// logCut writes one line for the snapshots of an ItemBlock.
func (r *Run) logCut(b *block, results []snapshot.Result, took time.Duration) {
	var claims, failed []string
	for _, result := range results {
		claims = append(claims, result.Namespace+"/"+result.Claim)
		if result.Err != nil {
			failed = append(failed, result.Namespace+"/"+result.Claim)
		}
	}
	slices.Sort(claims)
	log := r.logOf(b).WithFields(logrus.Fields{"claims": strings.Join(claims, ", "), "storage": took.Round(time.Millisecond).String()})
	if len(failed) > 0 {
		log = log.WithField("failed", strings.Join(failed, ", "))
	}
	log.Info("the disks were snapshotted at once")
}

// markSnapshotted writes into a claim what Velero's own actions look for, to back up and restore its VolumeSnapshot (Velero 1.18.1,
// pkg/backup/actions/csi/pvc_action.go, Execute). A driver may make a larger volume than was asked for, and its snapshot needs one as large.
func markSnapshotted(obj map[string]any, result *snapshot.Result, backup *velerov1.Backup) error {
	for key, value := range map[string]string{velerov1.VolumeSnapshotLabel: result.Name, velerov1.BackupNameLabel: backup.Name} {
		if _, err := object.SetLabel(obj, key, value); err != nil {
			return err
		}
	}
	for key, value := range map[string]string{velerov1.VolumeSnapshotLabel: result.Name, velerov1.MustIncludeAdditionalItemAnnotation: "true"} {
		if _, err := object.SetAnnotation(obj, key, value); err != nil {
			return err
		}
	}
	if boolptr.IsSetToTrue(backup.Spec.SnapshotMoveData) {
		return nil
	}
	text, err := object.String(obj, "spec.resources.requests.storage")
	if err != nil || text == "" {
		return err
	}
	requested, err := resource.ParseQuantity(text)
	if size := resource.NewQuantity(result.RestoreSize, resource.BinarySI); err == nil && requested.Cmp(*size) < 0 {
		return unstructured.SetNestedField(obj, size.String(), "spec", "resources", "requests", "storage")
	}
	return err
}
