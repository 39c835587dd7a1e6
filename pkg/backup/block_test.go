package backup

import (
	"context"
	"errors"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/sirupsen/logrus"
	logtest "github.com/sirupsen/logrus/hooks/test"
	velerov1 "github.com/vmware-tanzu/velero/pkg/apis/velero/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"

	"velero-plugin-for-kubevirt/pkg/cluster"
	"velero-plugin-for-kubevirt/pkg/graph"
	"velero-plugin-for-kubevirt/pkg/kubevirt"
)

func inShop(resource schema.GroupResource, name string) kubevirt.ID {
	return kubevirt.ID{GroupResource: resource, Namespace: "shop", Name: name}
}

var (
	vm     = inShop(kubevirt.VirtualMachines, "web")
	vmi    = inShop(kubevirt.VirtualMachineInstances, "web")
	volume = inShop(kubevirt.DataVolumes, "root")
	root   = inShop(kubevirt.PersistentVolumeClaims, "root")
)

func testRun(t *testing.T) *Run {
	t.Helper()
	log, _ := logtest.NewNullLogger()
	return NewRun(cluster.Memory{}, servedByTest, &testStorage{}, log)
}

// TestAnItemBlockIsForgottenAfterItsLastCall: the process serves thousands.
func TestAnItemBlockIsForgottenAfterItsLastCall(t *testing.T) {
	for name, c := range map[string]struct {
		members []kubevirt.ID
		labels  map[string]any
		calls   []kubevirt.ID
		left    int
	}{
		"of a VM":                                {members: []kubevirt.ID{vm, vmi}, calls: []kubevirt.ID{vmi, vm}, left: 0},
		"of which one call is to come":           {members: []kubevirt.ID{vm, vmi}, calls: []kubevirt.ID{vmi}, left: 2},
		"with a DataVolume of its own":           {members: []kubevirt.ID{vm, volume}, calls: []kubevirt.ID{vm}, left: 2},
		"with a DataVolume that the VM made":     {members: []kubevirt.ID{vm, volume}, labels: map[string]any{"kubevirt.io/created-by": "uid"}, calls: []kubevirt.ID{vm}, left: 0},
		"of a DataVolume of its own":             {members: []kubevirt.ID{volume}, calls: []kubevirt.ID{volume}, left: 0},
		"with a claim, for which there is none":  {members: []kubevirt.ID{vm, root}, calls: []kubevirt.ID{vm}, left: 0},
		"that is not the one that is called for": {members: []kubevirt.ID{vm}, calls: []kubevirt.ID{inShop(kubevirt.VirtualMachines, "db")}, left: 1},
	} {
		t.Run(name, func(t *testing.T) {
			r := testRun(t)
			first := c.members[0]
			r.enterBlock(first, nil)
			r.addMembers(first, c.members[1:], blockItem{})
			for _, id := range c.members[1:] {
				r.enterBlock(id, map[string]any{"metadata": map[string]any{"labels": c.labels}})
			}
			for _, id := range c.calls {
				r.finish(id)
			}
			if len(r.blocks) != c.left {
				t.Errorf("the run remembers %v", r.blocks)
			}
		})
	}
}

// TestItemBlocksThatMeetAreOne: VMs that share a disk are frozen together.
func TestItemBlocksThatMeetAreOne(t *testing.T) {
	r, other := testRun(t), inShop(kubevirt.VirtualMachines, "db")
	r.enterBlock(vm, nil)
	r.addMembers(vm, []kubevirt.ID{root}, blockItem{})
	r.enterBlock(other, nil)
	r.addMembers(other, []kubevirt.ID{root}, blockItem{related: []kubevirt.ID{root}})
	if r.blocks[vm] != r.blocks[other] || r.blocks[vm] != r.blocks[root] || len(r.inBlock(other).related) != 1 {
		t.Errorf("there are blocks %v", r.blocks)
	}
	r.finish(vm)
	if len(r.blocks) != 3 {
		t.Error("the block is forgotten before the last call")
	}
}

func TestSnapshotsOfThisBackupAreRecorded(t *testing.T) {
	backup := &velerov1.Backup{ObjectMeta: metav1.ObjectMeta{Name: "nightly"}}
	claim := func(of, snapshot string) map[string]any {
		return map[string]any{"metadata": map[string]any{
			"labels": map[string]any{"velero.io/backup-name": of}, "annotations": map[string]any{"velero.io/volume-snapshot-name": snapshot},
		}}
	}
	for name, c := range map[string]struct {
		id   kubevirt.ID
		obj  map[string]any
		want bool
	}{
		"of this backup":     {root, claim("nightly", "snap"), true},
		"of another":         {root, claim("weekly", "snap"), false},
		"without a snapshot": {root, claim("nightly", ""), false},
	} {
		r := testRun(t)
		r.recordSnapshot(t.Context(), c.id, c.obj, backup, &scope{})
		if _, got := r.claims[c.id]; got != c.want || r.claims[c.id].stored {
			t.Errorf("%s: recorded %t, with its snapshot %t", name, got, r.claims[c.id].stored)
		}
	}
	moves, r := true, testRun(t)
	backup.Spec.SnapshotMoveData = &moves
	if r.recordSnapshot(t.Context(), root, claim("nightly", "snap"), backup, &scope{}); !r.claims[root].stored {
		t.Error("what Velero moves has no VolumeSnapshot in the backup")
	}
}

// TestADiskIsSnapshottedWhenItsSnapshotIsInTheBackup asks for VolumeSnapshots, as Velero does for those that it has backed up.
func TestADiskIsSnapshottedWhenItsSnapshotIsInTheBackup(t *testing.T) {
	snapshot := func(claim any, labels map[string]any) map[string]any {
		return map[string]any{
			"apiVersion": "snapshot.storage.k8s.io/v1", "kind": "VolumeSnapshot",
			"metadata": map[string]any{"namespace": "shop", "name": "snap", "labels": labels},
			"spec":     map[string]any{"source": map[string]any{"persistentVolumeClaimName": claim}},
		}
	}
	ofThis := map[string]any{"velero.io/backup-name": "nightly"}
	for name, c := range map[string]struct {
		snapshot map[string]any
		want     bool
	}{
		"its own":            {snapshot("root", ofThis), true},
		"none":               {nil, false},
		"of another disk":    {snapshot("data", ofThis), false},
		"of another backup":  {snapshot("root", map[string]any{"velero.io/backup-name": "weekly"}), false},
		"that somebody made": {snapshot("root", nil), false},
		"made of a content":  {snapshot("", ofThis), false},
	} {
		t.Run(name, func(t *testing.T) {
			r := testRun(t)
			r.claims[root] = claim{snapshotted: time.Unix(2, 0)}
			if c.snapshot != nil {
				backup := &velerov1.Backup{ObjectMeta: metav1.ObjectMeta{Namespace: "velero", Name: "nightly"}}
				if _, err := r.BackUp(t.Context(), inShop(kubevirt.VolumeSnapshots, "snap"), c.snapshot, backup); err != nil {
					t.Fatal(err)
				}
			}
			if disks := r.disks([]kubevirt.ID{root}, time.Unix(1, 0), time.Time{}); len(disks) != 1 || disks[0].Snapshotted != c.want {
				t.Errorf("%+v", disks)
			}
			if r.claims[kubevirt.ID{GroupResource: kubevirt.PersistentVolumeClaims, Namespace: "shop"}].stored {
				t.Error("a claim without a name is recorded")
			}
		})
	}
	r := testRun(t)
	if err := r.recordStored(snapshot(int64(7), ofThis), &velerov1.Backup{}); err == nil {
		t.Error("a claim that is a number is no error")
	}
}

// TestADiskThatMayHaveBeenSnapshottedBeforeTheFreeze is one that an item outside of the VM's ItemBlock brought, or that was snapshotted before its guest joined.
func TestADiskThatMayHaveBeenSnapshottedBeforeTheFreeze(t *testing.T) {
	source := inShop(kubevirt.DataSources, "linux")
	at := func(seconds int) time.Time { return time.Unix(int64(seconds), 0) }
	for name, c := range map[string]struct {
		claims  map[kubevirt.ID]claim
		brought kubevirt.ID
		joined  time.Time
		thawed  time.Time
		outside bool
	}{
		"after the guest joined":         {claims: map[kubevirt.ID]claim{root: {snapshotted: at(2)}}, joined: at(1)},
		"before":                         {claims: map[kubevirt.ID]claim{root: {snapshotted: at(1)}}, joined: at(2), outside: true},
		"brought by another item":        {claims: map[kubevirt.ID]claim{root: {snapshotted: at(9), brought: at(8)}}, joined: at(1), outside: true},
		"brought by another item later":  {claims: map[kubevirt.ID]claim{root: {snapshotted: at(2), brought: at(8)}}, joined: at(1)},
		"when the guest had been thawed": {claims: map[kubevirt.ID]claim{root: {snapshotted: at(3)}}, joined: at(1), thawed: at(2), outside: true},
		"before the guest was thawed":    {claims: map[kubevirt.ID]claim{root: {snapshotted: at(2)}}, joined: at(1), thawed: at(3)},
		"with its group, before": {claims: map[kubevirt.ID]claim{
			root: {snapshotted: at(9), group: "g"}, inShop(kubevirt.PersistentVolumeClaims, "data"): {snapshotted: at(1), group: "g"},
		}, joined: at(2), outside: true},
		"of another group, before": {claims: map[kubevirt.ID]claim{
			root: {snapshotted: at(9), group: "g"}, inShop(kubevirt.PersistentVolumeClaims, "data"): {snapshotted: at(1), group: "h"},
		}, joined: at(2)},
		"of another namespace's group": {claims: map[kubevirt.ID]claim{
			root: {snapshotted: at(9), group: "g"}, {GroupResource: kubevirt.PersistentVolumeClaims, Namespace: "office", Name: "data"}: {snapshotted: at(1), group: "g"},
		}, joined: at(2)},
	} {
		t.Run(name, func(t *testing.T) {
			r := testRun(t)
			r.claims = c.claims
			r.setStored(root)
			if disks := r.disks([]kubevirt.ID{root}, c.joined, c.thawed); len(disks) != 1 || disks[0].Outside != c.outside || !disks[0].Snapshotted {
				t.Errorf("%+v", disks)
			}
		})
	}
	r := testRun(t)
	r.enterBlock(vm, nil)
	r.recordBrought(vm, []kubevirt.ID{root})
	if !r.claims[root].brought.IsZero() {
		t.Error("a disk of the VM's own ItemBlock counts as brought")
	}
	r.recordBrought(source, []kubevirt.ID{root, volume})
	first := r.claims[root].brought
	if _, recorded := r.claims[volume]; first.IsZero() || recorded {
		t.Errorf("brought: %v", r.claims)
	}
	r.recordBrought(source, []kubevirt.ID{root})
	if r.claims[root].brought != first {
		t.Error("the first time does not count")
	}
}

// TestOnlyARunningLauncherJoins: a guest that has ended is not frozen.
func TestOnlyARunningLauncherJoins(t *testing.T) {
	pod := func(phase, owner string) map[string]any {
		return map[string]any{
			"metadata": map[string]any{"namespace": "shop", "name": "pod", "ownerReferences": []any{map[string]any{"kind": owner, "name": "web", "uid": "u", "controller": true}}},
			"spec":     map[string]any{"volumes": []any{map[string]any{"name": "root", "persistentVolumeClaim": map[string]any{"claimName": "root"}}}},
			"status":   map[string]any{"phase": phase},
		}
	}
	for name, c := range map[string]struct {
		pod       map[string]any
		snapshots bool
		joins     bool
		claims    int
	}{
		"a launcher":         {pod("Running", "VirtualMachineInstance"), true, true, 1},
		"one that has ended": {pod("Succeeded", "VirtualMachineInstance"), true, false, 0},
		"a hotplug pod":      {pod("Running", "Pod"), true, false, 1},
		"without snapshots":  {pod("Running", "VirtualMachineInstance"), false, false, 1},
	} {
		t.Run(name, func(t *testing.T) {
			r := testRun(t)
			b := r.enterBlock(vm, nil)
			if err := r.joinPod(t.Context(), b, c.pod, &velerov1.Backup{}, &scope{snapshots: c.snapshots}); err != nil {
				t.Fatal(err)
			}
			if joined := !b.window.Joined(vmi).IsZero(); joined != c.joins || len(r.claims) != c.claims {
				t.Errorf("joined: %t; claims: %v", joined, r.claims)
			}
		})
	}
	if err := testRun(t).joinPod(t.Context(), nil, map[string]any{"spec": "none"}, &velerov1.Backup{}, &scope{}); err == nil {
		t.Error("a pod that cannot be read is no error")
	}
}

// counting is a reader that counts lists, and fails each.
type counting struct {
	Reader
	lists *atomic.Int32
}

func (c counting) List(context.Context, graph.Query) (*graph.Objects, error) {
	c.lists.Add(1)
	return nil, errors.New("no answer")
}

func TestTheListsOfANamespaceAreAskedForOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		log, hook := logtest.NewNullLogger()
		log.SetLevel(logrus.DebugLevel)
		var lists atomic.Int32
		r := NewRun(counting{lists: &lists}, servedByTest, nil, log)
		for call := range 2 {
			r.readLists("shop")
			synctest.Wait()
			if lists.Load() != 6 || len(hook.AllEntries()) != 6 {
				t.Errorf("after call %d: %d lists, %d lines of their failures", call+1, lists.Load(), len(hook.AllEntries()))
			}
		}
	})
}
