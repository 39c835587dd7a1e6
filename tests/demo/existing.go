package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"path/filepath"
	"slices"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"velero-plugin-for-kubevirt/tests/scenarios"
	"velero-plugin-for-kubevirt/tests/story"
)

func objectsOf(scenario string) ([]*unstructured.Unstructured, error) {
	objects, err := scenarios.Objects(scenario)
	if err != nil {
		return nil, fmt.Errorf("reading the demo's VM from %s: %w", filepath.Clean(scenario), err)
	}
	return objects, nil
}

// onExistingCluster tells the story on the cluster of KUBECONFIG, which has KubeVirt, CDI, a default storage class, and
// Velero with this plugin. There the VM is made by its controllers.
func onExistingCluster(ctx context.Context, scenario string, out io.Writer) (err error) {
	site, _, err := story.Existing(ctx)
	if err != nil {
		return err
	}
	objects, err := objectsOf(scenario)
	if err != nil {
		return err
	}
	made := slices.DeleteFunc(madeByPeople(objects), func(obj *unstructured.Unstructured) bool { return obj.GetKind() == "Namespace" })
	for _, obj := range made {
		importNothing(obj)
	}
	demo := &corev1.Namespace{}
	demo.Name = demoNamespace
	if err := site.Create(ctx, demo); err != nil { // one that is there already is not the demo's to remove
		return fmt.Errorf("creating namespace %s: %w", demoNamespace, err)
	}
	defer func() {
		if cleanUp := site.Delete(context.WithoutCancel(ctx), demo); client.IgnoreNotFound(cleanUp) != nil {
			err = errors.Join(err, fmt.Errorf("namespace %s is left in your cluster: %w", demoNamespace, cleanUp))
		}
	}()
	s := stage{site: site}
	if err := s.make(ctx, made); err != nil {
		return err
	}
	return s.tell(ctx, out)
}

// importNothing makes the disks of a VM blank: the scenario's image is only in the demo's own cluster.
func importNothing(obj *unstructured.Unstructured) {
	templates, _, _ := unstructured.NestedSlice(obj.Object, "spec", "dataVolumeTemplates")
	for _, template := range templates {
		_ = unstructured.SetNestedMap(template.(map[string]any), map[string]any{"blank": map[string]any{}}, "spec", "source") // spec is there
	}
	if templates != nil {
		_ = unstructured.SetNestedSlice(obj.Object, templates, "spec", "dataVolumeTemplates") // it was there
	}
}

// madeByPeople returns the objects that controllers do not make, as a person would write them.
func madeByPeople(objects []*unstructured.Unstructured) []*unstructured.Unstructured {
	var made []*unstructured.Unstructured
	for _, obj := range objects {
		switch obj.GetKind() {
		case "VirtualMachineInstance", "Pod", "PersistentVolume":
			continue
		}
		if len(obj.GetOwnerReferences()) > 0 {
			continue
		}
		obj = obj.DeepCopy()
		obj.SetUID("")
		obj.SetFinalizers(nil)
		unstructured.RemoveNestedField(obj.Object, "status")
		unstructured.RemoveNestedField(obj.Object, "spec", "volumeName")
		unstructured.RemoveNestedField(obj.Object, "spec", "storageClassName")
		unstructured.RemoveNestedField(obj.Object, "spec", "storage", "storageClassName")
		templates, _, _ := unstructured.NestedSlice(obj.Object, "spec", "dataVolumeTemplates")
		for _, template := range templates {
			unstructured.RemoveNestedField(template.(map[string]any), "spec", "storage", "storageClassName")
		}
		if templates != nil {
			_ = unstructured.SetNestedSlice(obj.Object, templates, "spec", "dataVolumeTemplates") // it was there
		}
		made = append(made, obj)
	}
	return made
}
