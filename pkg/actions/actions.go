// Package actions translates between Velero and the rules and the graph. It decides nothing itself, and no other package
// but main knows Velero.
package actions

import (
	"fmt"
	"slices"
	"strings"

	"github.com/sirupsen/logrus"
	velerov1 "github.com/vmware-tanzu/velero/pkg/apis/velero/v1"
	"github.com/vmware-tanzu/velero/pkg/plugin/velero"
	"github.com/vmware-tanzu/velero/pkg/util/boolptr"
	"github.com/vmware-tanzu/velero/pkg/util/collections"
	"k8s.io/apimachinery/pkg/runtime/schema"

	"velero-plugin-for-kubevirt/pkg/kubevirt"
	"velero-plugin-for-kubevirt/pkg/object"
	"velero-plugin-for-kubevirt/pkg/rules"
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

// handled returns the resources, besides pods and DataVolumes, that the backup action is called for: those that the graph leads on from.
// In a plain backup a PVC leads to nothing new and has no snapshot, and the VMI of a VM to nothing that the VM does not lead to.
func handled(needed need) []schema.GroupResource {
	list := []schema.GroupResource{
		kubevirt.VirtualMachines, kubevirt.VirtualMachineInstanceReplicaSets, kubevirt.VirtualMachineInstancePresets, kubevirt.VirtualMachinePools,
		kubevirt.DataSources, kubevirt.VolumeImportSources, kubevirt.OvirtVolumePopulators, kubevirt.OpenstackVolumePopulators,
	}
	switch needed {
	case everything:
		return append(list, kubevirt.VirtualMachineInstances, kubevirt.PersistentVolumeClaims)
	case machinesOnly:
		return append(list, kubevirt.VirtualMachineInstances)
	default:
		return list
	}
}

func resources(list ...schema.GroupResource) velero.ResourceSelector {
	var names []string
	for _, resource := range list {
		names = append(names, resource.String())
	}
	return velero.ResourceSelector{IncludedResources: names}
}

// An item is what Velero handed over.
type item struct {
	kubevirt.ID
	kind string
	obj  map[string]any
}

func newItem(obj map[string]any) (item, error) {
	apiVersion, _ := obj["apiVersion"].(string)
	kind, _ := obj["kind"].(string)
	resource, known := kubevirt.ResourceOf(apiVersion, kind)
	if !known {
		return item{}, fmt.Errorf("no rules for an item of apiVersion %q, kind %q", apiVersion, kind)
	}
	id := kubevirt.ID{GroupResource: resource, Namespace: object.Namespace(obj), Name: object.Name(obj)}
	return item{ID: id, kind: kind, obj: obj}, nil
}

// failed says what went wrong with which item.
func (i item) failed(doing string, err error) error {
	return fmt.Errorf("%s %s %s/%s: %w", doing, i.kind, i.Namespace, i.Name, err)
}

// logApplied writes one line per decision, and for people who debug one per change: a constant message, and what varies as fields.
func logApplied(log logrus.FieldLogger, i item, applied []rules.Applied) {
	for _, a := range applied {
		log := log.WithFields(logrus.Fields{"rule": a.Rule, "item": i.String()})
		for _, change := range a.Changes {
			level := logrus.InfoLevel
			if a.Routine {
				level = logrus.DebugLevel
			}
			log.WithField("path", change.Path).Log(level, change.What)
		}
		for _, warning := range a.Warnings {
			log.WithFields(logrus.Fields{"path": warning.Path, "neighbour": warning.Other.String()}).Warn(warning.What)
		}
		if a.LeaveOut != "" {
			log.WithField("reason", a.LeaveOut).Info("left out of the restore")
		}
	}
}

func toVelero(ids []kubevirt.ID) []velero.ResourceIdentifier {
	var identifiers []velero.ResourceIdentifier
	for _, id := range ids {
		identifiers = append(identifiers, velero.ResourceIdentifier{GroupResource: id.GroupResource, Namespace: id.Namespace, Name: id.Name})
	}
	return identifiers
}

// onRequest are the cluster-wide resources that a VM brings only into a backup that asks for them.
var onRequest = []schema.GroupResource{kubevirt.ClusterInstancetypes, kubevirt.ClusterPreferences}

// admits tells whether the backup's filters let an additional item in, as Velero will decide it (Velero 1.18.1,
// pkg/backup/item_backupper.go, itemInclusionChecks). Resources in a filter may be written as with kubectl: with or without
// their group, in the singular, or short.
// Cluster-wide instancetypes and preferences must be asked for besides: every namespace shares them, and the VM's
// revision is enough to restore it.
func admits(spec velerov1.BackupSpec, id kubevirt.ID) bool {
	included, excluded := spec.IncludedResources, spec.ExcludedResources
	if id.Namespace == "" {
		included = slices.Concat(included, spec.IncludedClusterScopedResources)
		excluded = slices.Concat(excluded, spec.ExcludedClusterScopedResources)
		asked := boolptr.IsSetToTrue(spec.IncludeClusterResources) || names(included, id.GroupResource)
		if boolptr.IsSetToFalse(spec.IncludeClusterResources) || (slices.Contains(onRequest, id.GroupResource) && !asked) {
			return false
		}
		return !names(excluded, id.GroupResource)
	}
	included = slices.Concat(included, spec.IncludedNamespaceScopedResources)
	excluded = slices.Concat(excluded, spec.ExcludedNamespaceScopedResources)
	namespaces := collections.NewIncludesExcludes().Includes(spec.IncludedNamespaces...).Excludes(spec.ExcludedNamespaces...)
	if !namespaces.ShouldInclude(id.Namespace) {
		return false
	}
	return (len(included) == 0 || names(included, id.GroupResource)) && !names(excluded, id.GroupResource)
}

// shortNames are those that kubectl and Velero know, of the resources that VMs refer to.
var shortNames = map[string]schema.GroupResource{
	"cm": kubevirt.ConfigMaps, "dv": kubevirt.DataVolumes, "dvs": kubevirt.DataVolumes, "das": kubevirt.DataSources,
	"net-attach-def": kubevirt.NetworkAttachmentDefinitions, "pc": kubevirt.PriorityClasses, "po": kubevirt.Pods,
	"pvc": kubevirt.PersistentVolumeClaims, "sa": kubevirt.ServiceAccounts, "vm": kubevirt.VirtualMachines, "vms": kubevirt.VirtualMachines,
	"vmi": kubevirt.VirtualMachineInstances, "vmis": kubevirt.VirtualMachineInstances, "vs": kubevirt.VolumeSnapshots,
}

func names(filter []string, resource schema.GroupResource) bool {
	for _, name := range filter {
		name = strings.ToLower(name)
		singular := strings.TrimSuffix(resource.Resource, "s")
		if name == "*" || name == resource.String() || name == resource.Resource || name == singular || shortNames[name] == resource {
			return true
		}
	}
	return false
}
