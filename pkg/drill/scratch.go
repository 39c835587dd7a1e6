package drill

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"time"

	velerov1 "github.com/vmware-tanzu/velero/pkg/apis/velero/v1"
	"github.com/vmware-tanzu/velero/pkg/label"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"

	"velero-plugin-for-kubevirt/pkg/graph"
	"velero-plugin-for-kubevirt/pkg/kubevirt"
	"velero-plugin-for-kubevirt/pkg/object"
	"velero-plugin-for-kubevirt/pkg/vm"
)

// Annotation is on a scratch namespace, with the drill's ID, and on a Backup, with how its last drill ended.
const Annotation = "velero.kubevirt.io/drill"

// removeLimit is how long the removal of all that a drill made may take.
const removeLimit = 10 * time.Minute

func namespaceID(name string) kubevirt.ID {
	return kubevirt.ID{GroupResource: kubevirt.Namespaces, Name: name}
}

// makeScratch makes the scratch namespace for a backed-up one, and then what cuts it off. One that exists is refused: in the end it would be deleted.
func (r *Run) makeScratch(ctx context.Context, source string) error {
	name := r.Options.Prefix + source
	existing, err := r.Cluster.Now(ctx, namespaceID(name))
	if err != nil {
		return err
	}
	if existing == nil {
		// What Pod Security Admission asks of the namespace decides whether a launcher may run in it.
		labels := map[string]any{}
		for key, value := range object.Labels(r.Namespaces[source]) {
			if strings.HasPrefix(key, "pod-security.kubernetes.io/") {
				labels[key] = value
			}
		}
		existing, err = r.Cluster.Create(ctx, namespaceID(name), map[string]any{
			"apiVersion": "v1", "kind": "Namespace",
			"metadata": map[string]any{"name": name, "labels": labels, "annotations": map[string]any{Annotation: r.ID}},
		})
		if err != nil {
			return err
		}
	}
	switch id := object.Annotation(existing, Annotation); id {
	case r.ID:
	case "":
		return fmt.Errorf("namespace %s exists: the drill would delete it: choose another --prefix", name)
	default:
		return fmt.Errorf("namespace %s is another drill's: wait for it, or delete it if that was interrupted", name)
	}
	policy := kubevirt.ID{GroupResource: kubevirt.NetworkPolicies, Namespace: name, Name: "drill"}
	_, err = r.Cluster.Create(ctx, policy, map[string]any{
		"apiVersion": "networking.k8s.io/v1", "kind": "NetworkPolicy", "metadata": map[string]any{"namespace": name, "name": policy.Name},
		"spec": map[string]any{"podSelector": map[string]any{}, "policyTypes": []any{"Ingress", "Egress"}}, // nothing in, nothing out
	})
	return err
}

// stop removes a VM, with what it made.
func (r *Run) stop(ctx context.Context, id kubevirt.ID) error {
	live, err := r.Cluster.Now(ctx, id)
	if err != nil || live == nil {
		return err
	}
	return r.Cluster.Remove(ctx, id, object.UID(live), metav1.DeletePropagationForeground)
}

// ofTheCluster are the kinds without a namespace of which a restore of a VM may make an object.
var ofTheCluster = []schema.GroupResource{
	kubevirt.VolumeSnapshotContents, kubevirt.ClusterInstancetypes, kubevirt.ClusterPreferences, kubevirt.PriorityClasses,
}

// remove removes everything that the drill made: its namespaces with their volumes, what its Restores made outside of them, and the Restores.
func (r *Run) remove(ctx context.Context, vms []VM) error {
	ctx, cancel := context.WithTimeout(ctx, removeLimit)
	defer cancel()
	var errs []error
	namespaces := map[string]bool{}
	for _, v := range vms {
		namespaces[r.scratch(v.ID).Namespace] = true
	}
	for name := range namespaces {
		errs = append(errs, r.removeNamespace(ctx, name))
	}
	for _, v := range vms {
		id := r.restoreID(v)
		for _, resource := range ofTheCluster {
			errs = append(errs, r.removeLabelled(ctx, resource, velerov1.RestoreNameLabel+"="+label.GetValidName(id.Name)))
		}
		errs = append(errs, r.Cluster.Delete(ctx, id))
	}
	for _, v := range vms { // Velero removes what it keeps about them in the object store first
		errs = append(errs, r.awaitGone(ctx, r.restoreID(v)))
	}
	return errors.Join(errs...)
}

// removeLabelled removes objects without a namespace by their label.
func (r *Run) removeLabelled(ctx context.Context, resource schema.GroupResource, labels string) error {
	found, err := r.Cluster.List(ctx, graph.Query{GroupResource: resource, Labels: labels})
	if err != nil {
		return err
	}
	var errs []error
	for i := range found.All {
		// The content of a restored snapshot has the policy Retain: the snapshot itself is the backup's (Velero 1.18.1,
		// pkg/restore/actions/csi/volumesnapshotcontent_action.go).
		errs = append(errs, r.Cluster.Delete(ctx, kubevirt.ID{GroupResource: resource, Name: found.All[i].Name}))
	}
	return errors.Join(errs...)
}

// removeNamespace removes a scratch namespace and waits until its volumes are gone, also those that would outlive their claims.
func (r *Run) removeNamespace(ctx context.Context, name string) error {
	namespace, err := r.Cluster.Now(ctx, namespaceID(name))
	if err != nil || object.Annotation(namespace, Annotation) != r.ID {
		return err // somebody else's
	}
	var volumes []kubevirt.ID
	err = r.Cluster.Each(ctx, kubevirt.PersistentVolumes, func(pv map[string]any) error {
		claim, err := object.String(pv, "spec.claimRef.namespace")
		if err == nil && claim == name {
			volumes = append(volumes, kubevirt.ID{GroupResource: kubevirt.PersistentVolumes, Name: object.Name(pv)})
		}
		return err
	})
	if err != nil {
		return err
	}
	patch, err := json.Marshal(map[string]any{"spec": map[string]any{"persistentVolumeReclaimPolicy": string(corev1.PersistentVolumeReclaimDelete)}})
	if err != nil {
		return err
	}
	for _, volume := range volumes {
		if err := r.Cluster.Patch(ctx, volume, patch); err != nil && !apierrors.IsNotFound(err) { // it has gone meanwhile
			return err
		}
	}
	if err := r.Cluster.Delete(ctx, namespaceID(name)); err != nil {
		return err
	}
	for _, id := range append([]kubevirt.ID{namespaceID(name)}, volumes...) {
		if err := r.awaitGone(ctx, id); err != nil {
			return err
		}
	}
	return nil
}

func (r *Run) awaitGone(ctx context.Context, id kubevirt.ID) error {
	return vm.Poll(ctx, r.Cluster, id, r.Waiting, func(obj map[string]any) (string, error) {
		if obj == nil {
			return "", nil
		}
		return id.String() + " is being deleted", nil
	})
}
