package actions

import (
	"context"
	"slices"

	"github.com/sirupsen/logrus"
	velerov1 "github.com/vmware-tanzu/velero/pkg/apis/velero/v1"
	"github.com/vmware-tanzu/velero/pkg/plugin/velero"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"

	"velero-plugin-for-kubevirt/pkg/graph"
	"velero-plugin-for-kubevirt/pkg/kubevirt"
)

// blockMembers are the kinds that make up a VM's ItemBlock: its pods, whose hooks freeze and thaw the guest, and all that
// must be snapshotted in between.
var blockMembers = []schema.GroupResource{
	kubevirt.VirtualMachines,
	kubevirt.VirtualMachineInstances,
	kubevirt.Pods,
	kubevirt.PersistentVolumeClaims,
	kubevirt.DataVolumes,
}

// ItemBlock is an ItemBlockAction: it puts a VM, its VMI, its pods and its disks into one ItemBlock, whichever of them
// Velero meets first. Velero runs pod hooks around an ItemBlock, and only for pods that are members of it (Velero 1.18.1,
// pkg/backup/backup.go, backupItemBlock). Velero asks for the related items of related items by itself.
type ItemBlock struct {
	selector velero.ResourceSelector
	reader   graph.Reader
	log      logrus.FieldLogger
}

// NewItemBlock returns the action for VirtualMachines and VirtualMachineInstances.
func NewItemBlock(reader graph.Reader, log logrus.FieldLogger) *ItemBlock {
	selector := resources(kubevirt.VirtualMachines, kubevirt.VirtualMachineInstances)
	return &ItemBlock{selector: selector, reader: reader, log: log}
}

// NewPodItemBlock returns the action for virt-launcher and hotplug pods.
func NewPodItemBlock(reader graph.Reader, log logrus.FieldLogger) *ItemBlock {
	return &ItemBlock{selector: kubevirtPods, reader: reader, log: log}
}

// Name is required by Velero and never called (Velero 1.18.1, pkg/plugin/velero/itemblockaction/v1).
func (b *ItemBlock) Name() string { return "" }

// AppliesTo tells Velero which items to call GetRelatedItems for.
func (b *ItemBlock) AppliesTo() (velero.ResourceSelector, error) { return b.selector, nil }

// GetRelatedItems returns the members of the item's block that it refers to.
func (b *ItemBlock) GetRelatedItems(u runtime.Unstructured, _ *velerov1.Backup) ([]velero.ResourceIdentifier, error) {
	item, err := newItem(u.UnstructuredContent())
	if err != nil {
		return nil, err
	}
	neighbours, err := graph.Neighbours(context.Background(), item.GroupResource, item.obj, b.reader)
	if err != nil {
		return nil, item.failed("finding the ItemBlock of", err)
	}
	var members []kubevirt.ID
	for _, neighbour := range neighbours {
		if !neighbour.Absent && slices.Contains(blockMembers, neighbour.GroupResource) {
			members = append(members, neighbour.ID)
		}
	}
	return toVelero(members), nil
}
