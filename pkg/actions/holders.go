package actions

import (
	"context"
	"slices"

	velerov1 "github.com/vmware-tanzu/velero/pkg/apis/velero/v1"
	"github.com/vmware-tanzu/velero/pkg/label"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/types"

	"velero-plugin-for-kubevirt/pkg/graph"
	"velero-plugin-for-kubevirt/pkg/kubevirt"
	"velero-plugin-for-kubevirt/pkg/rules"
)

// A machine is a VM or VMI of the cluster.
type machine struct {
	kubevirt.ID
	uid, owner types.UID
	marks      []rules.Mark
	ours       bool // made by the restore that is going on
}

// holders reads all VMs and VMIs of the cluster and returns, by what they are known by, those that were not made by the
// restore. A VMI does not carry the restore's label, its VM does; so VMIs are read first: none can belong to a VM that was
// made too late to be read.
func holders(ctx context.Context, reader graph.Reader, restore *velerov1.Restore) (map[rules.Mark][]kubevirt.ID, error) {
	var machines []machine
	ours := map[types.UID]bool{}
	for _, resource := range []schema.GroupResource{kubevirt.VirtualMachineInstances, kubevirt.VirtualMachines} {
		err := reader.Each(ctx, resource, func(obj map[string]any) error {
			found, err := newMachine(resource, obj, restore)
			if err != nil {
				return err
			}
			machines = append(machines, found)
			ours[found.uid] = found.ours
			return nil
		})
		if err != nil {
			return nil, err
		}
	}
	holders := map[rules.Mark][]kubevirt.ID{}
	for _, machine := range slices.Backward(machines) { // a VM before its VMI: people know it better
		if machine.ours || ours[machine.owner] {
			continue
		}
		for _, mark := range machine.marks {
			holders[mark] = append(holders[mark], machine.ID)
		}
	}
	return holders, nil
}

func newMachine(resource schema.GroupResource, obj map[string]any, restore *velerov1.Restore) (machine, error) {
	meta := &unstructured.Unstructured{Object: obj}
	m := machine{
		ID:  kubevirt.ID{GroupResource: resource, Namespace: meta.GetNamespace(), Name: meta.GetName()},
		uid: meta.GetUID(),
		// A Restore may have had the same name before: what was made then is older than this one.
		ours: meta.GetLabels()[velerov1.RestoreNameLabel] == label.GetValidName(restore.Name) &&
			!timeOf(meta).Before(&restore.CreationTimestamp),
	}
	if owner := metav1.GetControllerOf(meta); owner != nil {
		m.owner = owner.UID
	}
	var err error
	if m.marks, err = rules.Marks(resource, obj); err != nil {
		return machine{}, item{ID: m.ID, kind: meta.GetKind(), obj: obj}.failed("reading the identity of", err)
	}
	return m, nil
}

func timeOf(obj metav1.Object) *metav1.Time {
	created := obj.GetCreationTimestamp()
	return &created
}
