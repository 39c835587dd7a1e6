package backup

import (
	"context"
	"maps"
	"slices"
	"sync"

	velerov1 "github.com/vmware-tanzu/velero/pkg/apis/velero/v1"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"

	"velero-plugin-for-kubevirt/pkg/freeze"
	"velero-plugin-for-kubevirt/pkg/graph"
	"velero-plugin-for-kubevirt/pkg/kubevirt"
	"velero-plugin-for-kubevirt/pkg/object"
	"velero-plugin-for-kubevirt/pkg/snapshot"
)

// memberKinds are the kinds that make up a VM's ItemBlock: its pods, whose hooks freeze and thaw the guest, and all that must be snapshotted in
// between.
var memberKinds = []schema.GroupResource{
	kubevirt.VirtualMachines,
	kubevirt.VirtualMachineInstances,
	kubevirt.Pods,
	kubevirt.PersistentVolumeClaims,
	kubevirt.DataVolumes,
}

// A block is one ItemBlock, from Velero's first question about a member to its last call for a VM, VMI or DataVolume in it.
type block struct {
	window  *freeze.Window
	members map[kubevirt.ID]bool      // whether Velero has asked what is related to it: then it is in the ItemBlock, and not only named by a member
	items   map[kubevirt.ID]blockItem // VMs and VMIs, which Velero shows up to three times: what they refer to is found once
	pending map[kubevirt.ID]bool      // members whose last call has not come

	cutting  sync.Mutex                      // held while the plugin takes snapshots
	cuts     map[kubevirt.ID]snapshot.Result // what came of them, by claim
	planning sync.Once                       // finds out what is expected
	expected []kubevirt.ID                   // claims that are cut while the guests are frozen
	thawing  sync.Once                       // the guests, when all of them are cut
	together bool                            // all guests were frozen then
}

// A blockItem is an object as Velero showed it when it put it into an ItemBlock. It must not be changed.
type blockItem struct {
	obj        map[string]any
	neighbours []graph.Neighbour
	related    []kubevirt.ID // what came into the ItemBlock with it
}

// RelatedItems returns what has to be in one ItemBlock with an item. Velero asks the same about each of them (Velero 1.18.1, pkg/backup/backup.go,
// executeItemBlockActions), and runs the hooks of the ItemBlock's pods only when it has asked about all.
func (r *Run) RelatedItems(ctx context.Context, id kubevirt.ID, obj map[string]any, backup *velerov1.Backup) ([]kubevirt.ID, error) {
	scope, err := r.scope(backup)
	if err != nil {
		return nil, err
	}
	r.readLists(id.Namespace, graph.Query{GroupResource: kubevirt.VirtualMachines, Namespace: id.Namespace})
	b := r.enterBlock(id, obj)
	if id.GroupResource == kubevirt.Pods {
		if err := r.joinPod(ctx, b, obj, backup, scope); err != nil {
			return nil, object.Failed(obj, "finding the ItemBlock of", err)
		}
	}
	neighbours, err := graph.Neighbours(ctx, id.GroupResource, obj, r.reader)
	if err != nil {
		return nil, object.Failed(obj, "finding the ItemBlock of", err)
	}
	members, err := r.group(ctx, id, obj, scope)
	if err != nil {
		return nil, object.Failed(obj, "finding the VMs that are frozen together with", err)
	}
	related := slices.Clone(members)
	for _, neighbour := range neighbours {
		switch {
		case neighbour.Absent:
		case slices.Contains(memberKinds, neighbour.GroupResource):
			members = append(members, neighbour.ID)
			related = append(related, neighbour.ID)
		case bringsSecrets(id) && neighbour.Namespace != "" && scope.admits(neighbour.ID):
			// Velero asks the API server for each additional item that is not in the block, also when it has it already (Velero 1.18.1,
			// pkg/backup/item_backupper.go, executeActions). These are no members: VMs that share one are not in one ItemBlock.
			related = append(related, neighbour.ID)
		}
	}
	r.addMembers(id, members, blockItem{obj: obj, neighbours: neighbours, related: related})
	return related, nil
}

// bringsSecrets tells whether secrets, config maps and the like come into the ItemBlock with an item.
func bringsSecrets(id kubevirt.ID) bool {
	return getsVerdict(id) || id.GroupResource == kubevirt.DataVolumes
}

// enterBlock records that Velero has put an item into an ItemBlock: the one that has named it, or a new one.
func (r *Run) enterBlock(id kubevirt.ID, obj map[string]any) *block {
	r.mu.Lock()
	defer r.mu.Unlock()
	b := r.blocks[id]
	if b == nil {
		b = &block{
			window:  freeze.Open(r.reader),
			members: map[kubevirt.ID]bool{}, items: map[kubevirt.ID]blockItem{}, pending: map[kubevirt.ID]bool{}, cuts: map[kubevirt.ID]snapshot.Result{},
		}
		r.blocks[id] = b
	}
	b.members[id] = true
	if getsVerdict(id) || id.GroupResource == kubevirt.DataVolumes && object.Label(obj, kubevirt.CreatedByLabel) == "" {
		b.pending[id] = true
	}
	return b
}

// addMembers records what an item has named. An ItemBlock of which something was in another one before is the same.
func (r *Run) addMembers(id kubevirt.ID, members []kubevirt.ID, item blockItem) {
	r.mu.Lock()
	defer r.mu.Unlock()
	b := r.blocks[id]
	if getsVerdict(id) {
		b.items[id] = item
	}
	for _, member := range members {
		switch other := r.blocks[member]; other {
		case b:
		case nil:
			b.members[member] = false
			r.blocks[member] = b
		default:
			b.absorb(other)
			for of := range other.members {
				r.blocks[of] = b
			}
		}
	}
}

func (b *block) absorb(other *block) {
	b.window.Absorb(other.window)
	maps.Copy(b.members, other.members)
	maps.Copy(b.items, other.items)
	maps.Copy(b.pending, other.pending)
	maps.Copy(b.cuts, other.cuts)
}

// inBlock returns a VM or VMI as Velero showed it when it put it into an ItemBlock; an empty one when it did not.
func (r *Run) inBlock(id kubevirt.ID) blockItem {
	r.mu.Lock()
	defer r.mu.Unlock()
	if b := r.blocks[id]; b != nil {
		return b.items[id]
	}
	return blockItem{}
}

// finish records the last call for a member. An ItemBlock that waits for none is forgotten: the process serves thousands.
func (r *Run) finish(id kubevirt.ID) {
	r.mu.Lock()
	defer r.mu.Unlock()
	b := r.blocks[id]
	if b == nil {
		return
	}
	if delete(b.pending, id); len(b.pending) > 0 {
		return
	}
	for member := range b.members {
		delete(r.blocks, member)
	}
	b.window.Close()
}

// joinPod records what Velero does with the disks of a running pod, and lets a launcher join the window.
func (r *Run) joinPod(ctx context.Context, b *block, obj map[string]any, backup *velerov1.Backup, scope *scope) error {
	pod, err := as[corev1.Pod](obj)
	if err != nil || pod.Status.Phase != corev1.PodRunning {
		return err // nil: its guest has ended
	}
	r.recordFiles(scope.copiesFiles(pod))
	owner := object.Owner(obj)
	if owner == nil || owner.Kind != "VirtualMachineInstance" || !scope.snapshots {
		return nil // it holds hotplugged disks and has no guest, or there is nothing to freeze it for
	}
	r.watch(pod.Namespace, backup, scope)
	b.window.Join(ctx, kubevirt.ID{GroupResource: kubevirt.VirtualMachineInstances, Namespace: pod.Namespace, Name: owner.Name}, pod)
	return nil
}
