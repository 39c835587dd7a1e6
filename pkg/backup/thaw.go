package backup

import (
	"context"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/sirupsen/logrus"
	velerov1 "github.com/vmware-tanzu/velero/pkg/apis/velero/v1"
	"github.com/vmware-tanzu/velero/pkg/label"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	virtv1 "kubevirt.io/api/core/v1"

	"velero-plugin-for-kubevirt/pkg/graph"
	"velero-plugin-for-kubevirt/pkg/kubevirt"
	"velero-plugin-for-kubevirt/pkg/options"
	"velero-plugin-for-kubevirt/pkg/snapshot"
)

// How long a guest stays frozen at most unless somebody asks for something else. Windows holds its writers for 10 s (VSS), and what it gives up by itself
// cannot be seen.
const (
	maxFreeze        = 60 * time.Second
	maxFreezeWindows = 8 * time.Second
)

// begin records that a disk of an ItemBlock is about to be cut: from then on its guests are thawed when they have been frozen for as long as they may.
func (r *Run) begin(b *block, at time.Time, backup *velerov1.Backup, scope *scope) {
	b.window.Begin(at, func(instance kubevirt.ID, windows bool) time.Duration {
		return r.maxFreezeOf(instance, windows, backup, scope)
	})
}

// maxFreezeOf returns how long a guest may be frozen: what its VM says counts first, then the Backup, then the ConfigMap.
func (r *Run) maxFreezeOf(instance kubevirt.ID, windows bool, backup *velerov1.Backup, scope *scope) time.Duration {
	vm := instance
	vm.GroupResource = kubevirt.VirtualMachines
	limit, err := maxFreezeFor(r.inBlock(vm).obj, windows, backup, scope)
	if err != nil {
		r.log.WithField("item", vm.String()).WithError(err).Errorf("how long the guest may be frozen is not understood; it is %s", limit)
	}
	return limit
}

// maxFreezeFor returns how long the guest of a VM may be frozen; with an error, how long if nobody asks for anything.
func maxFreezeFor(vm map[string]any, windows bool, backup *velerov1.Backup, scope *scope) (time.Duration, error) {
	byDefault := maxFreeze
	if windows {
		byDefault = maxFreezeWindows
	}
	limit, err := options.MaxFreeze.Duration(byDefault, options.OfVM(vm), sourceOf(backup), scope.config)
	if err != nil {
		return byDefault, err
	}
	return limit, nil
}

// sourceOf returns what is asked for on a Backup.
func sourceOf(backup *velerov1.Backup) options.Source {
	return options.Source{Place: options.OnBackup, Name: backup.Namespace + "/" + backup.Name, Labels: backup.Labels, Annotations: backup.Annotations}
}

// watch returns the watch of the VolumeSnapshots that are made for the backup in a namespace, by Velero or by the plugin. It begins before the guests are frozen.
func (r *Run) watch(namespace string, backup *velerov1.Backup, scope *scope) *snapshot.Watch {
	r.mu.Lock()
	defer r.mu.Unlock()
	w := r.watches[namespace]
	if w == nil {
		made := graph.Query{GroupResource: kubevirt.VolumeSnapshots, Namespace: namespace, Labels: velerov1.BackupNameLabel + "=" + label.GetValidName(backup.Name)}
		w = snapshot.NewWatch(context.Background(), r.storage, made, func(obj map[string]any) { r.sawSnapshot(obj, backup, scope) })
		r.watches[namespace] = w
	}
	return w
}

// sawSnapshot learns of a VolumeSnapshot that was made or changed. When Velero makes the first of an ItemBlock, it has frozen the guests; when the last is cut,
// they are thawed. Velero itself would look 5 s later (Velero 1.18.1, pkg/util/csi/volume_snapshot.go, WaitUntilVSCHandleIsReady).
func (r *Run) sawSnapshot(obj map[string]any, backup *velerov1.Backup, scope *scope) {
	now, made := time.Now(), (&unstructured.Unstructured{Object: obj}).GetCreationTimestamp()
	if made.Before(backup.Status.StartTimestamp) {
		return // an older backup had the same name
	}
	id, err := claimOf(obj)
	if err != nil {
		return
	}
	r.mu.Lock()
	b, brought := r.blocks[id], !r.claims[id].brought.IsZero()
	r.mu.Unlock()
	if b == nil || brought {
		return // it is of no disk of a VM, or the guest need not be frozen yet
	}
	if made.Add(time.Second).Before(b.window.FirstJoined()) {
		return // an item outside of the ItemBlock had brought the claim before the guest was frozen; its time is in whole seconds
	}
	r.begin(b, beganAt(now, made), backup, scope)
	if is, err := snapshot.IsCut(obj); err == nil && is {
		r.mu.Lock()
		r.recordCut(id, now)
		r.mu.Unlock()
	}
	go func() {
		ctx := context.Background()
		r.expect(b, func() cutters { return r.cuttersOf(ctx, b, id, backup, scope) })
		r.thawWhenCut(ctx, b)
	}()
}

// beganAt returns when a VolumeSnapshot was made that is seen now: its own time is in whole seconds, but it may be seen much later, as those of a volume group.
func beganAt(now time.Time, made metav1.Time) time.Time {
	if now.Sub(made.Time) > 2*time.Second {
		return made.Time
	}
	return now
}

// recordCut records when a claim was seen to be cut, whoever did it, and returns when that was seen first. The caller holds the lock.
func (r *Run) recordCut(id kubevirt.ID, at time.Time) time.Time {
	c := r.claims[id]
	if c.cut.IsZero() {
		c.cut = at
		r.claims[id] = c
	}
	return c.cut
}

// expect finds out, once, which claims of an ItemBlock are cut while its guests are frozen. If it cannot be known who cuts one, the guests stay frozen until
// Velero thaws them.
func (r *Run) expect(b *block, find func() cutters) {
	b.planning.Do(func() {
		who := find()
		r.mu.Lock()
		defer r.mu.Unlock()
		b.expected = slices.Clone(who.velero)
		for _, request := range who.requests {
			b.expected = append(b.expected, request.ClaimID())
		}
		for _, failed := range who.failed {
			b.expected = append(b.expected, failed.ClaimID())
		}
	})
}

// thawWhenCut thaws the guests of an ItemBlock when all of its disks are cut.
func (r *Run) thawWhenCut(ctx context.Context, b *block) {
	r.mu.Lock()
	waits := len(b.expected) == 0 || slices.ContainsFunc(b.expected, func(id kubevirt.ID) bool { return r.claims[id].cut.IsZero() })
	r.mu.Unlock()
	if waits {
		return
	}
	b.thawing.Do(func() {
		allFrozen := r.thaw(ctx, b)
		together := allFrozen && r.allJoined(ctx, b)
		r.mu.Lock()
		b.together = together
		r.mu.Unlock()
		r.logOf(b).Debug("the guests are thawed: the last of their disks is cut")
	})
}

// allJoined tells whether no VM of a group in an ItemBlock runs without its guest having been frozen with the others: its launcher pod is not in the backup.
func (r *Run) allJoined(ctx context.Context, b *block) bool {
	r.mu.Lock()
	items := maps.Clone(b.items)
	r.mu.Unlock()
	for id, item := range items {
		instance := instanceOf(id)
		if groupOf(item.obj) == "" || !b.window.Joined(instance).IsZero() {
			continue
		}
		obj, err := r.reader.Get(ctx, instance)
		if err != nil {
			return false
		}
		if obj == nil {
			continue // it does not run
		}
		if vmi, err := as[virtv1.VirtualMachineInstance](obj); err != nil || !vmi.IsFinal() {
			return false
		}
	}
	return true
}

// thaw thaws the guests of an ItemBlock, and tells whether all were frozen until then.
func (r *Run) thaw(ctx context.Context, b *block) bool {
	allFrozen, err := b.window.Thaw(ctx)
	if err != nil {
		r.logOf(b).WithError(err).Warn("a guest could not be thawed now; Velero's hooks thaw it after the ItemBlock")
	}
	return allFrozen
}

// logOf returns a logger for lines about an ItemBlock: its VMs, and how long their guests were frozen, if the plugin has thawed them.
func (r *Run) logOf(b *block) logrus.FieldLogger {
	log := r.log
	var vms []string
	r.mu.Lock()
	for id := range b.items {
		if id.GroupResource == kubevirt.VirtualMachines {
			vms = append(vms, id.Namespace+"/"+id.Name)
		}
	}
	r.mu.Unlock()
	if slices.Sort(vms); len(vms) > 0 {
		log = log.WithField("vms", strings.Join(vms, ", "))
	}
	if frozen := b.window.Frozen(); frozen > 0 {
		log = log.WithField("frozen", frozen.Round(time.Millisecond).String())
	}
	return log
}
