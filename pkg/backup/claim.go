package backup

import (
	"context"
	"slices"
	"time"

	velerov1 "github.com/vmware-tanzu/velero/pkg/apis/velero/v1"
	"github.com/vmware-tanzu/velero/pkg/label"
	"github.com/vmware-tanzu/velero/pkg/util/boolptr"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"

	"velero-plugin-for-kubevirt/pkg/consistency"
	"velero-plugin-for-kubevirt/pkg/graph"
	"velero-plugin-for-kubevirt/pkg/kubevirt"
	"velero-plugin-for-kubevirt/pkg/object"
	"velero-plugin-for-kubevirt/pkg/rules"
)

// A claim is what was seen of a PersistentVolumeClaim in this backup.
type claim struct {
	cut         time.Time // when its VolumeSnapshot was seen to be cut; zero when it was not
	snapshotted time.Time // the same, or when Velero called the plugin for the claim and had taken its VolumeSnapshot; zero when it took none
	stored      bool      // whether the backup has what a restore fills the claim from: its VolumeSnapshot, or the order to a data mover
	group       string    // of the volumes that Velero snapshots together; empty for a claim of its own
	files       bool      // whether Velero copies the files from a running pod
	brought     time.Time // when an item that the plugin knows in no ItemBlock first named the claim as an additional item
}

// recordSnapshot records the VolumeSnapshot that Velero's CSI action has just taken of a claim. A restored claim may carry the name of an older one
// (Velero 1.18.1, pkg/backup/actions/csi/pvc_action.go).
func (r *Run) recordSnapshot(ctx context.Context, id kubevirt.ID, obj map[string]any, backup *velerov1.Backup, scope *scope) {
	name := object.Annotation(obj, velerov1.VolumeSnapshotLabel)
	if name == "" || object.Label(obj, velerov1.BackupNameLabel) != backup.Name {
		return
	}
	r.mu.Lock()
	c := r.claims[id]
	c.snapshotted, c.group = time.Now(), object.Label(obj, backup.Spec.VolumeGroupSnapshotLabelKey)
	c.stored = c.stored || boolptr.IsSetToTrue(backup.Spec.SnapshotMoveData) // Velero's action has given the order
	if !c.cut.IsZero() {
		c.snapshotted = c.cut
	}
	r.claims[id] = c
	b := r.blocks[id]
	r.mu.Unlock()
	if b != nil && !b.window.HasBegun() {
		r.begin(b, r.madeAt(ctx, kubevirt.ID{GroupResource: kubevirt.VolumeSnapshots, Namespace: id.Namespace, Name: name}), backup, scope)
	}
}

// recordStored records that the VolumeSnapshot which this backup has of a claim is in it. Velero calls the plugin for one when its own action has done its part,
// and not at all when that has failed: then the backup lacks the claim, too (Velero 1.18.1, pkg/backup/item_backupper.go, executeActions).
func (r *Run) recordStored(snapshot map[string]any, backup *velerov1.Backup) error {
	id, err := claimOf(snapshot)
	if err != nil || id.Name == "" || object.Label(snapshot, velerov1.BackupNameLabel) != label.GetValidName(backup.Name) {
		return err
	}
	r.setStored(id)
	return nil
}

func (r *Run) setStored(id kubevirt.ID) {
	r.mu.Lock()
	defer r.mu.Unlock()
	c := r.claims[id]
	c.stored = true
	r.claims[id] = c
}

// madeAt returns when a VolumeSnapshot was made that nobody has watched. Without it – a data mover removes it when it has the data – it is now.
func (r *Run) madeAt(ctx context.Context, id kubevirt.ID) time.Time {
	made, err := r.reader.Now(ctx, id)
	if err != nil || made == nil {
		return time.Now()
	}
	return (&unstructured.Unstructured{Object: made}).GetCreationTimestamp().Time
}

// recordBrought records the claims that an item brings into the backup. Velero backs them up at once, in that item's ItemBlock: an item that the plugin
// was asked about is in one with its disks, any other may be in another one.
func (r *Run) recordBrought(item kubevirt.ID, additional []kubevirt.ID) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if b := r.blocks[item]; b != nil && b.members[item] {
		return
	}
	for _, id := range additional {
		if c := r.claims[id]; id.GroupResource == kubevirt.PersistentVolumeClaims && c.brought.IsZero() {
			c.brought = time.Now()
			r.claims[id] = c
		}
	}
}

// disks tells how each claim of a VM was backed up, when the VM's first launcher pod joined the ItemBlock and its guest was thawed then: the zero time when the
// plugin has not thawed it.
func (r *Run) disks(claims []kubevirt.ID, joined, thawed time.Time) []consistency.Disk {
	r.mu.Lock()
	defer r.mu.Unlock()
	var disks []consistency.Disk
	for _, id := range claims {
		taken := !r.claims[id].snapshotted.IsZero() && r.claims[id].stored
		first := r.firstOfGroup(id)
		disks = append(disks, consistency.Disk{
			Name: id.Name, Snapshotted: taken, Files: !taken && r.claims[id].files,
			Outside: first.snapshotted.Before(joined) || !first.brought.IsZero() && first.brought.Before(first.snapshotted) ||
				!thawed.IsZero() && first.snapshotted.After(thawed),
		})
	}
	return disks
}

// copiedFrom tells whether Velero copies the files of a claim.
func (r *Run) copiedFrom(id kubevirt.ID) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.claims[id].files
}

// recordFiles records of which claims Velero copies the files.
func (r *Run) recordFiles(copied map[kubevirt.ID]bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for id, files := range copied {
		c := r.claims[id]
		c.files = files
		r.claims[id] = c
	}
}

// firstOfGroup returns the first claim of a volume group that Velero backed up: it then took the snapshots of the whole group (Velero 1.18.1,
// pkg/backup/actions/csi/pvc_action.go, getVolumeSnapshotReference). Without a group it is the claim itself.
func (r *Run) firstOfGroup(id kubevirt.ID) claim {
	first := r.claims[id]
	if first.group == "" {
		return first
	}
	for other, c := range r.claims {
		if other.Namespace == id.Namespace && c.group == first.group && c.snapshotted.Before(first.snapshotted) {
			first = c
		}
	}
	return first
}

// claimsOf returns the claims of a VM and of its instance, which alone may name hotplugged ones.
func (r *Run) claimsOf(ctx context.Context, id kubevirt.ID, obj map[string]any) ([]kubevirt.ID, error) {
	neighbours, _, err := r.ofBoth(ctx, id, obj)
	return claimsIn(neighbours), err
}

// claimsIn returns the claims among neighbours that exist, each once.
func claimsIn(neighbours []graph.Neighbour) []kubevirt.ID {
	var claims []kubevirt.ID
	for _, neighbour := range neighbours {
		if isClaim(neighbour) && !slices.Contains(claims, neighbour.ID) {
			claims = append(claims, neighbour.ID)
		}
	}
	return claims
}

// ofBoth returns what a VM and its instance refer to, and the instance.
func (r *Run) ofBoth(ctx context.Context, id kubevirt.ID, obj map[string]any) ([]graph.Neighbour, map[string]any, error) {
	neighbours, err := r.neighbours(ctx, id, obj, r.inBlock(id))
	if err != nil {
		return nil, nil, err
	}
	instance := instanceOf(id)
	if id == instance {
		return neighbours, obj, nil
	}
	vmi, err := r.instance(ctx, instance, neighbours)
	if err != nil || vmi == nil {
		return neighbours, nil, err
	}
	ofInstance, err := r.neighbours(ctx, instance, vmi, r.inBlock(instance))
	return slices.Concat(neighbours, ofInstance), vmi, err
}

func isClaim(neighbour graph.Neighbour) bool {
	return neighbour.GroupResource == kubevirt.PersistentVolumeClaims && !neighbour.Absent
}

// claimOf returns the claim that a VolumeSnapshot is of. One that is made of a content has no name.
func claimOf(snapshot map[string]any) (kubevirt.ID, error) {
	name, err := object.String(snapshot, "spec.source.persistentVolumeClaimName")
	return kubevirt.ID{GroupResource: kubevirt.PersistentVolumeClaims, Namespace: object.Namespace(snapshot), Name: name}, err
}

// claimUID finds the UID of the claim that a VolumeSnapshot is of.
func (r *Run) claimUID(ctx context.Context, snapshot map[string]any, in *rules.Input) error {
	id, err := claimOf(snapshot)
	if err != nil || id.Name == "" {
		return err
	}
	claim, err := graph.MetadataOf(ctx, r.reader, id)
	if claim != nil {
		in.ClaimUID = string(claim.UID)
	}
	return err
}
