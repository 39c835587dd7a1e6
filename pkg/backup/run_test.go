package backup

import (
	"context"
	"errors"
	"slices"
	"strings"
	"testing"

	velerov1 "github.com/vmware-tanzu/velero/pkg/apis/velero/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"

	"velero-plugin-for-kubevirt/pkg/cluster"
	"velero-plugin-for-kubevirt/pkg/graph"
	"velero-plugin-for-kubevirt/pkg/kubevirt"
)

// unanswered is a reader that reads no whole object.
type unanswered struct{ Reader }

var errUnanswered = errors.New("no answer")

func (unanswered) Get(context.Context, kubevirt.ID) (map[string]any, error) {
	return nil, errUnanswered
}

func (unanswered) Now(context.Context, kubevirt.ID) (map[string]any, error) {
	return nil, errUnanswered
}

// memoryOf returns a reader of objects in YAML.
func memoryOf(t *testing.T, text string) cluster.Memory {
	t.Helper()
	objects, err := cluster.ReadObjects(strings.NewReader(text))
	if err != nil {
		t.Fatal(err)
	}
	return cluster.FromObjects(objects)
}

// itemOf returns the only object of a kind.
func itemOf(t *testing.T, memory cluster.Memory, id kubevirt.ID) *unstructured.Unstructured {
	t.Helper()
	items := memory[id.GroupResource]
	if len(items) != 1 {
		t.Fatalf("there are %d %s", len(items), id.GroupResource)
	}
	return items[0].DeepCopy()
}

const vmYAML = `{apiVersion: kubevirt.io/v1, kind: VirtualMachine, metadata: {namespace: shop, name: web}, spec: {template: {spec: {domain: {devices: {}}}}}}`

// TestTheListsOfAVMAreAskedForWithItsOnlyCall: in a backup with ItemBlocks that has been done before.
func TestTheListsOfAVMAreAskedForWithItsOnlyCall(t *testing.T) {
	for snapshots, want := range map[bool]bool{false: true, true: false} {
		r, memory := testRun(t), memoryOf(t, vmYAML)
		r.reader = memory
		backup := &velerov1.Backup{Spec: velerov1.BackupSpec{SnapshotVolumes: &snapshots}}
		if _, err := r.BackUp(t.Context(), vm, itemOf(t, memory, vm).Object, backup); err != nil {
			t.Fatal(err)
		}
		if got := r.namespaces["shop"]; got != want {
			t.Errorf("with snapshots: %t; the lists are asked for: %t, want %t", snapshots, got, want)
		}
	}
}

// TestADataVolumeHasNoCallAfterItsBackup: a VM has one, for its verdict.
func TestADataVolumeHasNoCallAfterItsBackup(t *testing.T) {
	memory := memoryOf(t, vmYAML+"\n---\n{apiVersion: cdi.kubevirt.io/v1beta1, kind: DataVolume, metadata: {namespace: shop, name: root}, spec: {}}")
	for id, left := range map[kubevirt.ID]int{vm: 1, volume: 0} {
		r := testRun(t)
		r.reader = memory
		obj := itemOf(t, memory, id).Object
		r.enterBlock(id, obj)
		if _, err := r.BackUp(t.Context(), id, obj, &velerov1.Backup{}); err != nil {
			t.Fatal(err)
		}
		if len(r.blocks) != left {
			t.Errorf("%s: the run remembers %v", id, r.blocks)
		}
	}
}

// TestWhatBelongsToAnItemHasToBeRead: without it the backup would hold an item that cannot be restored.
func TestWhatBelongsToAnItemHasToBeRead(t *testing.T) {
	memory := memoryOf(t, `
{apiVersion: cdi.kubevirt.io/v1beta1, kind: DataVolume, metadata: {namespace: shop, name: root}, spec: {sourceRef: {kind: DataSource, namespace: images, name: linux}}}
---
{apiVersion: cdi.kubevirt.io/v1beta1, kind: DataSource, metadata: {namespace: images, name: linux}}
---
{apiVersion: snapshot.kubevirt.io/v1beta1, kind: VirtualMachineSnapshotContent, metadata: {namespace: shop, name: save}, spec: {volumeBackups: [{volumeName: root, volumeSnapshotName: saved-root}]}, status: {readyToUse: true}}
`)
	source := graph.Neighbour{ID: kubevirt.ID{GroupResource: kubevirt.DataSources, Namespace: "images", Name: "linux"}}
	for id, neighbours := range map[kubevirt.ID][]graph.Neighbour{volume: {source}, inShop(kubevirt.VirtualMachineSnapshotContents, "save"): nil} {
		r := testRun(t)
		scope, err := r.scope(&velerov1.Backup{})
		if err != nil {
			t.Fatal(err)
		}
		r.reader = unanswered{memory}
		if _, err := r.input(t.Context(), id, itemOf(t, memory, id).Object, neighbours, scope); !errors.Is(err, errUnanswered) {
			t.Errorf("%s: %v, want %v", id, err, errUnanswered)
		}
	}
}

// TestAVolumeSnapshotIsBackedUpWithTheUIDOfItsClaim, if it is of one that is there.
func TestAVolumeSnapshotIsBackedUpWithTheUIDOfItsClaim(t *testing.T) {
	memory := memoryOf(t, "{apiVersion: v1, kind: PersistentVolumeClaim, metadata: {namespace: shop, name: root, uid: uid-root}}")
	forbidden := forbidding{memory, kubevirt.PersistentVolumeClaims}
	for name, c := range map[string]struct {
		reader Reader
		source map[string]any
		want   string
		fails  bool
	}{
		"it is there":           {memory, map[string]any{"persistentVolumeClaimName": "root"}, "uid-root", false},
		"it is gone":            {memory, map[string]any{"persistentVolumeClaimName": "data"}, "", false},
		"it cannot be read":     {forbidden, map[string]any{"persistentVolumeClaimName": "root"}, "", true},
		"of none":               {forbidden, map[string]any{"volumeSnapshotContentName": "content"}, "", false},
		"of what is not a name": {memory, map[string]any{"persistentVolumeClaimName": int64(1)}, "", true},
	} {
		r := testRun(t)
		r.reader = c.reader
		obj := map[string]any{"metadata": map[string]any{"namespace": "shop", "name": "save"}, "spec": map[string]any{"source": c.source}}
		in, err := r.input(t.Context(), inShop(kubevirt.VolumeSnapshots, "save"), obj, nil, &scope{})
		if in.ClaimUID != c.want || (err != nil) != c.fails {
			t.Errorf("%s: UID %q, %v; want %q, an error: %t", name, in.ClaimUID, err, c.want, c.fails)
		}
	}
}

// gets counts whole objects that are read.
type gets struct {
	Reader
	ids *[]kubevirt.ID
}

func (g gets) Get(ctx context.Context, id kubevirt.ID) (map[string]any, error) {
	*g.ids = append(*g.ids, id)
	return g.Reader.Get(ctx, id)
}

// TestAnInstanceIsReadOnlyOfAVMThatNamesOne: a request for each VM would be most of what a backup costs the API server.
func TestAnInstanceIsReadOnlyOfAVMThatNamesOne(t *testing.T) {
	memory := memoryOf(t, "{apiVersion: kubevirt.io/v1, kind: VirtualMachineInstance, metadata: {namespace: shop, name: web}}")
	for name, c := range map[string]struct {
		neighbours []graph.Neighbour
		want       []kubevirt.ID
	}{
		"it names its instance": {[]graph.Neighbour{{ID: root}, {ID: vmi}}, []kubevirt.ID{vmi}},
		"only a disk":           {[]graph.Neighbour{{ID: root}}, nil},
		"nothing":               {nil, nil},
	} {
		var read []kubevirt.ID
		r := testRun(t)
		r.reader = gets{memory, &read}
		got, err := r.instance(t.Context(), vmi, c.neighbours)
		if err != nil || !slices.Equal(read, c.want) || (got != nil) != (c.want != nil) {
			t.Errorf("%s: read %v, want %v; found %v, %v", name, read, c.want, got, err)
		}
	}
}

// TestTheConfigurationIsReadForBackupsWithSnapshots: it only says how long guests may be frozen.
func TestTheConfigurationIsReadForBackupsWithSnapshots(t *testing.T) {
	const config = `{apiVersion: v1, kind: ConfigMap, metadata: {namespace: velero, name: plugin, labels: {velero.io/plugin-config: "", velero-plugin-for-kubevirt/backup: BackupItemAction}}, data: {max-freeze: 20s}}`
	for snapshots, want := range map[bool]string{true: "velero/plugin", false: ""} {
		r := testRun(t)
		r.reader = memoryOf(t, config)
		scope, err := r.scope(&velerov1.Backup{ObjectMeta: metav1.ObjectMeta{Namespace: "velero", Name: "nightly"}, Spec: velerov1.BackupSpec{SnapshotVolumes: &snapshots}})
		if err != nil {
			t.Fatal(err)
		}
		if scope.config.Name != want {
			t.Errorf("with snapshots: %t; the configuration is %q, want %q", snapshots, scope.config.Name, want)
		}
	}
}

// gone is a reader of a cluster in which one object that was listed is gone when it is read.
type gone struct {
	Reader
	name string
}

func (g gone) Get(ctx context.Context, id kubevirt.ID) (map[string]any, error) {
	if id.Name == g.name {
		return nil, nil
	}
	return g.Reader.Get(ctx, id)
}

func TestDisksOfWhichFilesAreCopied(t *testing.T) {
	memory := memoryOf(t, `
{apiVersion: v1, kind: Pod, metadata: {namespace: shop, name: new, labels: {kubevirt.io: virt-launcher, kubevirt.io/created-by: vmi}}, spec: {volumes: [{name: data, persistentVolumeClaim: {claimName: data}}]}, status: {phase: Running}}
---
{apiVersion: v1, kind: Pod, metadata: {namespace: shop, name: old, labels: {kubevirt.io: virt-launcher, kubevirt.io/created-by: vmi}, annotations: {backup.velero.io/backup-volumes: root}}, spec: {volumes: [{name: root, persistentVolumeClaim: {claimName: root}}]}, status: {phase: Running}}
---
{apiVersion: v1, kind: Pod, metadata: {namespace: shop, name: older, labels: {kubevirt.io: virt-launcher, kubevirt.io/created-by: vmi}, annotations: {backup.velero.io/backup-volumes: hot}}, spec: {volumes: [{name: hot, persistentVolumeClaim: {claimName: hot}}]}, status: {phase: Running}}
`)
	for name, c := range map[string]struct {
		reader Reader
		want   []string
		err    error
	}{
		"of the pods that say so":        {memory, []string{"hot", "root"}, nil},
		"of one that has gone meanwhile": {gone{memory, "old"}, []string{"hot"}, nil},
		"of one that cannot be read":     {unanswered{memory}, nil, errUnanswered},
	} {
		r := testRun(t)
		r.reader = c.reader
		disks, err := r.disksCopied(t.Context(), "shop", "vmi", &scope{})
		var got []string
		for _, disk := range disks {
			if disk.Files {
				got = append(got, disk.Name)
			}
		}
		if !slices.Equal(got, c.want) || len(disks) != len(c.want) || !errors.Is(err, c.err) {
			t.Errorf("%s: %+v, %v; want %v, %v", name, disks, err, c.want, c.err)
		}
	}
}

// TestWhetherAGroupWasTogetherIsInItsVerdict: of a VM in no group it is not said.
func TestWhetherAGroupWasTogetherIsInItsVerdict(t *testing.T) {
	for group, want := range map[string]bool{"app": true, "": false} {
		r := testRun(t)
		r.enterBlock(vm, nil).together = true
		obj := map[string]any{"metadata": map[string]any{"namespace": "shop", "name": "web", "labels": map[string]any{"velero.kubevirt.io/freeze-together": group}},
			"spec": map[string]any{"template": map[string]any{"spec": map[string]any{}}}}
		facts := r.facts(t.Context(), vm, obj, &scope{snapshots: true, itemBlocks: true})
		if facts.Group != group || facts.Together != want {
			t.Errorf("group %q: %q, together: %t, want %t; %v", group, facts.Group, facts.Together, want, facts.Unseen)
		}
	}
}

// named is a reader that, as an API server does, reads nothing without a name.
type named struct{ Reader }

func (n named) Get(ctx context.Context, id kubevirt.ID) (map[string]any, error) {
	if id.Name == "" {
		return nil, errors.New("a name is required")
	}
	return n.Reader.Get(ctx, id)
}

// TestASnapshotIsOnTheStorageWhenItHasAHandle: without one, a VolumeSnapshotContent cannot be made for it.
func TestASnapshotIsOnTheStorageWhenItHasAHandle(t *testing.T) {
	for name, c := range map[string]struct {
		status, contentStatus string
		found                 bool
	}{
		"cut":              {"{boundVolumeSnapshotContentName: content}", "{snapshotHandle: handle}", true},
		"not yet bound":    {"{}", "{snapshotHandle: handle}", false},
		"bound and uncut":  {"{boundVolumeSnapshotContentName: content}", "{}", false},
		"bound to nothing": {"{boundVolumeSnapshotContentName: other}", "{snapshotHandle: handle}", false},
	} {
		r := testRun(t)
		r.reader = named{memoryOf(t, `{apiVersion: snapshot.storage.k8s.io/v1, kind: VolumeSnapshot, metadata: {namespace: shop, name: saved}, status: `+c.status+`}
---
{apiVersion: snapshot.storage.k8s.io/v1, kind: VolumeSnapshotContent, metadata: {name: content}, spec: {driver: csi.example.com}, status: `+c.contentStatus+`}`)}
		spec, err := r.onStorage(t.Context(), inShop(kubevirt.VolumeSnapshots, "saved"))
		if err != nil || (spec != nil) != c.found {
			t.Errorf("%s: %v, %v; found should be %t", name, spec, err, c.found)
		}
	}
}
