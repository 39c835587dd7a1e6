// Package actions translates: it decodes an item that Velero hands over, makes one call of pkg/backup or pkg/restore, and encodes the answer. It decides
// nothing and keeps nothing.
package actions

import (
	"fmt"
	"strings"

	"github.com/vmware-tanzu/velero/pkg/plugin/velero"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"

	"velero-plugin-for-kubevirt/pkg/backup"
	"velero-plugin-for-kubevirt/pkg/kubevirt"
	"velero-plugin-for-kubevirt/pkg/object"
)

// kubevirtPods selects the pods of VMs, so that Velero does not call the plugin for any other.
var kubevirtPods = velero.ResourceSelector{
	IncludedResources: []string{kubevirt.Pods.String()},
	LabelSelector:     kubevirt.PodRoleLabel + " in (" + kubevirt.LauncherRole + "," + kubevirt.HotplugRole + ")",
}

// exporters selects the pods and Services that hand out exported disks, cdiPods those in which CDI fills or reads disks.
var (
	exporters = velero.ResourceSelector{
		IncludedResources: []string{kubevirt.Pods.String(), kubevirt.Services.String()},
		LabelSelector:     kubevirt.PodRoleLabel + "=" + kubevirt.ExporterRole,
	}
	cdiPods = velero.ResourceSelector{
		IncludedResources: []string{kubevirt.Pods.String()},
		LabelSelector: kubevirt.CDILabel + "=" + kubevirt.CDILabelValue + "," +
			kubevirt.CDIComponentLabel + " in (" + strings.Join(kubevirt.CDIWorkers, ",") + ")",
	}
)

// ownDataVolumes selects those that KubeVirt did not make from a VM's templates.
var ownDataVolumes = velero.ResourceSelector{IncludedResources: []string{kubevirt.DataVolumes.String()}, LabelSelector: "!" + kubevirt.CreatedByLabel}

// noItems selects nothing: no object has a label and does not have it.
var noItems = velero.ResourceSelector{LabelSelector: kubevirt.PodRoleLabel + ",!" + kubevirt.PodRoleLabel}

// ifItemBlocks returns a selector, or one of no items when no backup needs ItemBlocks.
func ifItemBlocks(run *backup.Run, selector velero.ResourceSelector) velero.ResourceSelector {
	if run.Calls().ItemBlocks {
		return selector
	}
	return noItems
}

func resources(list ...schema.GroupResource) velero.ResourceSelector {
	var names []string
	for _, resource := range list {
		names = append(names, resource.String())
	}
	return velero.ResourceSelector{IncludedResources: names}
}

// decode returns the ID and the content of an item that Velero handed over.
func decode(u runtime.Unstructured) (kubevirt.ID, map[string]any, error) {
	obj := u.UnstructuredContent()
	apiVersion, _ := obj["apiVersion"].(string)
	kind, _ := obj["kind"].(string)
	resource, known := kubevirt.ResourceOf(apiVersion, kind)
	if !known {
		return kubevirt.ID{}, nil, fmt.Errorf("no rules for an item of apiVersion %q, kind %q", apiVersion, kind)
	}
	return kubevirt.ID{GroupResource: resource, Namespace: object.Namespace(obj), Name: object.Name(obj)}, obj, nil
}

func toVelero(ids []kubevirt.ID) []velero.ResourceIdentifier {
	var identifiers []velero.ResourceIdentifier
	for _, id := range ids {
		identifiers = append(identifiers, velero.ResourceIdentifier{GroupResource: id.GroupResource, Namespace: id.Namespace, Name: id.Name})
	}
	return identifiers
}
