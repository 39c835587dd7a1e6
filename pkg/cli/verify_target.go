package cli

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"

	"golang.org/x/mod/semver"
	"k8s.io/apimachinery/pkg/runtime/schema"

	"velero-plugin-for-kubevirt/pkg/graph"
	"velero-plugin-for-kubevirt/pkg/kubevirt"
	"velero-plugin-for-kubevirt/pkg/object"
)

// lacking tells what the cluster lacks for a VM of the backup.
func (v *verification) lacking(ctx context.Context, vm verifiedVM) ([]string, error) {
	var lacks []string
	var errs []error
	add := func(text string) {
		if text != "" && !slices.Contains(lacks, text) {
			lacks = append(lacks, text)
		}
	}
	run, asked := v.restoreRun()
	classes, err := run.StorageClasses(ctx, asked.Namespace)
	errs = append(errs, err)
	for _, id := range vm.leadsTo {
		served, err := v.target.Serves(id.GroupResource)
		errs = append(errs, err)
		if err == nil && !served {
			add("the resource " + id.GroupResource.String())
		}
		obj := v.item(id)
		if obj == nil {
			continue
		}
		absent, err := run.Absent(ctx, id, obj, asked.Spec)
		errs = append(errs, err)
		for _, neighbour := range absent {
			add(neighbour.String())
		}
		text, err := v.lackingStorage(ctx, id, obj, classes)
		errs = append(errs, err)
		add(text)
		for _, applied := range v.changes[id] {
			for _, warning := range applied.Warnings {
				if applied.Rule == "vm-node-pin" {
					add("a node with " + warning.Other.Name)
				}
			}
		}
	}
	for _, operator := range operators {
		text, err := v.older(ctx, vm, operator)
		errs = append(errs, err)
		add(text)
	}
	return lacks, errors.Join(errs...)
}

// lackingStorage names the class of a claim, or of its snapshot, that neither the cluster nor the backup has. Velero gives a claim another storage class as
// its ConfigMap says.
func (v *verification) lackingStorage(ctx context.Context, id kubevirt.ID, claim map[string]any, changed map[string]string) (string, error) {
	if id.GroupResource != kubevirt.PersistentVolumeClaims {
		return "", nil
	}
	name, err := object.String(claim, "spec.storageClassName")
	if err != nil {
		return "", err
	}
	if to := changed[name]; to != "" {
		name = to
	}
	if there, err := v.has(ctx, kubevirt.StorageClasses, name); err != nil || !there {
		return "StorageClass " + name, err
	}
	snapshot := v.item(kubevirt.ID{GroupResource: kubevirt.VolumeSnapshots, Namespace: id.Namespace, Name: object.Annotation(claim, volumeSnapshot)})
	class, err := object.String(snapshot, "spec.volumeSnapshotClassName")
	if err != nil || v.item(kubevirt.ID{GroupResource: kubevirt.VolumeSnapshotClasses, Name: class}) != nil {
		return "", err
	}
	if there, err := v.has(ctx, kubevirt.VolumeSnapshotClasses, class); err != nil || !there {
		return "VolumeSnapshotClass " + class, err
	}
	return "", nil
}

// has tells whether the cluster has an object; nothing is always there.
func (v *verification) has(ctx context.Context, resource schema.GroupResource, name string) (bool, error) {
	if name == "" {
		return true, nil
	}
	obj, err := v.target.Get(ctx, kubevirt.ID{GroupResource: resource, Name: name})
	return obj != nil, err
}

// An operator says in its resource which version of it is installed.
type operator struct {
	name     string
	resource schema.GroupResource
	path     string
}

var operators = []operator{
	{"KubeVirt", kubevirt.KubeVirts, "status.observedKubeVirtVersion"},
	{"CDI", kubevirt.CDIs, "status.observedVersion"},
}

// older tells that the cluster has an older version of an operator than the backup was made with, as far as the backup knows: by the operator's resource, or
// by the launcher that ran the VM.
func (v *verification) older(ctx context.Context, vm verifiedVM, of operator) (string, error) {
	backedUp, err := versionIn(ctx, v.reader, of)
	if backedUp == "" && of.resource == kubevirt.KubeVirts && err == nil {
		instance := v.item(kubevirt.ID{GroupResource: kubevirt.VirtualMachineInstances, Namespace: vm.Namespace, Name: vm.Name})
		backedUp, err = object.String(instance, "status.launcherContainerImageVersion")
		backedUp = backedUp[strings.LastIndex(backedUp, ":")+1:]
	}
	if err != nil || !semver.IsValid(backedUp) {
		return "", err
	}
	here, err := versionIn(ctx, v.target, of)
	if err != nil || !semver.IsValid(here) || semver.Compare(here, backedUp) >= 0 {
		return "", err
	}
	return fmt.Sprintf("%s %s, with which it was backed up: here is %s", of.name, backedUp, here), nil
}

func versionIn(ctx context.Context, reader graph.Reader, of operator) (string, error) {
	found, err := reader.List(ctx, graph.Query{GroupResource: of.resource})
	if err != nil || len(found.All) == 0 {
		return "", err
	}
	obj, err := reader.Get(ctx, kubevirt.ID{GroupResource: of.resource, Namespace: found.All[0].Namespace, Name: found.All[0].Name})
	if err != nil {
		return "", err
	}
	return object.String(obj, of.path)
}
