package actions

import (
	"maps"
	"slices"
	"sync"
	"time"

	corev1 "k8s.io/api/core/v1"
	virtv1 "kubevirt.io/api/core/v1"

	"velero-plugin-for-kubevirt/pkg/consistency"
	"velero-plugin-for-kubevirt/pkg/graph"
	"velero-plugin-for-kubevirt/pkg/kubevirt"
)

// A Witness remembers which calls Velero made in one backup. What it has not seen did not happen: a plugin process that
// Velero had to start again has forgotten everything, and claims nothing.
type Witness struct {
	mu        sync.Mutex
	asked     map[kubevirt.ID]bool          // the members of ItemBlocks
	related   map[kubevirt.ID][]kubevirt.ID // what is in one ItemBlock with a member
	instances map[kubevirt.ID]*seenInstance
	snapshots map[kubevirt.ID]seenSnapshot // by PVC
	brought   map[kubevirt.ID][]bringing   // by PVC
	files     map[kubevirt.ID]bool         // by PVC: whether Velero copies its files from a pod
	met       map[kubevirt.ID]meeting
	entered   map[string]bool // namespaces

	needOnce sync.Once
	need     need
}

// A seenInstance is a VirtualMachineInstance of which launcher pods joined an ItemBlock, as it was then.
type seenInstance struct {
	vmi       *virtv1.VirtualMachineInstance
	agent     *virtv1.VirtualMachineInstanceGuestAgentInfo
	question  *question // nil when it cannot be frozen
	unseen    error
	joined    time.Time
	launchers []*corev1.Pod
}

// A seenSnapshot is one that Velero had taken when it called the backup action for its PVC.
type seenSnapshot struct {
	name  string
	group string // of volumes that Velero snapshots together; empty for a PVC of its own
	at    time.Time
}

// A bringing is that an item brought a PVC into the backup. Velero backs the PVC up at once, in that item's ItemBlock.
type bringing struct {
	by kubevirt.ID
	at time.Time
}

// NewWitness returns one that has seen nothing.
func NewWitness() *Witness {
	return &Witness{asked: map[kubevirt.ID]bool{}, related: map[kubevirt.ID][]kubevirt.ID{}, instances: map[kubevirt.ID]*seenInstance{}, snapshots: map[kubevirt.ID]seenSnapshot{}, brought: map[kubevirt.ID][]bringing{}, files: map[kubevirt.ID]bool{}, met: map[kubevirt.ID]meeting{}, entered: map[string]bool{}}
}

// isAsked notes that an item is in an ItemBlock.
func (w *Witness) isAsked(id kubevirt.ID) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.asked[id] = true
}

// relates notes what is in one ItemBlock with an item.
func (w *Witness) relates(item kubevirt.ID, members []kubevirt.ID) {
	w.mu.Lock()
	defer w.mu.Unlock()
	for _, member := range members {
		w.related[item] = append(w.related[item], member)
		w.related[member] = append(w.related[member], item)
	}
}

// block returns the ItemBlock of an item.
func (w *Witness) block(item kubevirt.ID) map[kubevirt.ID]bool {
	members := map[kubevirt.ID]bool{item: true}
	for next := []kubevirt.ID{item}; len(next) > 0; next = next[1:] {
		for _, member := range w.related[next[0]] {
			if !members[member] {
				members[member] = true
				next = append(next, member)
			}
		}
	}
	return members
}

// enters notes that an item of a namespace is in an ItemBlock. It tells whether it is the first.
func (w *Witness) enters(namespace string) bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	entered := w.entered[namespace]
	w.entered[namespace] = true
	return !entered
}

// A meeting is a VM or VMI as Velero showed it when it put it into an ItemBlock.
type meeting struct {
	obj        map[string]any
	neighbours []graph.Neighbour
	related    []kubevirt.ID // what came into the ItemBlock with it
}

// meets notes a VM or VMI, which Velero shows up to three times: what it refers to is found once.
func (w *Witness) meets(id kubevirt.ID, met meeting) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.met[id] = met
}

// shown returns a VM or VMI that was met; an empty meeting when it was not. Callers must not change it.
func (w *Witness) shown(id kubevirt.ID) meeting {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.met[id]
}

// forgets drops what was met of a VM and its instance after the last action for them: the process serves thousands.
func (w *Witness) forgets(ids ...kubevirt.ID) {
	w.mu.Lock()
	defer w.mu.Unlock()
	for _, id := range ids {
		delete(w.met, id)
	}
}

// joins notes that a launcher pod joins an ItemBlock. It tells whether it is the first of its instance.
func (w *Witness) joins(instance kubevirt.ID, pod *corev1.Pod) bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	seen, known := w.instances[instance]
	if !known {
		seen = &seenInstance{joined: time.Now()}
		w.instances[instance] = seen
	}
	seen.launchers = append(seen.launchers, pod)
	return !known
}

// copies notes which PVCs Velero copies the files of.
func (w *Witness) copies(files map[kubevirt.ID]bool) {
	w.mu.Lock()
	defer w.mu.Unlock()
	maps.Copy(w.files, files)
}

// looksLike notes what an instance was before the hooks.
func (w *Witness) looksLike(instance kubevirt.ID, vmi *virtv1.VirtualMachineInstance, agent *virtv1.VirtualMachineInstanceGuestAgentInfo, q *question, unseen error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	seen := w.instances[instance]
	seen.vmi, seen.agent, seen.question, seen.unseen = vmi, agent, q, unseen
}

// hasSnapshot notes that Velero has taken a snapshot of a PVC for which it calls the backup action now.
func (w *Witness) hasSnapshot(pvc kubevirt.ID, name, group string) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.snapshots[pvc] = seenSnapshot{name: name, group: group, at: time.Now()}
}

// takenWith returns the first PVC of a volume group that Velero backed up: it then took the snapshots of the whole group
// (Velero 1.18.1, pkg/backup/actions/csi/pvc_action.go, getVolumeSnapshotReference). Without a group it is the PVC itself.
func (w *Witness) takenWith(claim kubevirt.ID) kubevirt.ID {
	first := claim
	if w.snapshots[claim].group == "" {
		return first
	}
	for other, snapshot := range w.snapshots {
		same := other.Namespace == claim.Namespace && snapshot.group == w.snapshots[claim].group
		if same && snapshot.at.Before(w.snapshots[first].at) {
			first = other
		}
	}
	return first
}

// brings notes what an item brings into the backup.
func (w *Witness) brings(item kubevirt.ID, wanted []kubevirt.ID) {
	w.mu.Lock()
	defer w.mu.Unlock()
	for _, id := range wanted {
		if id.GroupResource == kubevirt.PersistentVolumeClaims {
			w.brought[id] = append(w.brought[id], bringing{by: item, at: time.Now()})
		}
	}
}

func idOf(pod *corev1.Pod) kubevirt.ID {
	return kubevirt.ID{GroupResource: kubevirt.Pods, Namespace: pod.Namespace, Name: pod.Name}
}

// An account is what was seen of one VM.
type account struct {
	asked     bool // whether it is in an ItemBlock
	before    *virtv1.VirtualMachineInstance
	agent     *virtv1.VirtualMachineInstanceGuestAgentInfo
	question  *question
	unseen    error
	joined    time.Time
	launchers []*corev1.Pod
	disks     []consistency.Disk
	first     kubevirt.ID // VolumeSnapshot of the ItemBlock; empty when there was none
}

// firstSnapshot returns the first that was taken in the ItemBlock of an item, whose guests were all frozen before.
func (w *Witness) firstSnapshot(item kubevirt.ID) kubevirt.ID {
	var first kubevirt.ID
	var at time.Time
	for member := range w.block(item) {
		if snapshot, taken := w.snapshots[member]; taken && (first.Name == "" || snapshot.at.Before(at)) {
			first, at = kubevirt.ID{GroupResource: kubevirt.VolumeSnapshots, Namespace: member.Namespace, Name: snapshot.name}, snapshot.at
		}
	}
	return first
}

// account tells what was seen of an instance and its claims.
func (w *Witness) account(machine, instance kubevirt.ID, claims []kubevirt.ID) account {
	w.mu.Lock()
	defer w.mu.Unlock()
	var a account
	if seen := w.instances[instance]; seen != nil {
		a = account{before: seen.vmi, agent: seen.agent, question: seen.question, unseen: seen.unseen, joined: seen.joined, launchers: slices.Clone(seen.launchers)}
	}
	a.asked = w.asked[machine]
	a.first = w.firstSnapshot(machine)
	for _, claim := range claims {
		_, taken := w.snapshots[claim]
		with := w.takenWith(claim)
		snapshot := w.snapshots[with]
		disk := consistency.Disk{Name: claim.Name, Snapshotted: taken, Files: !taken && w.files[claim], Outside: snapshot.at.Before(a.joined)}
		for _, brought := range w.brought[with] {
			// What the plugin was asked for is in one ItemBlock with its disks; the rest may have been in another.
			disk.Outside = disk.Outside || (!w.asked[brought.by] && brought.at.Before(snapshot.at))
		}
		a.disks = append(a.disks, disk)
	}
	return a
}
