package restore

import (
	"slices"
	"testing"

	logtest "github.com/sirupsen/logrus/hooks/test"
	velerov1 "github.com/vmware-tanzu/velero/pkg/apis/velero/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"

	"velero-plugin-for-kubevirt/pkg/cluster"
	"velero-plugin-for-kubevirt/pkg/graph"
	"velero-plugin-for-kubevirt/pkg/kubevirt"
)

// TestOnlyWhatDecidesIsRead: what an item does not depend on is not asked for, and whoever may not read it can restore the item.
func TestOnlyWhatDecidesIsRead(t *testing.T) {
	const (
		plain   = `{apiVersion: kubevirt.io/v1, kind: VirtualMachine, metadata: {namespace: shop, name: web}, spec: {template: {spec: {domain: {}}}}}`
		pinned  = `{apiVersion: kubevirt.io/v1, kind: VirtualMachine, metadata: {namespace: shop, name: web}, spec: {template: {spec: {nodeSelector: {kubernetes.io/hostname: n1}, domain: {}}}}}`
		undone  = `{apiVersion: snapshot.kubevirt.io/v1beta1, kind: VirtualMachineSnapshot, metadata: {namespace: shop, name: photo}, spec: {}, status: {phase: InProgress}}`
		started = `{apiVersion: kubevirt.io/v1, kind: VirtualMachineInstance, metadata: {namespace: shop, name: web, ownerReferences: [
  {apiVersion: kubevirt.io/v1, kind: VirtualMachine, name: web, uid: u, controller: true}]}, spec: {domain: {}, volumes: [{name: root, persistentVolumeClaim: {claimName: root}}]}}`
		own     = `{apiVersion: kubevirt.io/v1, kind: VirtualMachineInstance, metadata: {namespace: shop, name: web}, spec: {domain: {}, volumes: [{name: root, persistentVolumeClaim: {claimName: root}}]}}`
		claimed = `{apiVersion: v1, kind: PersistentVolumeClaim, metadata: {namespace: shop, name: root}, spec: {}}`
	)
	empty := cluster.FromObjects(nil)
	content := func(name string) graph.Reader {
		return silent{empty, kubevirt.ID{GroupResource: kubevirt.VirtualMachineSnapshotContents, Namespace: "shop", Name: name}}
	}
	disk := silent{empty, kubevirt.ID{GroupResource: kubevirt.PersistentVolumeClaims, Namespace: "shop", Name: "root"}}
	for name, c := range map[string]struct {
		reader graph.Reader
		item   string
		wrong  bool
	}{
		"nodes, for a VM that asks for none":                  {forbidding{empty, kubevirt.Nodes}, plain, false},
		"nodes, for a VM that asks for one":                   {forbidding{empty, kubevirt.Nodes}, pinned, true},
		"identities, for a VM":                                {forbidding{empty, kubevirt.VirtualMachines}, plain, true},
		"identities, for a claim":                             {forbidding{empty, kubevirt.VirtualMachines}, claimed, false},
		"the disks of an instance that its VM starts again":   {disk, started, false},
		"the disks of an instance of its own":                 {disk, own, true},
		"the volume of a claim that names none":               {silent{empty, kubevirt.ID{GroupResource: kubevirt.PersistentVolumes}}, claimed, false},
		"the content of a VM's snapshot":                      {content("roll"), photo, true},
		"the content of a VM's snapshot that has not got one": {content(""), undone, false},
	} {
		t.Run(name, func(t *testing.T) {
			log, _ := logtest.NewNullLogger()
			obj := item(t, c.item)
			resource, _ := kubevirt.ResourceOf(obj.GetAPIVersion(), obj.GetKind())
			id := kubevirt.ID{GroupResource: resource, Namespace: obj.GetNamespace(), Name: obj.GetName()}
			if _, err := NewRun(c.reader, nil, log).Restore(t.Context(), id, obj.DeepCopy().Object, obj.Object, &velerov1.Restore{}); (err != nil) != c.wrong {
				t.Errorf("the error is %v, wanted one: %t", err, c.wrong)
			}
		})
	}
}

// TestWhatAnItemNamesElsewhere: of what is outside of its namespace, only that without which it cannot be used is looked for.
func TestWhatAnItemNamesElsewhere(t *testing.T) {
	vm := item(t, `{apiVersion: kubevirt.io/v1, kind: VirtualMachine, metadata: {namespace: shop, name: web}, spec: {
  instancetype: {kind: VirtualMachineClusterInstancetype, name: large}, preference: {kind: VirtualMachineClusterPreference, name: fedora},
  template: {spec: {priorityClassName: high, networks: [{name: a, multus: {networkName: net/blue}}, {name: b, multus: {networkName: own}}]}}}}`)
	id := kubevirt.ID{GroupResource: kubevirt.VirtualMachines, Namespace: "shop", Name: "web"}
	preference := item(t, `{apiVersion: instancetype.kubevirt.io/v1beta1, kind: VirtualMachineClusterPreference, metadata: {name: fedora}}`)
	const large, blue = "virtualmachineclusterinstancetypes.instancetype.kubevirt.io/large", "network-attachment-definitions.k8s.cni.cncf.io/net/blue"
	for name, c := range map[string]struct {
		spec velerov1.RestoreSpec
		want []string
	}{
		"a restore of the VM's namespace":         {velerov1.RestoreSpec{IncludedNamespaces: []string{"shop"}}, []string{blue, large}},
		"a restore of the network's, too":         {velerov1.RestoreSpec{IncludedNamespaces: []string{"shop", "net"}}, []string{large}},
		"a restore of all":                        {velerov1.RestoreSpec{}, []string{large}},
		"a restore of all but the network's":      {velerov1.RestoreSpec{ExcludedNamespaces: []string{"net"}}, []string{blue, large}},
		"a restore that makes what was elsewhere": {velerov1.RestoreSpec{IncludedNamespaces: []string{"shop"}, NamespaceMapping: map[string]string{"old": "net"}}, []string{large}},
	} {
		t.Run(name, func(t *testing.T) {
			log, _ := logtest.NewNullLogger()
			absent, err := NewRun(cluster.FromObjects([]*unstructured.Unstructured{preference}), nil, log).Absent(t.Context(), id, vm.Object, c.spec)
			var got []string
			for _, neighbour := range absent {
				got = append(got, neighbour.String())
			}
			slices.Sort(got)
			if err != nil || !slices.Equal(got, c.want) {
				t.Errorf("absent: %q, %v, want %q", got, err, c.want)
			}
		})
	}
}

// TestVeleroAsksAboutAVMThatIsHeld: only then does its restore wait.
func TestVeleroAsksAboutAVMThatIsHeld(t *testing.T) {
	vm := item(t, `{apiVersion: kubevirt.io/v1, kind: VirtualMachine, metadata: {namespace: old, name: web}, spec: {runStrategy: Always,
  template: {spec: {volumes: [{name: root, persistentVolumeClaim: {claimName: root}}]}}}}`)
	id := kubevirt.ID{GroupResource: kubevirt.VirtualMachines, Namespace: "old", Name: "web"}
	restore := &velerov1.Restore{Spec: velerov1.RestoreSpec{NamespaceMapping: map[string]string{"old": "shop"}}}
	for phase, want := range map[string]string{"Pending": "shop/web", "Bound": ""} {
		claim := item(t, `{apiVersion: v1, kind: PersistentVolumeClaim, metadata: {namespace: shop, name: root},
  spec: {selector: {matchLabels: {velero.io/dynamic-pv-restore: shop.root}}}, status: {phase: `+phase+`}}`)
		log, _ := logtest.NewNullLogger()
		answer, err := NewRun(cluster.FromObjects([]*unstructured.Unstructured{claim}), nil, log).Restore(t.Context(), id, vm.DeepCopy().Object, vm.Object, restore)
		if err != nil || answer.Operation != want || answer.LeaveOut {
			t.Errorf("its disk is %s: %+v, %v; want to be asked about %q", phase, answer, err, want)
		}
	}
}
