package backup

import (
	"testing"

	velerov1 "github.com/vmware-tanzu/velero/pkg/apis/velero/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"
)

// TestHowADiskWouldBeBackedUp: by which driver and class, or why not.
func TestHowADiskWouldBeBackedUp(t *testing.T) {
	const noVolume, noCSI = "the claim has no volume", "Velero's server takes no CSI snapshots: its feature EnableCSI is off"
	const driver = "csi.example.com"
	unbound := func(claim map[string]any, _ *corev1.PersistentVolume) {
		delete(claim["spec"].(map[string]any), "volumeName")
	}
	pending := func(claim map[string]any, _ *corev1.PersistentVolume) {
		claim["status"] = map[string]any{"phase": "Pending"}
	}
	onHost := func(_ map[string]any, volume *corev1.PersistentVolume) {
		volume.Spec.PersistentVolumeSource = corev1.PersistentVolumeSource{HostPath: &corev1.HostPathVolumeSource{Path: "/data"}}
	}
	for name, c := range map[string]struct {
		claim  string
		change func(claim map[string]any, volume *corev1.PersistentVolume)
		backup func(*velerov1.Backup)
		noCSI  bool
		want   Disk
	}{
		"by Velero":          {claim: "data:slow", want: Disk{Driver: driver, Class: "snap"}},
		"by the plugin":      {claim: "data:fast", backup: withOneCut, want: Disk{Driver: driver, Class: "snap", Cut: true}},
		"bound to no volume": {claim: "data:slow", change: unbound, want: Disk{LeftOut: noVolume}},
		"not yet bound":      {claim: "data:slow", change: pending, want: Disk{LeftOut: noVolume}},
		"in no CSI volume":   {claim: "data:slow", change: onHost, want: Disk{LeftOut: "its volume is no CSI volume"}},
		"the feature is off": {claim: "data:slow", noCSI: true, want: Disk{Driver: driver, LeftOut: noCSI}},
		"left out, no class": {claim: "data:unlabelled", noCSI: true, want: Disk{Driver: driver, LeftOut: noCSI}},
		"in a group":         {claim: "data:slow", backup: func(b *velerov1.Backup) { b.Spec.VolumeGroupSnapshotLabelKey = "app" }, want: Disk{Driver: driver, Class: "snap", Group: "web"}},
	} {
		t.Run(name, func(t *testing.T) {
			r, storage, items := storageWith(t, "kubevirt", c.claim)
			volume := &corev1.PersistentVolume{}
			if err := storage.client.Get(t.Context(), client.ObjectKey{Name: "pv-data"}, volume); err != nil {
				t.Fatal(err)
			}
			if c.change != nil {
				c.change(items["data"], volume)
			}
			if err := storage.client.Update(t.Context(), volume); err != nil {
				t.Fatal(err)
			}
			backup := &velerov1.Backup{ObjectMeta: metav1.ObjectMeta{Namespace: "velero", Name: "nightly"}}
			if c.backup != nil {
				c.backup(backup)
			}
			scope, err := r.scope(backup)
			if err != nil {
				t.Fatal(err)
			}
			f := forecaster{Run: r, backup: backup, scope: scope, server: Server{CSI: !c.noCSI}}
			c.want.ID = data
			if got, err := f.disk(t.Context(), data); err != nil || got != c.want {
				t.Errorf("%+v, %v; want %+v", got, err, c.want)
			}
		})
	}
}
