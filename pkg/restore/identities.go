package restore

import (
	"context"
	"slices"

	velerov1 "github.com/vmware-tanzu/velero/pkg/apis/velero/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/types"

	"velero-plugin-for-kubevirt/pkg/graph"
	"velero-plugin-for-kubevirt/pkg/kubevirt"
	"velero-plugin-for-kubevirt/pkg/object"
	"velero-plugin-for-kubevirt/pkg/rules"
)

// A guest is a VM or VMI of the cluster, with what identifies it.
type guest struct {
	kubevirt.ID
	uid, owner        types.UID
	identifiers       []rules.Identifier
	madeByThisRestore bool
}

// identityOwners reads all VMs and VMIs of the cluster and returns, by identifier, those that this restore has not made. A VMI does not carry the restore's
// label, its VM does; so VMIs are read first: none can belong to a VM that was made too late to be read.
func identityOwners(ctx context.Context, reader graph.Reader, restore *velerov1.Restore) (map[rules.Identifier][]kubevirt.ID, error) {
	var guests []guest
	madeByThisRestore := map[types.UID]bool{}
	for _, resource := range []schema.GroupResource{kubevirt.VirtualMachineInstances, kubevirt.VirtualMachines} {
		err := reader.Each(ctx, resource, func(obj map[string]any) error {
			found, err := newGuest(resource, obj, restore)
			if err != nil {
				return err
			}
			guests = append(guests, found)
			madeByThisRestore[found.uid] = found.madeByThisRestore
			return nil
		})
		if err != nil {
			return nil, err
		}
	}
	owners := map[rules.Identifier][]kubevirt.ID{}
	for _, guest := range slices.Backward(guests) { // a VM before its VMI: people know it better
		if guest.madeByThisRestore || madeByThisRestore[guest.owner] {
			continue
		}
		for _, identifier := range guest.identifiers {
			owners[identifier] = append(owners[identifier], guest.ID)
		}
	}
	return owners, nil
}

func newGuest(resource schema.GroupResource, obj map[string]any, restore *velerov1.Restore) (guest, error) {
	meta := &unstructured.Unstructured{Object: obj}
	g := guest{
		ID:  kubevirt.ID{GroupResource: resource, Namespace: meta.GetNamespace(), Name: meta.GetName()},
		uid: meta.GetUID(), madeByThisRestore: madeBy(obj, restore),
	}
	if owner := metav1.GetControllerOf(meta); owner != nil {
		g.owner = owner.UID
	}
	var err error
	if g.identifiers, err = rules.Identifiers(resource, obj); err != nil {
		return guest{}, object.Failed(obj, "reading the identity of", err)
	}
	return g, nil
}
