package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/client-go/tools/clientcmd"
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
func onExistingCluster(ctx context.Context, scenario string) (err error) {
	velero, err := exec.LookPath("velero")
	if err != nil {
		return fmt.Errorf("KUBECONFIG is set, so the demo uses your cluster, and needs your velero command for that: %w", err)
	}
	config, err := clientcmd.NewNonInteractiveDeferredLoadingClientConfig(clientcmd.NewDefaultClientConfigLoadingRules(), nil).ClientConfig()
	if err != nil {
		return fmt.Errorf("reading KUBECONFIG: %w", err)
	}
	namespace := "velero"
	if set := os.Getenv("VELERO_NAMESPACE"); set != "" {
		namespace = set
	}
	site, err := story.NewSite(config, namespace, func(ctx context.Context, args ...string) (string, error) {
		out, err := exec.CommandContext(ctx, velero, append([]string{"--namespace", namespace}, args...)...).CombinedOutput()
		if err != nil {
			return "", fmt.Errorf("velero %s: %w\n%s", strings.Join(args, " "), err, out)
		}
		return string(out), nil
	})
	if err != nil {
		return err
	}
	plugins, err := site.Velero(ctx, "plugin", "get")
	if err != nil {
		return err
	}
	if !strings.Contains(plugins, "velero-plugin-for-kubevirt/") {
		return errors.New("the plugin is not in this cluster's Velero: add it with \"velero plugin add IMAGE\"")
	}
	objects, err := objectsOf(scenario)
	if err != nil {
		return err
	}
	made := madeByPeople(objects)
	for _, obj := range made {
		importNothing(obj)
	}
	defer func() {
		demo := &corev1.Namespace{}
		demo.Name = demoNamespace
		if cleanUp := site.Delete(context.WithoutCancel(ctx), demo); client.IgnoreNotFound(cleanUp) != nil {
			err = errors.Join(err, fmt.Errorf("namespace %s is left in your cluster: %w", demoNamespace, cleanUp))
		}
	}()
	s := stage{site: site}
	if err := s.make(ctx, made); err != nil {
		return err
	}
	return s.tell(ctx, os.Stdout)
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
