package backup

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	snapshotv1 "github.com/kubernetes-csi/external-snapshotter/client/v8/apis/volumesnapshot/v1"
	logtest "github.com/sirupsen/logrus/hooks/test"
	velerov1 "github.com/vmware-tanzu/velero/pkg/apis/velero/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime"
	clientscheme "k8s.io/client-go/kubernetes/scheme"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/client/fake"

	"velero-plugin-for-kubevirt/pkg/cluster"
	"velero-plugin-for-kubevirt/pkg/graph"
	"velero-plugin-for-kubevirt/pkg/kubevirt"
	"velero-plugin-for-kubevirt/pkg/object"
	"velero-plugin-for-kubevirt/pkg/snapshot"
)

// storageYAML is a cluster with two storage classes, of which Velero can snapshot one, and a claim of each.
const storageYAML = `
{apiVersion: v1, kind: ConfigMap, metadata: {namespace: velero, name: one-cut}, data: {policy.yaml: "version: v1\nvolumePolicies:\n- conditions: {storageClass: [fast, unlabelled]}\n  action: {type: custom, parameters: {snapshotter: SNAPSHOTTER}}\n"}}
---
{apiVersion: storage.k8s.io/v1, kind: StorageClass, metadata: {name: fast}, provisioner: csi.example.com}
---
{apiVersion: storage.k8s.io/v1, kind: StorageClass, metadata: {name: slow}, provisioner: csi.example.com}
---
{apiVersion: storage.k8s.io/v1, kind: StorageClass, metadata: {name: unlabelled}, provisioner: other.example.com}
---
{apiVersion: snapshot.storage.k8s.io/v1, kind: VolumeSnapshotClass, metadata: {name: snap, labels: {velero.io/csi-volumesnapshot-class: "true"}}, driver: csi.example.com, deletionPolicy: Delete}
`

// claimYAML is a claim and its volume.
const claimYAML = `
---
{apiVersion: v1, kind: PersistentVolumeClaim, metadata: {namespace: shop, name: NAME, uid: uid-NAME, labels: {app: web, velero.io/exclude-from-backup: "EXCLUDED"}}, spec: {storageClassName: CLASS, volumeName: pv-NAME, resources: {requests: {storage: 1Mi}}}, status: {phase: Bound}}
---
{apiVersion: v1, kind: PersistentVolume, metadata: {name: pv-NAME}, spec: {storageClassName: CLASS, claimRef: {namespace: shop, name: NAME}, csi: {driver: csi.example.com, volumeHandle: NAME}}, status: {phase: Bound}}
`

// testStorage takes snapshots in no time. A fake client stands for the API server.
type testStorage struct {
	client client.Client
	mu     sync.Mutex
	made   map[string]map[string]any

	changes chan map[string]any
	deleted []kubevirt.ID
}

func (s *testStorage) Client() (client.Client, error) {
	if s.client == nil {
		return fake.NewClientBuilder().Build(), nil
	}
	return s.client, nil
}

func (s *testStorage) Create(_ context.Context, id kubevirt.ID, obj map[string]any) (map[string]any, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.made[id.Name] = obj
	cut := (&unstructured.Unstructured{Object: obj}).DeepCopy()
	cut.Object["status"] = map[string]any{"creationTime": "2026-11-24T12:00:00Z", "restoreSize": "2Mi"}
	s.changes <- cut.Object
	return obj, nil
}

func (s *testStorage) Follow(ctx context.Context, _ graph.Query, visit func(map[string]any, bool)) error {
	for {
		select {
		case obj := <-s.changes:
			visit(obj, false)
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

func (s *testStorage) Delete(_ context.Context, id kubevirt.ID) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.deleted = append(s.deleted, id)
	return nil
}

// storageWith returns a run on a cluster with claims, written as name:class, in one ItemBlock.
func storageWith(t *testing.T, snapshotter string, claims ...string) (*Run, *testStorage, map[string]map[string]any) {
	t.Helper()
	text := strings.Replace(storageYAML, "SNAPSHOTTER", snapshotter, 1)
	for _, claim := range claims {
		name, class, _ := strings.Cut(claim, ":")
		class, excluded := strings.TrimSuffix(class, "!"), strings.HasSuffix(class, "!")
		text += strings.NewReplacer("NAME", name, "CLASS", class, "EXCLUDED", fmt.Sprint(excluded)).Replace(claimYAML)
	}
	objects, err := cluster.ReadObjects(strings.NewReader(text))
	if err != nil {
		t.Fatal(err)
	}
	scheme := runtime.NewScheme()
	if err := clientscheme.AddToScheme(scheme); err != nil {
		t.Fatal(err)
	}
	if err := snapshotv1.AddToScheme(scheme); err != nil {
		t.Fatal(err)
	}
	builder, items := fake.NewClientBuilder().WithScheme(scheme), map[string]map[string]any{}
	for _, obj := range objects {
		builder.WithObjects(obj.DeepCopy())
		if obj.GetKind() == "PersistentVolumeClaim" {
			items[obj.GetName()] = obj.Object
		}
	}
	storage := &testStorage{client: builder.Build(), made: map[string]map[string]any{}, changes: make(chan map[string]any, 10)}
	log, _ := logtest.NewNullLogger()
	r := NewRun(cluster.FromObjects(objects), servedByTest, storage, log)
	var members []kubevirt.ID
	for name := range items {
		members = append(members, inShop(kubevirt.PersistentVolumeClaims, name))
	}
	r.enterBlock(vm, nil)
	r.addMembers(vm, members, blockItem{})
	return r, storage, items
}

func withPolicy() *velerov1.Backup {
	backup := &velerov1.Backup{ObjectMeta: metav1.ObjectMeta{Namespace: "velero", Name: "nightly", UID: "uid"}}
	backup.Spec.ResourcePolicy = &corev1.TypedLocalObjectReference{Kind: "configmap", Name: "one-cut"}
	backup.Spec.CSISnapshotTimeout.Duration = time.Minute
	return backup
}

// claimsOfMade returns the claims of which snapshots were made.
func (s *testStorage) claimsOfMade(t *testing.T) []string {
	t.Helper()
	var claims []string
	for _, obj := range s.made {
		name, _, _ := unstructured.NestedString(obj, "spec", "source", "persistentVolumeClaimName")
		claims = append(claims, name)
	}
	slices.Sort(claims)
	return claims
}

func TestAllClaimsThatThePolicyGivesToThePluginAreSnapshottedWithTheFirst(t *testing.T) {
	for name, c := range map[string]struct {
		claims []string
		made   []string
	}{
		"both":                  {[]string{"root:fast", "data:fast"}, []string{"data", "root"}},
		"one is left to Velero": {[]string{"root:fast", "data:slow"}, []string{"root"}},
		"one is excluded":       {[]string{"root:fast", "data:fast!"}, []string{"root"}},
		"one has no class":      {[]string{"root:fast", "data:unlabelled"}, []string{"root"}},
		"alone":                 {[]string{"root:fast"}, []string{"root"}},
	} {
		t.Run(name, func(t *testing.T) {
			r, storage, items := storageWith(t, "kubevirt", c.claims...)
			answer, err := r.BackUpClaim(t.Context(), root, items["root"], withPolicy())
			additional := answer.AdditionalItems
			if err != nil {
				t.Fatal(err)
			}
			if made := storage.claimsOfMade(t); !slices.Equal(made, c.made) {
				t.Errorf("snapshots of %v", made)
			}
			snapshot := object.Annotation(items["root"], "velero.io/volume-snapshot-name")
			if storage.made[snapshot] == nil || len(additional) != 1 || additional[0] != inShop(kubevirt.VolumeSnapshots, snapshot) {
				t.Errorf("snapshot %q of %v; Velero is told of %v", snapshot, storage.made, additional)
			}
			if size, _, _ := unstructured.NestedString(items["root"], "spec", "resources", "requests", "storage"); size != "2Mi" {
				t.Errorf("the restored claim asks for %s, its snapshot needs 2Mi", size)
			}
			for key, want := range map[string]string{"velero.io/backup-name": "nightly", "velero.io/volume-snapshot-name": snapshot, "app": "web"} {
				if got := object.Label(items["root"], key); got != want {
					t.Errorf("label %s is %q", key, got)
				}
			}
			made := storage.made[snapshot]
			for key, want := range map[string]string{"velero.io/backup-name": "nightly", "velero.io/backup-uid": "uid", "app": "web"} {
				if got := object.Label(made, key); got != want {
					t.Errorf("label %s of the VolumeSnapshot is %q", key, got)
				}
			}
			if class, _, _ := unstructured.NestedString(made, "spec", "volumeSnapshotClassName"); class != "snap" {
				t.Errorf("class %q", class)
			}
		})
	}
}

func TestTheSecondClaimFindsItsSnapshot(t *testing.T) {
	r, storage, items := storageWith(t, "kubevirt", "root:fast", "data:fast")
	for _, name := range []string{"root", "data"} {
		if _, err := r.BackUpClaim(t.Context(), inShop(kubevirt.PersistentVolumeClaims, name), items[name], withPolicy()); err != nil {
			t.Fatal(err)
		}
		if len(storage.made) != 2 {
			t.Errorf("there are %d snapshots", len(storage.made))
		}
	}
	again, _, items := storageWith(t, "kubevirt", "root:fast")
	if _, err := again.BackUpClaim(t.Context(), root, items["root"], withPolicy()); err != nil {
		t.Fatal(err)
	}
	if name := object.Annotation(items["root"], "velero.io/volume-snapshot-name"); storage.made[name] == nil {
		t.Errorf("a plugin that is started again makes another snapshot, %s", name)
	}
}

func TestWhatThePluginDoesNotSnapshot(t *testing.T) {
	no := false
	for name, c := range map[string]struct {
		snapshotter, claim string
		change             func(*velerov1.Backup)
		err                string
	}{
		"without a policy":         {"kubevirt", "root:fast", func(b *velerov1.Backup) { b.Spec.ResourcePolicy = nil }, ""},
		"for another snapshotter":  {"other", "root:fast", func(*velerov1.Backup) {}, ""},
		"of another storage class": {"kubevirt", "root:slow", func(*velerov1.Backup) {}, ""},
		"without snapshots":        {"kubevirt", "root:fast", func(b *velerov1.Backup) { b.Spec.SnapshotVolumes = &no }, ""},
		"when the backup is over":  {"kubevirt", "root:fast", func(b *velerov1.Backup) { b.Status.Phase = "Finalizing" }, ""},
		"when it failed in part":   {"kubevirt", "root:fast", func(b *velerov1.Backup) { b.Status.Phase = "FinalizingPartiallyFailed" }, ""},
		"without a snapshot class": {"kubevirt", "root:unlabelled", func(*velerov1.Backup) {}, "finding the VolumeSnapshotClass of PersistentVolumeClaim shop/root"},
		"with a policy that is gone": {"kubevirt", "root:fast", func(b *velerov1.Backup) { b.Spec.ResourcePolicy.Name = "gone" },
			"reading the resource policy of Backup velero/nightly"},
	} {
		t.Run(name, func(t *testing.T) {
			r, storage, items := storageWith(t, c.snapshotter, c.claim)
			backup := withPolicy()
			c.change(backup)
			_, err := r.BackUpClaim(t.Context(), root, items["root"], backup)
			if (err == nil) != (c.err == "") || err != nil && !strings.Contains(err.Error(), c.err) {
				t.Errorf("error %v, want %q", err, c.err)
			}
			if len(storage.made) != 0 || object.Annotation(items["root"], "velero.io/volume-snapshot-name") != "" {
				t.Errorf("made %v of %v", storage.made, items["root"])
			}
		})
	}
}

func TestACutIsToldInOneLine(t *testing.T) {
	for name, c := range map[string]struct {
		claims []string
		failed any
	}{
		"all are cut":         {[]string{"root:fast", "data:fast"}, nil},
		"one cannot be cut":   {[]string{"root:fast", "data:unlabelled"}, "shop/data"},
		"the first cannot be": {[]string{"root:unlabelled", "data:fast"}, "shop/root"},
	} {
		t.Run(name, func(t *testing.T) {
			r, _, items := storageWith(t, "kubevirt", c.claims...)
			log, lines := logtest.NewNullLogger()
			r.log = log
			r.blocks[vm].items[vm] = blockItem{}
			r.blocks[vm].items[inShop(kubevirt.VirtualMachineInstances, "lone")] = blockItem{}
			_, _ = r.BackUpClaim(t.Context(), root, items["root"], withPolicy()) // an error of its own claim is told elsewhere
			line := lines.LastEntry()
			if line == nil || line.Message != "the disks were snapshotted at once" {
				t.Fatalf("the last line is %v", line)
			}
			_, frozen := line.Data["frozen"]
			if line.Data["vms"] != "shop/web" || line.Data["claims"] != "shop/data, shop/root" || line.Data["failed"] != c.failed || frozen {
				t.Errorf("%v", line.Data)
			}
			for claim, of := range r.blocks[vm].cuts {
				if r.claims[claim].snapshotted.IsZero() != (of.Err != nil) {
					t.Errorf("%s was snapshotted at %v, with %v", claim, r.claims[claim].snapshotted, of.Err)
				}
			}
		})
	}
}

func TestOnlyClaimsWithoutASnapshotAreCut(t *testing.T) {
	r, _, _ := storageWith(t, "kubevirt", "root:fast", "data:fast", "done:fast")
	b := r.blocks[vm]
	b.members[inShop(kubevirt.Pods, "launcher")] = true
	b.cuts[inShop(kubevirt.PersistentVolumeClaims, "done")] = snapshot.Result{}
	claims := r.claimsToCut(b, root)
	if len(claims) != 2 || claims[0] != root || claims[1] != inShop(kubevirt.PersistentVolumeClaims, "data") {
		t.Errorf("%v", claims)
	}
}

func TestAClaimAsksForAsMuchAsItsSnapshotNeeds(t *testing.T) {
	for asked, want := range map[string]string{"1Mi": "2Mi", "2048Ki": "2048Ki", "3Mi": "3Mi", "": "", "much": "an error"} {
		claim := map[string]any{}
		if asked != "" {
			claim["spec"] = map[string]any{"resources": map[string]any{"requests": map[string]any{"storage": asked}}}
		}
		err := markSnapshotted(claim, &snapshot.Result{RestoreSize: 2 << 20}, withPolicy())
		got, _, _ := unstructured.NestedString(claim, "spec", "resources", "requests", "storage")
		if err != nil {
			got = "an error"
		}
		if got != want {
			t.Errorf("%q becomes %q, want %q: %v", asked, got, want, err)
		}
	}
}

func TestWhenASnapshotWasMade(t *testing.T) {
	now := time.Date(2026, 11, 24, 12, 0, 10, 0, time.UTC)
	for ago, want := range map[time.Duration]time.Duration{0: 0, time.Second: 0, 2 * time.Second: 0, 3 * time.Second: 3 * time.Second} {
		if got := now.Sub(beganAt(now, metav1.NewTime(now.Add(-ago)))); got != want {
			t.Errorf("one that is %s old began %s ago, want %s", ago, got, want)
		}
	}
}
