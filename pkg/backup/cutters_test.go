package backup

import (
	"errors"
	"strings"
	"testing"
	"time"

	logtest "github.com/sirupsen/logrus/hooks/test"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"

	"velero-plugin-for-kubevirt/pkg/cluster"
	"velero-plugin-for-kubevirt/pkg/kubevirt"
	"velero-plugin-for-kubevirt/pkg/snapshot"
)

// TestWhoCutsADisk: the guests wait for the plugin and for Velero, and are thawed at once when the plugin cannot.
func TestWhoCutsADisk(t *testing.T) {
	const plugin, velero, fails, nobody = "the plugin", "Velero", "it fails", "nobody"
	for name, c := range map[string]struct {
		snapshotter, claim string
		before             func(*Run, map[string]any)
		want               string
	}{
		"the policy gives it to the plugin":       {"kubevirt", "data:fast", nil, plugin},
		"the policy does not name it":             {"kubevirt", "data:slow", nil, velero},
		"no class":                                {"kubevirt", "data:unlabelled", nil, fails},
		"excluded":                                {"kubevirt", "data:fast!", nil, nobody},
		"another snapshotter's":                   {"other", "data:fast", nil, nobody},
		"another snapshotter's, its files copied": {"other", "data:fast", copyFiles, velero},
		"it has no volume that is there":          {"kubevirt", "data:slow", withoutVolume, velero},
		"it is deleted meanwhile":                 {"kubevirt", "data:fast", deleteClaims, nobody},
		"it cannot be read":                       {"kubevirt", "data:fast", failReads, fails},
	} {
		t.Run(name, func(t *testing.T) {
			r, _, items := storageWith(t, c.snapshotter, c.claim)
			if c.before != nil {
				c.before(r, items["data"])
			}
			backup := withPolicy()
			scope, err := r.scope(backup)
			if err != nil {
				t.Fatal(err)
			}
			who := r.cuttersOf(t.Context(), r.blocks[vm], data, backup, scope)
			got := nobody
			switch {
			case len(who.requests) > 0:
				got = plugin
			case len(who.velero) > 0:
				got = velero
			case len(who.failed) > 0:
				got = fails
			}
			if got != c.want || len(who.requests)+len(who.velero)+len(who.failed) > 1 {
				t.Errorf("it is %s, want %s: %+v", got, c.want, who)
			}
		})
	}
}

var data = inShop(kubevirt.PersistentVolumeClaims, "data")

func copyFiles(r *Run, _ map[string]any) { r.recordFiles(map[kubevirt.ID]bool{data: true}) }

func withoutVolume(_ *Run, claim map[string]any) {
	claim["spec"].(map[string]any)["volumeName"] = "gone"
}

func deleteClaims(r *Run, _ map[string]any) {
	delete(r.reader.(cluster.Memory), kubevirt.PersistentVolumeClaims)
}

func failReads(r *Run, _ map[string]any) { r.reader = unanswered{r.reader} }

// TestOfOtherClaimsOnlyThoseInTheBackupAreCut: that the one is in it of which Velero asks, Velero knows.
func TestOfOtherClaimsOnlyThoseInTheBackupAreCut(t *testing.T) {
	r, storage, items := storageWith(t, "kubevirt", "root:fast", "data:fast")
	backup := withPolicy()
	backup.Spec.ExcludedResources = []string{"persistentvolumeclaims"}
	_, err := r.BackUpClaim(t.Context(), root, items["root"], backup)
	if made := storage.claimsOfMade(t); err != nil || len(made) != 1 || made[0] != "root" {
		t.Errorf("snapshots of %v, want one of root; %v", made, err)
	}
}

// TestGuestsAreThawedAtTheFirstTrouble: what is not cut at once keeps no guest frozen.
func TestGuestsAreThawedAtTheFirstTrouble(t *testing.T) {
	backup := withPolicy()
	r, storage, g := frozenBy(t, backup, "root:fast", "data:unlabelled")
	obj, err := r.reader.Now(t.Context(), root)
	if err == nil {
		_, err = r.BackUpClaim(t.Context(), root, obj, backup)
	}
	if made := storage.claimsOfMade(t); err != nil || !g.isThawed() || len(made) != 1 {
		t.Errorf("thawed: %t; snapshots of %v, want one of root; %v", g.isThawed(), made, err)
	}
}

func TestASnapshotThatFailedHidesNoOther(t *testing.T) {
	r, at := testRun(t), time.Unix(1_800_000_000, 0)
	b := r.enterBlock(vm, nil)
	r.recordCuts(b, []snapshot.Result{
		{Request: snapshot.Request{Namespace: "shop", Claim: "data"}, Err: errors.New("refused")},
		{Request: snapshot.Request{Namespace: "shop", Claim: "root"}, At: at},
	})
	if got := r.claims[root].snapshotted; !got.Equal(at) || !r.claims[data].snapshotted.IsZero() {
		t.Errorf("root counts as snapshotted at %s, want %s; data at %s", got, at, r.claims[data].snapshotted)
	}
}

// TestWhenAVolumeSnapshotWasMadeThatNobodyWatched: one that a data mover has removed counts from now.
func TestWhenAVolumeSnapshotWasMadeThatNobodyWatched(t *testing.T) {
	made := inShop(kubevirt.VolumeSnapshots, "velero-root")
	there := &unstructured.Unstructured{Object: map[string]any{"apiVersion": "snapshot.storage.k8s.io/v1", "kind": "VolumeSnapshot"}}
	there.SetNamespace(made.Namespace)
	there.SetName(made.Name)
	there.SetCreationTimestamp(metav1.NewTime(time.Unix(1_800_000_000, 0)))
	for name, c := range map[string]struct {
		reader Reader
		known  bool
	}{
		"it is there":       {cluster.FromObjects([]*unstructured.Unstructured{there}), true},
		"it is gone":        {cluster.Memory{}, false},
		"it cannot be read": {unanswered{cluster.Memory{}}, false},
	} {
		r, before := testRun(t), time.Now()
		r.reader = c.reader
		got := r.madeAt(t.Context(), made)
		if c.known && got.Unix() != 1_800_000_000 || !c.known && (got.Before(before) || got.After(time.Now())) {
			t.Errorf("%s: %s", name, got)
		}
	}
}

// TestAGuestThatCannotBeThawedIsToldOf: it stays frozen until Velero's hooks run.
func TestAGuestThatCannotBeThawedIsToldOf(t *testing.T) {
	for _, fails := range []bool{false, true} {
		r, _, g := frozenBy(t, withPolicy(), "root:fast")
		g.mu.Lock()
		g.silent = fails
		g.mu.Unlock()
		log, lines := logtest.NewNullLogger()
		r.log = log
		r.thaw(t.Context(), r.blocks[vm])
		warned := false
		for _, line := range lines.AllEntries() {
			warned = warned || strings.Contains(line.Message, "a guest could not be thawed now")
		}
		if warned != fails {
			t.Errorf("the guest cannot be thawed: %t; warned: %t", fails, warned)
		}
	}
}

// TestSnapshotsOfThisBackupAreSeen also when it says when it began.
func TestSnapshotsOfThisBackupAreSeen(t *testing.T) {
	backup := withPolicy()
	backup.Spec.ResourcePolicy = nil
	before := metav1.NewTime(time.Now().Add(-time.Minute))
	backup.Status.StartTimestamp = &before
	r, storage, _ := frozenBy(t, backup, "root:fast")
	storage.changes <- volumeSnapshot("root", map[string]any{})
	eventually(t, "the window has not begun", r.blocks[vm].window.HasBegun)
}

func TestALineAboutAnItemBlockNamesItsVMs(t *testing.T) {
	lone := inShop(kubevirt.VirtualMachineInstances, "lone")
	for name, c := range map[string]struct {
		items []kubevirt.ID
		want  any
	}{
		"two that share a disk": {[]kubevirt.ID{vm, inShop(kubevirt.VirtualMachines, "db"), vmi}, "shop/db, shop/web"},
		"none":                  {[]kubevirt.ID{lone}, nil},
	} {
		r := testRun(t)
		log, lines := logtest.NewNullLogger()
		r.log = log
		b := r.enterBlock(c.items[0], nil)
		for _, id := range c.items {
			b.items[id] = blockItem{}
		}
		r.logOf(b).Info("a line")
		if got := lines.LastEntry().Data; got["vms"] != c.want || len(got) > 1 || c.want == nil && len(got) > 0 {
			t.Errorf("%s: %v, want vms %v", name, got, c.want)
		}
	}
}
