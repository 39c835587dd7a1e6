// Package kubevirt names the KubeVirt, CDI and Kubernetes things this plugin deals in: resources, kinds, labels,
// annotations and item IDs. It holds words, no behaviour.
package kubevirt

import (
	"strings"

	"k8s.io/apimachinery/pkg/runtime/schema"
	"kubevirt.io/api/core"
	"kubevirt.io/api/instancetype"
	cdi "kubevirt.io/containerized-data-importer-api/pkg/apis/core"
)

// The resources the plugin reads, edits or names as additional items.
var (
	VirtualMachines         = schema.GroupResource{Group: core.GroupName, Resource: "virtualmachines"}
	VirtualMachineInstances = schema.GroupResource{Group: core.GroupName, Resource: "virtualmachineinstances"}

	Instancetypes        = schema.GroupResource{Group: instancetype.GroupName, Resource: instancetype.PluralResourceName}
	ClusterInstancetypes = schema.GroupResource{Group: instancetype.GroupName, Resource: instancetype.ClusterPluralResourceName}
	Preferences          = schema.GroupResource{Group: instancetype.GroupName, Resource: instancetype.PluralPreferenceResourceName}
	ClusterPreferences   = schema.GroupResource{Group: instancetype.GroupName, Resource: instancetype.ClusterPluralPreferenceResourceName}

	DataVolumes = schema.GroupResource{Group: cdi.GroupName, Resource: "datavolumes"}

	Pods                   = schema.GroupResource{Resource: "pods"}
	PersistentVolumeClaims = schema.GroupResource{Resource: "persistentvolumeclaims"}
	Secrets                = schema.GroupResource{Resource: "secrets"}
	ConfigMaps             = schema.GroupResource{Resource: "configmaps"}
	ServiceAccounts        = schema.GroupResource{Resource: "serviceaccounts"}
	ControllerRevisions    = schema.GroupResource{Group: "apps", Resource: "controllerrevisions"}
)

// A kind is what an item calls itself: its API group and kind.
type kind struct{ group, kind string }

// kinds lists the items Velero hands to the plugin.
var kinds = map[kind]schema.GroupResource{
	{core.GroupName, "VirtualMachine"}:         VirtualMachines,
	{core.GroupName, "VirtualMachineInstance"}: VirtualMachineInstances,
	{cdi.GroupName, "DataVolume"}:              DataVolumes,
	{"", "PersistentVolumeClaim"}:              PersistentVolumeClaims,
	{"", "Pod"}:                                Pods,
}

// versions gives, for each resource the plugin lists, the API version it is listed in: the one that every supported
// KubeVirt and CDI release serves (KubeVirt 1.3 – 1.9, CDI 1.59 – 1.65).
var versions = map[schema.GroupResource]string{
	VirtualMachines:         "v1",
	VirtualMachineInstances: "v1",
	Instancetypes:           "v1beta1",
	ClusterInstancetypes:    "v1beta1",
	Preferences:             "v1beta1",
	ClusterPreferences:      "v1beta1",
	DataVolumes:             "v1beta1",
	Pods:                    "v1",
	PersistentVolumeClaims:  "v1",
	Secrets:                 "v1",
	ConfigMaps:              "v1",
	ServiceAccounts:         "v1",
	ControllerRevisions:     "v1",
}

// ResourceOf returns the resource of an item by its apiVersion and kind, and false for a kind the plugin has no rule for.
func ResourceOf(apiVersion, kindName string) (schema.GroupResource, bool) {
	group := ""
	if i := strings.LastIndexByte(apiVersion, '/'); i >= 0 {
		group = apiVersion[:i]
	}
	resource, known := kinds[kind{group, kindName}]
	return resource, known
}

// Version returns the API version in which the plugin lists a resource, and false for a resource it never lists.
func Version(resource schema.GroupResource) (string, bool) {
	version, known := versions[resource]
	return version, known
}
