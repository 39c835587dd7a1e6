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
	"github.com/vmware-tanzu/velero/pkg/plugin/utils/volumehelper"
	"github.com/vmware-tanzu/velero/pkg/util/boolptr"
	"github.com/vmware-tanzu/velero/pkg/util/csi"
	velerovolumehelper "github.com/vmware-tanzu/velero/pkg/util/volumehelper"
	corev1 "k8s.io/api/core/v1"
	storagev1 "k8s.io/api/storage/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"velero-plugin-for-kubevirt/pkg/kubevirt"
	"velero-plugin-for-kubevirt/pkg/object"
	"velero-plugin-for-kubevirt/pkg/snapshot"
)

// Storage is where snapshots are taken.
type Storage interface {
	snapshot.Cluster
	// Client returns a client for Velero's own functions.
	Client() (client.Client, error)
}

// A policy tells which claims the plugin is asked to snapshot. Its zero value asks for none.
type policy struct {
	client  client.Client
	volumes velerovolumehelper.VolumeHelper
}

// policyOf reads the resource policy of a backup, which Velero has validated.
func (r *Run) policyOf(backup *velerov1.Backup) (policy, error) {
	if backup.Spec.ResourcePolicy == nil || !takesSnapshots(backup) {
		return policy{}, nil
	}
	c, err := r.storage.Client()
	if err != nil {
		return policy{}, err
	}
	volumes, err := volumehelper.NewVolumeHelperWithCache(*backup, c, silent, nil)
	if err != nil {
		return policy{}, fmt.Errorf("reading the resource policy of Backup %s/%s: %w", backup.Namespace, backup.Name, err)
	}
	return policy{client: c, volumes: volumes}, nil
}

// asksFor tells whether the plugin is to snapshot a claim.
func (p policy) asksFor(claim map[string]any) (bool, error) {
	if p.volumes == nil {
		return false, nil
	}
	return p.volumes.ShouldPerformCustomAction(&unstructured.Unstructured{Object: claim}, kubevirt.PersistentVolumeClaims, map[string]any{"snapshotter": kubevirt.Snapshotter})
}

// snapshotClaim takes the snapshot of a claim, together with those of all other claims of its ItemBlock, if the backup's policy asks for it. It returns what
// is to be backed up with the claim.
func (r *Run) snapshotClaim(ctx context.Context, id kubevirt.ID, obj map[string]any, backup *velerov1.Backup, scope *scope) ([]kubevirt.ID, error) {
	if id.GroupResource != kubevirt.PersistentVolumeClaims || isFinalizing(backup) {
		return nil, nil
	}
	asked, err := scope.policy.asksFor(obj)
	if err != nil || !asked {
		return nil, err
	}
	if boolptr.IsSetToTrue(backup.Spec.SnapshotMoveData) {
		return nil, object.Failed(obj, "snapshotting", errors.New("the volume policy gives it to the snapshotter kubevirt, which does not move data: leave out the policy or --snapshot-move-data"))
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
	if result.Err != nil {
		return nil, result.Err
	}
	return []kubevirt.ID{result.ID()}, markSnapshotted(obj, result, backup)
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

// cut takes the snapshots of all claims of an ItemBlock that have none. The guests are thawed when no other disk is left to Velero; at the first trouble, and
// when they have been frozen for as long as they may, they are thawed at once, and the snapshots go on.
func (r *Run) cut(ctx context.Context, b *block, id kubevirt.ID, backup *velerov1.Backup, scope *scope) {
	began := time.Now()
	thaw := sync.OnceValue(func() time.Time {
		if err := b.window.Thaw(ctx, began); err != nil {
			r.log.WithError(err).Warn("a guest could not be thawed now; Velero's hooks thaw it after the ItemBlock")
		}
		return time.Now()
	})
	limit := time.AfterFunc(b.window.MaxFreeze(), func() { thaw() })
	defer limit.Stop()
	requests, failed, complete := r.requestsFor(ctx, b, id, backup, scope)
	timeout, cancel := context.WithTimeout(ctx, backup.Spec.CSISnapshotTimeout.Duration)
	defer cancel()
	var trouble atomic.Bool
	trouble.Store(len(failed) > 0)
	results := append(snapshot.Take(timeout, r.storage, requests, func(error) { trouble.Store(true); thaw() }), failed...)
	took := time.Since(began)
	var thawed time.Time
	if complete || trouble.Load() || !limit.Stop() {
		thawed = thaw()
	}
	r.recordCuts(b, results, thawed)
	r.logCut(results, took, thawed.Sub(began))
}

// requestsFor returns what has to be snapshotted with a claim, what cannot be, and whether no other claim of the ItemBlock is left to Velero. The guests are
// frozen meanwhile: all claims are looked at at once.
func (r *Run) requestsFor(ctx context.Context, b *block, id kubevirt.ID, backup *velerov1.Backup, scope *scope) (requests []snapshot.Request, failed []snapshot.Result, complete bool) {
	claims := slices.DeleteFunc(r.claimsToCut(b, id), func(claim kubevirt.ID) bool { return claim != id && !scope.admits(claim) })
	type answer struct {
		request *snapshot.Request
		left    bool
		err     error
	}
	answers := make([]answer, len(claims))
	var all sync.WaitGroup
	for n, claim := range claims {
		all.Go(func() {
			a := &answers[n]
			a.request, a.left, a.err = r.requestFor(ctx, claim, backup, scope)
		})
	}
	all.Wait()
	complete = true
	for n, a := range answers {
		switch {
		case a.err != nil:
			failed = append(failed, snapshot.Result{Request: snapshot.Request{Namespace: claims[n].Namespace, Claim: claims[n].Name}, Err: a.err})
		case a.left:
			complete = false
		case a.request != nil:
			requests = append(requests, *a.request)
		}
	}
	return requests, failed, complete
}

// requestFor returns the snapshot that is to be taken of a claim, with the class and labels that Velero would give it (Velero 1.18.1,
// pkg/backup/actions/csi/pvc_action.go, createVolumeSnapshot); nil when the plugin takes none, and whether it is left to Velero.
func (r *Run) requestFor(ctx context.Context, id kubevirt.ID, backup *velerov1.Backup, scope *scope) (request *snapshot.Request, left bool, err error) {
	obj, err := r.reader.Now(ctx, id)
	if err != nil || obj == nil || object.Label(obj, velerov1.ExcludeFromBackupLabel) == "true" {
		return nil, false, err
	}
	if asked, err := scope.policy.asksFor(obj); err != nil || !asked {
		return nil, true, err
	}
	claim, err := as[corev1.PersistentVolumeClaim](obj)
	if err != nil {
		return nil, false, err
	}
	if claim.Spec.StorageClassName == nil {
		return nil, false, object.Failed(obj, "snapshotting", errors.New("it has no storage class, which names the CSI driver"))
	}
	storageClass := &storagev1.StorageClass{}
	if err := scope.policy.client.Get(ctx, client.ObjectKey{Name: *claim.Spec.StorageClassName}, storageClass); err != nil {
		return nil, false, object.Failed(obj, "finding the storage class of", err)
	}
	class, err := csi.GetVolumeSnapshotClass(storageClass.Provisioner, backup, claim, silent, scope.policy.client)
	if err != nil {
		return nil, false, object.Failed(obj, "finding the VolumeSnapshotClass of", err)
	}
	labels := map[string]string{velerov1.BackupUIDLabel: string(backup.UID)}
	maps.Copy(labels, claim.Labels)
	labels[velerov1.BackupNameLabel] = label.GetValidName(backup.Name)
	return &snapshot.Request{
		Name: snapshotName(backup, claim), Namespace: claim.Namespace, Claim: claim.Name, Class: class.Name, Labels: labels,
	}, false, nil
}

// snapshotName is the same for a claim in one backup: a plugin that Velero starts again finds what it has made before.
func snapshotName(backup *velerov1.Backup, claim *corev1.PersistentVolumeClaim) string {
	const longest = 200 // of 253
	sum := sha256.Sum256([]byte(string(backup.UID) + "/" + string(claim.UID)))
	return fmt.Sprintf("velero-%.*s-%x", longest, claim.Name, sum[:5])
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

// recordCuts records what came of the snapshots. One that was cut when the guests had been thawed is none of the frozen guest.
func (r *Run) recordCuts(b *block, results []snapshot.Result, thawed time.Time) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, result := range results {
		id := kubevirt.ID{GroupResource: kubevirt.PersistentVolumeClaims, Namespace: result.Namespace, Name: result.Claim}
		b.cuts[id] = result
		if result.Err != nil {
			continue
		}
		c := r.claims[id]
		c.snapshot, c.snapshotted = result.ID(), result.At
		c.late = !thawed.IsZero() && result.At.After(thawed)
		r.claims[id] = c
		b.window.RecordSnapshot(c.snapshot, result.At)
	}
}

// logCut writes one line for the snapshots of an ItemBlock.
func (r *Run) logCut(results []snapshot.Result, took, frozen time.Duration) {
	var claims, failed []string
	for _, result := range results {
		claims = append(claims, result.Namespace+"/"+result.Claim)
		if result.Err != nil {
			failed = append(failed, result.Namespace+"/"+result.Claim)
		}
	}
	slices.Sort(claims)
	log := r.log.WithFields(logrus.Fields{"claims": strings.Join(claims, ", "), "storage": took.Round(time.Millisecond).String()})
	if frozen > 0 {
		log = log.WithField("frozen", frozen.Round(time.Millisecond).String())
	}
	if len(failed) > 0 {
		log = log.WithField("failed", strings.Join(failed, ", "))
	}
	log.Info("the disks were snapshotted at once")
}

// markSnapshotted writes into a claim what Velero's own actions look for, to back up and restore its VolumeSnapshot (Velero 1.18.1,
// pkg/backup/actions/csi/pvc_action.go, Execute). A driver may make a larger volume than was asked for, and its snapshot needs one as large.
func markSnapshotted(obj map[string]any, result snapshot.Result, backup *velerov1.Backup) error {
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
