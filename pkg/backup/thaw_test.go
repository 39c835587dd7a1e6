package backup

import (
	"context"
	"errors"
	"io"
	"strings"
	"sync"
	"testing"
	"time"

	snapshotv1 "github.com/kubernetes-csi/external-snapshotter/client/v8/apis/volumesnapshot/v1"
	velerov1 "github.com/vmware-tanzu/velero/pkg/apis/velero/v1"
	velerov2alpha1 "github.com/vmware-tanzu/velero/pkg/apis/velero/v2alpha1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"velero-plugin-for-kubevirt/pkg/cluster"
	"velero-plugin-for-kubevirt/pkg/freeze"
	"velero-plugin-for-kubevirt/pkg/kubevirt"
	"velero-plugin-for-kubevirt/pkg/object"
)

// guests answer that they are frozen, and remember when they were thawed. Silent ones do not answer.
type guests struct {
	Reader
	mu     sync.Mutex
	thawed []string
	silent bool
}

func (g *guests) GuestInfo(context.Context, string, string) (map[string]any, error) {
	var commands []any
	for _, name := range []string{"guest-fsfreeze-status", "guest-fsfreeze-freeze", "guest-fsfreeze-thaw"} {
		commands = append(commands, map[string]any{"name": name, "enabled": true})
	}
	return map[string]any{"guestAgentVersion": "9", "supportedCommands": commands}, nil
}

func (g *guests) Exec(_ context.Context, pod kubevirt.ID, _ string, _ []string, stdin io.Reader) (string, error) {
	line, err := io.ReadAll(stdin)
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.silent {
		return "", errors.New("the guest does not answer")
	}
	if err != nil || len(line) == 0 {
		return "", err
	}
	g.thawed = append(g.thawed, pod.Name)
	return `{"return":"frozen"}`, nil
}

func (g *guests) isThawed() bool {
	g.mu.Lock()
	defer g.mu.Unlock()
	return len(g.thawed) > 0
}

const launcherYAML = `
---
{apiVersion: kubevirt.io/v1, kind: VirtualMachineInstance, metadata: {namespace: shop, name: web, uid: vmi}, status: {phase: Running, conditions: [{type: AgentConnected, status: "True"}]}}
---
apiVersion: v1
kind: Pod
metadata:
  namespace: shop
  name: launcher
  annotations:
    pre.hook.backup.velero.io/command: '["/usr/bin/virt-freezer","--freeze"]'
    post.hook.backup.velero.io/command: '["/usr/bin/virt-freezer","--unfreeze"]'
    post.hook.backup.velero.io/container: compute
  ownerReferences: [{apiVersion: kubevirt.io/v1, kind: VirtualMachineInstance, name: web, uid: vmi, controller: true}]
status: {phase: Running}
`

// frozenBy returns a run on a cluster with a running VM and its claims, which Velero has frozen.
func frozenBy(t *testing.T, backup *velerov1.Backup, claims ...string) (*Run, *testStorage, *guests) {
	t.Helper()
	r, storage, _ := storageWith(t, "kubevirt", claims...)
	objects, err := cluster.ReadObjects(strings.NewReader(launcherYAML))
	if err != nil {
		t.Fatal(err)
	}
	g := &guests{Reader: r.reader}
	memory := cluster.FromObjects(objects)
	for resource, of := range memory {
		r.reader.(cluster.Memory)[resource] = append(r.reader.(cluster.Memory)[resource], of...)
	}
	r.reader = g
	scope, err := r.scope(backup)
	if err != nil {
		t.Fatal(err)
	}
	b := r.blocks[vm]
	b.window = freeze.Open(g)
	if err := r.joinPod(t.Context(), b, memory[kubevirt.Pods][0].Object, backup, scope); err != nil {
		t.Fatal(err)
	}
	return r, storage, g
}

func volumeSnapshot(claim string, status map[string]any) map[string]any {
	return map[string]any{
		"metadata": map[string]any{"namespace": "shop", "name": "velero-" + claim, "creationTimestamp": time.Now().UTC().Format(time.RFC3339)},
		"spec":     map[string]any{"source": map[string]any{"persistentVolumeClaimName": claim}},
		"status":   status,
	}
}

var cutStatus = map[string]any{"creationTime": "2026-11-24T12:00:00Z"}

func eventually(t *testing.T, what string, is func() bool) {
	t.Helper()
	for deadline := time.Now().Add(5 * time.Second); time.Now().Before(deadline); time.Sleep(time.Millisecond) {
		if is() {
			return
		}
	}
	t.Error(what)
}

// TestAGuestIsThawedWhenVelerosLastSnapshotIsCut: Velero itself looks 5 s later.
func TestAGuestIsThawedWhenVelerosLastSnapshotIsCut(t *testing.T) {
	backup := withPolicy()
	backup.Spec.ResourcePolicy = nil
	r, storage, g := frozenBy(t, backup, "root:fast", "data:slow")
	storage.changes <- volumeSnapshot("root", map[string]any{})
	storage.changes <- volumeSnapshot("root", cutStatus)
	storage.changes <- volumeSnapshot("data", map[string]any{})
	eventually(t, "the window has not begun", r.blocks[vm].window.HasBegun)
	time.Sleep(20 * time.Millisecond)
	if g.isThawed() {
		t.Fatal("the guest is thawed before the last of its disks is cut")
	}
	storage.changes <- volumeSnapshot("data", cutStatus)
	eventually(t, "the guest is not thawed", g.isThawed)
	eventually(t, "not all disks count as cut at one moment", func() bool { return r.together(r.blocks[vm]) })
	facts := r.blocks[vm].window.Facts(t.Context(), vm, vmi)
	if !facts.Frozen || facts.Window <= 0 || facts.MaxFreeze != maxFreeze {
		t.Errorf("%+v", facts)
	}
}

// TestAGuestStaysFrozenWhileItIsNotKnownWhoCutsADisk: of a disk in no CSI volume, and of one whose files Velero copies, the end is not seen.
func TestAGuestStaysFrozenWhileItIsNotKnownWhoCutsADisk(t *testing.T) {
	backup := withPolicy()
	backup.Spec.ResourcePolicy = nil
	r, storage, g := frozenBy(t, backup, "root:fast", "data:slow")
	r.recordFiles(map[kubevirt.ID]bool{inShop(kubevirt.PersistentVolumeClaims, "data"): true})
	storage.changes <- volumeSnapshot("root", cutStatus)
	eventually(t, "the window has not begun", r.blocks[vm].window.HasBegun)
	time.Sleep(50 * time.Millisecond)
	if g.isThawed() {
		t.Error("the guest is thawed while the files of a disk are copied")
	}
}

func TestSnapshotsOfAnOlderBackupAreNotSeen(t *testing.T) {
	backup := withPolicy()
	backup.Spec.ResourcePolicy = nil
	later := metav1.NewTime(time.Now().Add(time.Minute))
	backup.Status.StartTimestamp = &later
	r, storage, _ := frozenBy(t, backup, "root:fast")
	storage.changes <- volumeSnapshot("root", cutStatus)
	storage.changes <- map[string]any{"metadata": map[string]any{"namespace": "shop", "name": "of-no-claim"}}
	eventually(t, "the snapshots are not seen", func() bool { return len(storage.changes) == 0 })
	time.Sleep(20 * time.Millisecond)
	if r.blocks[vm].window.HasBegun() {
		t.Error("a snapshot of an older backup of the same name counts")
	}
}

// TestASnapshotThatAnotherItemHasTakenDoesNotBeginAWindow: the guest is frozen later.
func TestASnapshotThatAnotherItemHasTakenDoesNotBeginAWindow(t *testing.T) {
	backup := withPolicy()
	backup.Spec.ResourcePolicy = nil
	for name, take := range map[string]func(*Run) map[string]any{
		"brought by an item outside of the ItemBlock": func(r *Run) map[string]any {
			r.recordBrought(inShop(kubevirt.DataSources, "linux"), []kubevirt.ID{root})
			return volumeSnapshot("root", cutStatus)
		},
		"before the guest joined": func(*Run) map[string]any {
			snapshot := volumeSnapshot("root", cutStatus)
			snapshot["metadata"].(map[string]any)["creationTimestamp"] = time.Now().Add(-time.Minute).UTC().Format(time.RFC3339)
			return snapshot
		},
	} {
		t.Run(name, func(t *testing.T) {
			r, storage, g := frozenBy(t, backup, "root:fast")
			storage.changes <- take(r)
			eventually(t, "the snapshot is not seen", func() bool { return len(storage.changes) == 0 })
			time.Sleep(20 * time.Millisecond)
			if r.blocks[vm].window.HasBegun() || g.isThawed() {
				t.Error("the window has begun")
			}
		})
	}
}

func TestHowLongAGuestMayBeFrozen(t *testing.T) {
	for name, c := range map[string]struct {
		vm, backup map[string]string
		windows    bool
		want       time.Duration
	}{
		"as always":          {nil, nil, false, time.Minute},
		"Windows":            {nil, nil, true, 8 * time.Second},
		"the backup says so": {nil, map[string]string{"velero.kubevirt.io/max-freeze": "90s"}, true, 90 * time.Second},
		"the VM says so":     {map[string]string{"velero.kubevirt.io/max-freeze": "2s"}, map[string]string{"velero.kubevirt.io/max-freeze": "90s"}, false, 2 * time.Second},
		"nobody understands": {map[string]string{"velero.kubevirt.io/max-freeze": "soon"}, nil, true, 8 * time.Second},
	} {
		t.Run(name, func(t *testing.T) {
			r := testRun(t)
			b := r.enterBlock(vm, nil)
			annotations := map[string]any{}
			for key, value := range c.vm {
				annotations[key] = value
			}
			b.items[vm] = blockItem{obj: map[string]any{"metadata": map[string]any{"annotations": annotations}}}
			backup := withPolicy()
			backup.Annotations = c.backup
			if got := r.maxFreezeOf(vmi, c.windows, backup, &scope{}); got != c.want {
				t.Errorf("%s, want %s", got, c.want)
			}
		})
	}
}

// TestADataUploadIsMadeForASnapshotThatIsToBeMoved: Velero's data mover finds in it what its own CSI action would have written.
func TestADataUploadIsMadeForASnapshotThatIsToBeMoved(t *testing.T) {
	r, storage, items := storageWith(t, "kubevirt", "root:fast", "data:fast")
	backup, yes := withPolicy(), true
	backup.Spec.SnapshotMoveData, backup.Spec.StorageLocation = &yes, "default"
	backup.Spec.UploaderConfig = &velerov1.UploaderConfigForBackup{ParallelFilesUpload: 3}
	answer, err := r.BackUpClaim(t.Context(), root, items["root"], backup)
	if err != nil || len(answer.AdditionalItems) != 0 || len(answer.Update) != 1 || answer.Operation != "du-uid.uid-root" {
		t.Fatalf("%+v, %v", answer, err)
	}
	if data := inShop(kubevirt.PersistentVolumeClaims, "data"); !r.claims[root].stored || r.claims[data].stored {
		t.Errorf("of those that are moved is %t, of those that nobody has asked to move %t", r.claims[root].stored, r.claims[data].stored)
	}
	upload := &velerov2alpha1.DataUpload{}
	if err := storage.client.Get(t.Context(), client.ObjectKey{Namespace: "velero", Name: answer.Update[0].Name}, upload); err != nil {
		t.Fatal(err)
	}
	if got := object.Annotation(items["root"], "velero.io/data-upload-name"); got != "velero/"+upload.Name {
		t.Errorf("the claim names DataUpload %q", got)
	}
	if size, _ := object.String(items["root"], "spec.resources.requests.storage"); size != "1Mi" {
		t.Errorf("the claim asks for %s", size)
	}
	spec, csi := upload.Spec, *upload.Spec.CSISnapshot
	if spec.SourcePVC != "root" || spec.SourceNamespace != "shop" || spec.BackupStorageLocation != "default" || spec.DataMoverConfig["ParallelFilesUpload"] != "3" ||
		csi.VolumeSnapshot != object.Annotation(items["root"], "velero.io/volume-snapshot-name") || csi.StorageClass != "fast" || csi.SnapshotClass != "snap" || csi.Driver != "csi.example.com" {
		t.Errorf("%+v, %+v", spec, csi)
	}
	for key, want := range map[string]string{"velero.io/backup-name": "nightly", "velero.io/backup-uid": "uid", "velero.io/pvc-uid": "uid-root", "velero.io/async-operation-id": answer.Operation} {
		if upload.Labels[key] != want {
			t.Errorf("label %s is %q", key, upload.Labels[key])
		}
	}
	if progress, err := r.Progress(t.Context(), answer.Operation, backup); err != nil || progress.Completed {
		t.Errorf("%+v, %v", progress, err)
	}
	if err := r.Cancel(t.Context(), answer.Operation, backup); err != nil {
		t.Error(err)
	}
	if err := storage.client.Get(t.Context(), client.ObjectKeyFromObject(upload), upload); err != nil || !upload.Spec.Cancel {
		t.Errorf("cancelled: %t, %v", upload.Spec.Cancel, err)
	}
	for phase, want := range map[velerov2alpha1.DataUploadPhase]string{"Completed": "", "Failed": "the disk is full", "Canceled": "DataUpload is canceled"} {
		upload.Status.Phase, upload.Status.Message = phase, "the disk is full"
		if err := storage.client.Update(t.Context(), upload); err != nil {
			t.Fatal(err)
		}
		if progress, err := r.Progress(t.Context(), answer.Operation, backup); err != nil || !progress.Completed || progress.Err != want {
			t.Errorf("%s: %+v, %v", phase, progress, err)
		}
	}
	if _, err := r.Progress(t.Context(), "du-gone", backup); err == nil || !strings.Contains(err.Error(), "0 DataUploads in namespace velero for operation du-gone") {
		t.Errorf("an operation that nobody knows: %v", err)
	}
	if _, err := r.BackUpClaim(t.Context(), root, items["root"], backup); err != nil {
		t.Errorf("a plugin that is started again: %v", err)
	}
}

// TestWhatAKilledPluginLeftIsDeletedWithItsBackup: only that.
func TestWhatAKilledPluginLeftIsDeletedWithItsBackup(t *testing.T) {
	r, storage, _ := storageWith(t, "kubevirt", "root:fast")
	backup := withPolicy()
	for name, labels := range map[string]map[string]string{
		"left":          {"velero.io/backup-name": "nightly", "velero.io/backup-uid": "uid"},
		"of-another":    {"velero.io/backup-name": "nightly", "velero.io/backup-uid": "other"},
		"somebody-else": {},
		"restored":      {"velero.io/backup-name": "nightly", "velero.io/backup-uid": "uid", "velero.io/restore-name": "morning"},
	} {
		if err := storage.client.Create(t.Context(), &snapshotv1.VolumeSnapshot{ObjectMeta: metav1.ObjectMeta{Namespace: "shop", Name: name, Labels: labels}}); err != nil {
			t.Fatal(err)
		}
	}
	for range 2 {
		if err := r.DeleteLeftovers(t.Context(), backup); err != nil {
			t.Fatal(err)
		}
	}
	if len(storage.deleted) != 1 || storage.deleted[0] != inShop(kubevirt.VolumeSnapshots, "left") {
		t.Errorf("deleted: %v", storage.deleted)
	}
}

func TestVMsOfAGroupAreInOneItemBlock(t *testing.T) {
	objects, err := cluster.ReadObjects(strings.NewReader(`
{apiVersion: kubevirt.io/v1, kind: VirtualMachine, metadata: {namespace: shop, name: web, labels: {velero.kubevirt.io/freeze-together: app}}, spec: {template: {spec: {}}}}
---
{apiVersion: kubevirt.io/v1, kind: VirtualMachine, metadata: {namespace: shop, name: database, labels: {velero.kubevirt.io/freeze-together: app}}, spec: {template: {spec: {}}}}
---
{apiVersion: kubevirt.io/v1, kind: VirtualMachine, metadata: {namespace: shop, name: excluded, labels: {velero.kubevirt.io/freeze-together: app, velero.io/exclude-from-backup: "true"}}, spec: {template: {spec: {}}}}
---
{apiVersion: kubevirt.io/v1, kind: VirtualMachine, metadata: {namespace: shop, name: mail, labels: {velero.kubevirt.io/freeze-together: post}}, spec: {template: {spec: {}}}}
---
{apiVersion: kubevirt.io/v1, kind: VirtualMachine, metadata: {namespace: office, name: database, labels: {velero.kubevirt.io/freeze-together: app}}, spec: {template: {spec: {}}}}
`))
	if err != nil {
		t.Fatal(err)
	}
	r := testRun(t)
	r.reader = cluster.FromObjects(objects)
	backup := &velerov1.Backup{ObjectMeta: metav1.ObjectMeta{UID: types.UID("uid")}}
	related, err := r.RelatedItems(t.Context(), vm, objects[0].Object, backup)
	if err != nil || len(related) != 1 || related[0] != inShop(kubevirt.VirtualMachines, "database") {
		t.Errorf("%v, %v", related, err)
	}
	if r.blocks[vm] != r.blocks[inShop(kubevirt.VirtualMachines, "database")] {
		t.Error("they are not in one ItemBlock")
	}
}

// TestAGroupIsTogetherOnlyWithAllItsGuests: a VM that runs, and whose launcher pod is not in the backup, was not frozen.
func TestAGroupIsTogetherOnlyWithAllItsGuests(t *testing.T) {
	const grouped = `{apiVersion: kubevirt.io/v1, kind: VirtualMachine, metadata: {namespace: shop, name: database, labels: {velero.kubevirt.io/freeze-together: app}}}
---
`
	for instance, want := range map[string]bool{
		"": true,
		"{apiVersion: kubevirt.io/v1, kind: VirtualMachineInstance, metadata: {namespace: shop, name: database}, status: {phase: Succeeded}}": true,
		"{apiVersion: kubevirt.io/v1, kind: VirtualMachineInstance, metadata: {namespace: shop, name: database}, status: {phase: Running}}":   false,
		"{apiVersion: kubevirt.io/v1, kind: VirtualMachineInstance, metadata: {namespace: shop, name: database}, status: odd}":                false,
	} {
		backup := withPolicy()
		r, _, g := frozenBy(t, backup, "root:fast")
		more, memory := memoryOf(t, grouped+instance), g.Reader.(cluster.Memory)
		memory[kubevirt.VirtualMachineInstances] = append(memory[kubevirt.VirtualMachineInstances], more[kubevirt.VirtualMachineInstances]...)
		member := blockItem{obj: more[kubevirt.VirtualMachines][0].Object}
		b := r.blocks[vm]
		b.items[inShop(kubevirt.VirtualMachines, "database")] = member
		b.items[vm] = member // which is frozen
		b.items[inShop(kubevirt.VirtualMachines, "stopped")] = member
		b.items[inShop(kubevirt.VirtualMachines, "in-no-group")] = blockItem{}
		b.expected, r.claims = []kubevirt.ID{inShop(kubevirt.PersistentVolumeClaims, "root")}, map[kubevirt.ID]claim{inShop(kubevirt.PersistentVolumeClaims, "root"): {cut: time.Now()}}
		r.thawWhenCut(t.Context(), b)
		if r.together(b) != want {
			t.Errorf("with %q: together is %t", instance, !want)
		}
		for range 30 { // they are looked at in any order
			if r.allJoined(t.Context(), b) != want {
				t.Fatalf("with %q: all joined: %t", instance, !want)
			}
		}
	}
}
