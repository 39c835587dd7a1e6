package cli

import (
	"errors"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	velerov1 "github.com/vmware-tanzu/velero/pkg/apis/velero/v1"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/runtime/schema"

	"velero-plugin-for-kubevirt/pkg/cluster"
	"velero-plugin-for-kubevirt/pkg/kubevirt"
)

// targetOf is a cluster with objects, which serves their resources, but one.
type targetOf struct {
	cluster.Memory
	notServed schema.GroupResource
}

func (c targetOf) Serves(resource schema.GroupResource) (bool, error) {
	if resource == (schema.GroupResource{}) {
		return false, errors.New("no resource")
	}
	return resource != c.notServed, nil
}

// demandingYAML is a backup of a VM that needs something of every kind that a cluster may lack.
const demandingYAML = `
{apiVersion: kubevirt.io/v1, kind: KubeVirt, metadata: {namespace: kubevirt, name: kubevirt}, status: {observedKubeVirtVersion: v1.8.4}}
---
{apiVersion: kubevirt.io/v1, kind: VirtualMachine, metadata: {namespace: shop, name: web, annotations: {velero.kubevirt.io/consistency: offline}}, spec: {runStrategy: Halted, instancetype: {name: large}, template: {spec: {domain: {devices: {}}, nodeSelector: {kubernetes.io/hostname: node-1}, networks: [{name: lan, multus: {networkName: nets/lan}}], volumes: [{name: root, persistentVolumeClaim: {claimName: root}}]}}}}
---
{apiVersion: instancetype.kubevirt.io/v1beta1, kind: VirtualMachineClusterInstancetype, metadata: {name: large}, spec: {}}
---
{apiVersion: v1, kind: PersistentVolumeClaim, metadata: {namespace: shop, name: root, annotations: {velero.io/volume-snapshot-name: snap}}, spec: {storageClassName: fast}}
---
{apiVersion: snapshot.storage.k8s.io/v1, kind: VolumeSnapshot, metadata: {namespace: shop, name: snap}, spec: {volumeSnapshotClassName: csi}, status: {boundVolumeSnapshotContentName: content}}
---
{apiVersion: snapshot.storage.k8s.io/v1, kind: VolumeSnapshotContent, metadata: {name: content}, status: {snapshotHandle: handle}}
`

// completeYAML is a cluster that lacks none of it, but has a storage class of another name, as Velero's ConfigMap says.
const completeYAML = `
{apiVersion: kubevirt.io/v1, kind: KubeVirt, metadata: {namespace: kubevirt, name: kubevirt}, status: {observedKubeVirtVersion: v1.9.0}}
---
{apiVersion: v1, kind: Node, metadata: {name: node-1, labels: {kubernetes.io/hostname: node-1}}}
---
{apiVersion: k8s.cni.cncf.io/v1, kind: NetworkAttachmentDefinition, metadata: {namespace: nets, name: lan}}
---
{apiVersion: instancetype.kubevirt.io/v1beta1, kind: VirtualMachineClusterInstancetype, metadata: {name: large}}
---
{apiVersion: storage.k8s.io/v1, kind: StorageClass, metadata: {name: faster}}
---
{apiVersion: v1, kind: ConfigMap, metadata: {namespace: velero, name: change, labels: {velero.io/plugin-config: "", velero.io/change-storage-class: RestoreItemAction}}, data: {fast: faster}}
---
{apiVersion: snapshot.storage.k8s.io/v1, kind: VolumeSnapshotClass, metadata: {name: csi}}
`

func TestWhatTheClusterLacksIsNamed(t *testing.T) {
	for name, c := range map[string]struct {
		change    *strings.Replacer // of the cluster
		notServed schema.GroupResource
		want      []string
	}{
		"nothing":                {want: nil},
		"its storage class":      {change: strings.NewReplacer("{name: faster}", "{name: slow}"), want: []string{"StorageClass faster"}},
		"the snapshot class":     {change: strings.NewReplacer("name: csi", "name: other"), want: []string{"VolumeSnapshotClass csi"}},
		"its network":            {change: strings.NewReplacer("name: lan", "name: wan"), want: []string{"network-attachment-definitions.k8s.cni.cncf.io/nets/lan"}},
		"its instancetype":       {change: strings.NewReplacer("name: large", "name: small"), want: []string{"virtualmachineclusterinstancetypes.instancetype.kubevirt.io/large"}},
		"its node":               {change: strings.NewReplacer("node-1", "node-2"), want: []string{"a node with kubernetes.io/hostname=node-1"}},
		"a newer KubeVirt":       {change: strings.NewReplacer("v1.9.0", "v1.7.0"), want: []string{"KubeVirt v1.8.4, with which it was backed up: here is v1.7.0"}},
		"a resource":             {notServed: kubevirt.VirtualMachines, want: []string{"the resource virtualmachines.kubevirt.io"}},
		"what nobody knows of":   {change: strings.NewReplacer("v1.9.0", "unknown"), want: nil},
		"the class, but mapping": {change: strings.NewReplacer("fast: faster", "other: faster", "name: faster", "name: fast"), want: nil},
	} {
		t.Run(name, func(t *testing.T) {
			text := completeYAML
			if c.change != nil {
				text = c.change.Replace(text)
			}
			objects, err := cluster.ReadObjects(strings.NewReader(text))
			if err != nil {
				t.Fatal(err)
			}
			v := &verification{backup: &velerov1.Backup{}, contents: mustReadBackup(t, demandingYAML), target: targetOf{cluster.FromObjects(objects), c.notServed}, selector: labels.Everything()}
			v.backup.Namespace = "velero"
			if err := v.look(t.Context()); err != nil {
				t.Fatal(err)
			}
			if len(v.vms) != 1 || v.vms[0].err != nil {
				t.Fatalf("found %+v", v.vms)
			}
			if diff := cmp.Diff(c.want, v.vms[0].lacks); diff != "" {
				t.Error(diff)
			}
		})
	}
}
