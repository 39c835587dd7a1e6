package actions

import (
	"context"
	"slices"

	"github.com/sirupsen/logrus"
	velerov1 "github.com/vmware-tanzu/velero/pkg/apis/velero/v1"
	"github.com/vmware-tanzu/velero/pkg/plugin/velero"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	virtv1 "kubevirt.io/api/core/v1"

	"velero-plugin-for-kubevirt/pkg/consistency"
	"velero-plugin-for-kubevirt/pkg/graph"
	"velero-plugin-for-kubevirt/pkg/kubevirt"
	"velero-plugin-for-kubevirt/pkg/object"
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
	appliesTo func() velero.ResourceSelector
	reader    Reader
	witness   *Witness
	log       logrus.FieldLogger
}

// NewItemBlock returns the action for VMs, VMIs and what brings them or their disks into a backup: whatever is only brought by
// another item is backed up without hooks.
func NewItemBlock(reader Reader, witness *Witness, log logrus.FieldLogger) *ItemBlock {
	selector := resources(kubevirt.VirtualMachines, kubevirt.VirtualMachineInstances, kubevirt.VirtualMachinePools,
		kubevirt.VirtualMachineInstanceReplicaSets, kubevirt.DataVolumes)
	appliesTo := func() velero.ResourceSelector { return witness.unlessPlain(reader, log, selector) }
	return &ItemBlock{appliesTo: appliesTo, reader: reader, witness: witness, log: log}
}

// NewPodItemBlock returns the action for virt-launcher and hotplug pods.
func NewPodItemBlock(reader Reader, witness *Witness, log logrus.FieldLogger) *ItemBlock {
	appliesTo := func() velero.ResourceSelector { return witness.unlessPlain(reader, log, kubevirtPods) }
	return &ItemBlock{appliesTo: appliesTo, reader: reader, witness: witness, log: log}
}

// Name is required by Velero and never called (Velero 1.18.1, pkg/plugin/velero/itemblockaction/v1).
func (b *ItemBlock) Name() string { return "" }

// AppliesTo tells Velero which items to call GetRelatedItems for.
func (b *ItemBlock) AppliesTo() (velero.ResourceSelector, error) { return b.appliesTo(), nil }

// GetRelatedItems returns the members of the item's block that it refers to.
func (b *ItemBlock) GetRelatedItems(u runtime.Unstructured, backup *velerov1.Backup) ([]velero.ResourceIdentifier, error) {
	item, err := newItem(u.UnstructuredContent())
	if err != nil {
		return nil, err
	}
	b.witness.isAsked(item.ID)
	enter(item.Namespace, b.reader, b.witness, b.log, graph.Query{GroupResource: kubevirt.VirtualMachines, Namespace: item.Namespace})
	if item.GroupResource == kubevirt.Pods {
		if err := b.watch(context.Background(), item, backup); err != nil {
			return nil, item.failed("finding the ItemBlock of", err)
		}
	}
	neighbours, err := graph.Neighbours(context.Background(), item.GroupResource, item.obj, b.reader)
	if err != nil {
		return nil, item.failed("finding the ItemBlock of", err)
	}
	accompanied := isMachine(item) || item.GroupResource == kubevirt.DataVolumes
	var members, related []kubevirt.ID
	for _, neighbour := range neighbours {
		switch {
		case neighbour.Absent:
		case slices.Contains(blockMembers, neighbour.GroupResource):
			members = append(members, neighbour.ID)
			related = append(related, neighbour.ID)
		case accompanied && neighbour.Namespace != "" && admits(backup.Spec, neighbour.ID):
			// Velero asks the API server for each additional item that is not in the block, also when it has it already (Velero 1.18.1,
			// pkg/backup/item_backupper.go, executeActions). These do not lead on: VMs that share one are not in one ItemBlock.
			related = append(related, neighbour.ID)
		}
	}
	b.witness.relates(item.ID, members)
	if isMachine(item) {
		b.witness.meets(item.ID, meeting{obj: item.obj, neighbours: neighbours, related: related})
	}
	return toVelero(related), nil
}

// watch notes what Velero does with the disks of a pod that joins the ItemBlock, and for the pod of a launcher what its guest is
// like now, before the hooks.
func (b *ItemBlock) watch(ctx context.Context, item item, backup *velerov1.Backup) error {
	pod, err := as[corev1.Pod](item.obj)
	if err != nil || pod.Status.Phase != corev1.PodRunning {
		return err // nil: its guest has ended
	}
	b.witness.copies(copiesFiles(pod, backup))
	owner := object.Owner(item.obj)
	if owner == nil || owner.Kind != "VirtualMachineInstance" || !takesSnapshots(backup) {
		return nil // it holds hotplugged disks and has no guest, or there is nothing to freeze it for
	}
	instance := kubevirt.ID{GroupResource: kubevirt.VirtualMachineInstances, Namespace: item.Namespace, Name: owner.Name}
	if !b.witness.joins(instance, pod) {
		return nil
	}
	vmi, err := now[virtv1.VirtualMachineInstance](ctx, b.reader, instance)
	if err != nil || vmi == nil || !consistency.HasAgent(vmi) {
		b.witness.looksLike(instance, vmi, nil, nil, err)
		return nil
	}
	info, err := b.reader.GuestInfo(ctx, instance.Namespace, instance.Name)
	if err != nil {
		b.witness.looksLike(instance, vmi, nil, nil, err)
		return nil
	}
	agent, err := as[virtv1.VirtualMachineInstanceGuestAgentInfo](info)
	expected := consistency.Facts{Joined: true, Before: vmi, After: vmi, Agent: agent, Launchers: []consistency.Launcher{{Before: pod}}}
	var q *question
	if err == nil && expected.MayBeFrozen() {
		q = prepare(ctx, b.reader, instance, item.ID)
	}
	b.witness.looksLike(instance, vmi, agent, q, err)
	return nil
}
