package rollback

import (
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"sigs.k8s.io/yaml"

	"velero-plugin-for-kubevirt/pkg/kubevirt"
)

func read(t *testing.T, text string) map[string]any {
	t.Helper()
	var obj map[string]any
	if err := yaml.Unmarshal([]byte(text), &obj); err != nil {
		t.Fatal(err)
	}
	return obj
}

const (
	liveVM     = `{metadata: {namespace: shop, name: web, uid: vm-uid-00001, managedFields: [{}]}, spec: {runStrategy: Always}}`
	backedUpVM = `{metadata: {namespace: shop, name: web, uid: vm-uid-00000, labels: {velero.kubevirt.io/vm: web}}}`
	ownedClaim = `{metadata: {namespace: shop, name: state, uid: uid-state, ownerReferences: [{kind: VirtualMachine, name: web, uid: vm-uid-00001, controller: true}]}}`
	ownVolume  = `{metadata: {name: pv-1}, spec: {persistentVolumeReclaimPolicy: Delete}}`
)

func facts(t *testing.T) Facts {
	return Facts{
		VM:       read(t, liveVM),
		BackedUp: BackedUp{Backup: "nightly", Velero: "velero", VM: read(t, backedUpVM), Disks: []string{"root"}},
		Disks: []Disk{{
			Claim: "root", InBackup: true, Live: read(t, `{metadata: {namespace: shop, name: root, uid: uid-root}}`), Volume: read(t, ownVolume),
		}},
	}
}

func TestWhatIsSetAside(t *testing.T) {
	f := facts(t)
	f.Disks[0].DataVolume = read(t, `{metadata: {namespace: shop, name: root, uid: uid-dv}}`)
	f.Disks = append(f.Disks,
		Disk{Claim: "state", Live: read(t, ownedClaim)},
		Disk{Claim: "given", Live: read(t, `{metadata: {namespace: shop, name: given, uid: uid-given}}`)},
		Disk{Claim: "gone", InBackup: true},
		Disk{Claim: "made", Live: read(t, `{metadata: {namespace: shop, name: made, uid: uid-made}}`),
			DataVolume: read(t, `{metadata: {namespace: shop, name: made, uid: uid-dv-made, ownerReferences: [{kind: VirtualMachine, name: web, uid: vm-uid-00001, controller: true}]}}`)},
	)
	f.Revisions = []map[string]any{read(t, `{metadata: {namespace: shop, name: web-small-1, uid: uid-revision}}`)}
	fates := map[string]string{}
	for _, disk := range f.Disks {
		fates[disk.Claim] = disk.Fate(f.VM)
	}
	if diff := cmp.Diff(map[string]string{"root": Replaced, "state": SetAside, "given": Left, "gone": Restored, "made": SetAside}, fates); diff != "" {
		t.Error(diff)
	}
	record, refusals := Decide(f)
	if len(refusals) > 0 {
		t.Fatal(refusals)
	}
	var taken []string
	for _, object := range record.Objects {
		taken = append(taken, object.ID.String()+" "+object.UID)
	}
	want := []string{
		"virtualmachines.kubevirt.io/shop/web vm-uid-00001",
		"controllerrevisions.apps/shop/web-small-1 uid-revision",
		"datavolumes.cdi.kubevirt.io/shop/root uid-dv", "persistentvolumeclaims/shop/root uid-root",
		"persistentvolumeclaims/shop/state uid-state",
		"datavolumes.cdi.kubevirt.io/shop/made uid-dv-made", "persistentvolumeclaims/shop/made uid-made",
	}
	if diff := cmp.Diff(want, taken); diff != "" {
		t.Error(diff)
	}
	if diff := cmp.Diff([]Volume{{Name: "pv-1", Claim: "root", ClaimUID: "uid-root", ReclaimPolicy: "Delete"}}, record.Volumes); diff != "" {
		t.Error(diff)
	}
	if record.Restore != "rollback-web-vm-uid-0" || record.Direction != Back || record.Done {
		t.Errorf("the record is %+v", record)
	}
}

func TestRefusals(t *testing.T) {
	for name, c := range map[string]struct {
		change func(*Facts)
		want   string
	}{
		"no VM":         {func(f *Facts) { f.VM = nil }, "nothing to roll back"},
		"being deleted": {func(f *Facts) { f.VM["metadata"].(map[string]any)["deletionTimestamp"] = "2026-11-28T00:00:00Z" }, "is being deleted"},
		"of a pool": {func(f *Facts) {
			f.VM = read(t, strings.Replace(ownedClaim, "kind: VirtualMachine", "kind: VirtualMachinePool", 1))
		}, "belongs to VirtualMachinePool web"},
		"a snapshot runs": {func(f *Facts) { f.VM["status"] = map[string]any{"snapshotInProgress": "snap"} }, "snapshot snap"},
		"not in backup":   {func(f *Facts) { f.BackedUp.VM = nil }, "not in backup nightly"},
		"no label":        {func(f *Facts) { f.BackedUp.VM = read(t, liveVM) }, "no label velero.kubevirt.io/vm"},
		"incomplete":      {func(f *Facts) { f.BackedUp.Incomplete = []string{"the data of root is missing"} }, "the data of root is missing"},
		"a shared disk": {func(f *Facts) {
			f.Disks[0].Others = []kubevirt.ID{{GroupResource: kubevirt.VirtualMachines, Namespace: "shop", Name: "db"}}
		}, "root is a disk of virtualmachines.kubevirt.io/shop/db, too"},
	} {
		t.Run(name, func(t *testing.T) {
			f := facts(t)
			c.change(&f)
			_, refusals := Decide(f)
			if len(refusals) != 1 || !strings.Contains(refusals[0], c.want) {
				t.Errorf("refused because of %q, want one that says %q", refusals, c.want)
			}
		})
	}
}

func TestAClaimIsMadeAnewForItsVolume(t *testing.T) {
	claim := read(t, `
apiVersion: v1
kind: PersistentVolumeClaim
metadata:
  namespace: shop
  name: root
  uid: uid-root
  resourceVersion: "7"
  creationTimestamp: "2026-11-28T00:00:00Z"
  finalizers: [kubernetes.io/pvc-protection]
  labels: {app: web}
  annotations: {pv.kubernetes.io/bind-completed: "yes", note: mine}
  ownerReferences: [{kind: DataVolume, name: root, uid: uid-dv, controller: true}]
spec: {volumeName: pv-1, dataSourceRef: {apiGroup: cdi.kubevirt.io, kind: VolumeImportSource, name: x}}
status: {phase: Bound}`)
	want := read(t, `
apiVersion: v1
kind: PersistentVolumeClaim
metadata:
  namespace: shop
  name: root
  finalizers: [kubernetes.io/pvc-protection]
  labels: {app: web}
  annotations: {note: mine, cdi.kubevirt.io/storage.populatedFor: root}
spec: {volumeName: pv-1}`)
	old := Object{ID: kubevirt.ID{GroupResource: kubevirt.PersistentVolumeClaims, Namespace: "shop", Name: "root"}, UID: "uid-root", Content: claim}
	for range 2 { // the record is not changed by it
		got, err := anew(old)
		if err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(want, got); diff != "" {
			t.Error(diff)
		}
	}
}
