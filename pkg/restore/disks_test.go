package restore

import (
	"testing"

	logtest "github.com/sirupsen/logrus/hooks/test"
	velerov1 "github.com/vmware-tanzu/velero/pkg/apis/velero/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"

	"velero-plugin-for-kubevirt/pkg/cluster"
	"velero-plugin-for-kubevirt/pkg/kubevirt"
	"velero-plugin-for-kubevirt/pkg/rules"
)

// A VM whose disk KubeVirt makes from a template, if it is not there.
const templated = `{apiVersion: kubevirt.io/v1, kind: VirtualMachine, metadata: {namespace: shop, name: web}, spec: {
  dataVolumeTemplates: [{metadata: {name: root}, spec: {source: {http: {url: "https://example.com"}}}}],
  template: {spec: {volumes: [{name: root, dataVolume: {name: root}}]}}}}`

func TestADiskIsLookedAt(t *testing.T) {
	const (
		made = `metadata: {namespace: shop, name: root, labels: {velero.io/restore-name: nightly}}`
		old  = `metadata: {namespace: shop, name: root}`
	)
	for name, c := range map[string]struct {
		listed string // in the backup
		claim  string
		want   rules.Disk
		wrong  bool
	}{
		"it is not there":                     {"", "", rules.Disk{Listed: true, Refill: rules.BySource}, false},
		"it was restored empty":               {"", made, rules.Disk{Listed: true}, false},
		"it was there before":                 {"", old, rules.Disk{Listed: true, Data: rules.There}, false},
		"it is not what it says":              {"", old + ", spec: {selector: {matchLabels: 5}}", rules.Disk{}, true},
		"its data comes":                      {"", made + ", spec: {selector: {matchLabels: {velero.io/dynamic-pv-restore: shop.root}}}", rules.Disk{Listed: true, Data: rules.Coming}, false},
		"the backup has the claim":            {`["persistentvolumeclaims/shop/root"]`, old, rules.Disk{Listed: true, Data: rules.There}, false},
		"the backup has the DataVolume":       {`["datavolumes.cdi.kubevirt.io/shop/root"]`, old, rules.Disk{Listed: true, Data: rules.There}, false},
		"the backup has another claim":        {`["persistentvolumeclaims/shop/data"]`, old, rules.Disk{Data: rules.There}, false},
		"the backup has one of another place": {`["persistentvolumeclaims/old/root"]`, old, rules.Disk{Data: rules.There}, false},
	} {
		t.Run(name, func(t *testing.T) {
			var objects []*unstructured.Unstructured
			if c.claim != "" {
				objects = append(objects, item(t, `{apiVersion: v1, kind: PersistentVolumeClaim, `+c.claim+`}`))
			}
			log, _ := logtest.NewNullLogger()
			id, vm := kubevirt.ID{GroupResource: kubevirt.VirtualMachines, Namespace: "shop", Name: "web"}, item(t, templated)
			if c.listed != "" {
				vm.SetAnnotations(map[string]string{kubevirt.AdditionalItems: c.listed})
			}
			restore := &velerov1.Restore{ObjectMeta: metav1.ObjectMeta{Name: "nightly"}}
			disks, err := NewRun(cluster.FromObjects(objects), nil, log).disks(t.Context(), id, vm.Object, vm.Object, restore)
			if c.wrong {
				if err == nil {
					t.Errorf("no error, and %+v", disks)
				}
				return
			}
			c.want.Path = "spec.template.spec.volumes[0].dataVolume.name"
			c.want.Claim = kubevirt.ID{GroupResource: kubevirt.PersistentVolumeClaims, Namespace: "shop", Name: "root"}
			if err != nil || len(disks) != 1 || disks[0] != c.want {
				t.Errorf("got %+v, %v, want %+v", disks, err, c.want)
			}
		})
	}
}

// TestTheDataOfAVolume: a forecast is of a restore that has no name yet.
func TestTheDataOfAVolume(t *testing.T) {
	for name, c := range map[string]struct {
		volume, restore string
		want            rules.Data
	}{
		"it waits for a claim":       {`{name: pv}, status: {phase: Available}`, "nightly", rules.There},
		"this restore brought it":    {`{name: pv, labels: {velero.io/restore-name: nightly}}, status: {phase: Bound}`, "nightly", rules.There},
		"another restore brought it": {`{name: pv, labels: {velero.io/restore-name: other}}, status: {phase: Bound}`, "nightly", rules.NoData},
		"it was made for the claim":  {`{name: pv}, status: {phase: Bound}`, "nightly", rules.NoData},
		"it is gone":                 {`{name: other}, status: {phase: Available}`, "nightly", rules.NoData},
		"it is gone, for a forecast": {`{name: other}, status: {phase: Available}`, "", rules.NoData},
	} {
		t.Run(name, func(t *testing.T) {
			reader := cluster.FromObjects([]*unstructured.Unstructured{item(t, `{apiVersion: v1, kind: PersistentVolume, metadata: `+c.volume+`}`)})
			claim := item(t, `{apiVersion: v1, kind: PersistentVolumeClaim, metadata: {namespace: shop, name: root}, spec: {volumeName: pv}}`)
			log, _ := logtest.NewNullLogger()
			restore := &velerov1.Restore{ObjectMeta: metav1.ObjectMeta{Name: c.restore}}
			if got, err := NewRun(reader, nil, log).dataInSpec(t.Context(), claim.Object, "shop", restore); got != c.want || err != nil {
				t.Errorf("got %q, %v, want %q", got, err, c.want)
			}
		})
	}
}

// TestWhatHasBecomeOfTheDisksIsLogged: of a VM that has some.
func TestWhatHasBecomeOfTheDisksIsLogged(t *testing.T) {
	const without = `{apiVersion: kubevirt.io/v1, kind: VirtualMachine, metadata: {namespace: shop, name: web}, spec: {template: {spec: {domain: {}}}}}`
	for text, want := range map[string]int{templated: 1, without: 0} {
		log, hook := logtest.NewNullLogger()
		id, vm := kubevirt.ID{GroupResource: kubevirt.VirtualMachines, Namespace: "shop", Name: "web"}, item(t, text)
		if _, err := NewRun(cluster.FromObjects(nil), nil, log).Restore(t.Context(), id, vm.DeepCopy().Object, vm.Object, &velerov1.Restore{}); err != nil {
			t.Error(err)
		}
		lines := 0
		for _, entry := range hook.AllEntries() {
			if entry.Data["disks"] != nil {
				lines++
			}
		}
		if lines != want {
			t.Errorf("%s: %d lines name disks, want %d", text, lines, want)
		}
	}
}
