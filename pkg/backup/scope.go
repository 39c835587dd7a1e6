package backup

import (
	"context"
	"fmt"
	"slices"
	"sync"

	velerov1 "github.com/vmware-tanzu/velero/pkg/apis/velero/v1"
	"github.com/vmware-tanzu/velero/pkg/discovery"
	"github.com/vmware-tanzu/velero/pkg/plugin/framework/common"
	"github.com/vmware-tanzu/velero/pkg/util/boolptr"
	"github.com/vmware-tanzu/velero/pkg/util/collections"

	"velero-plugin-for-kubevirt/pkg/graph"
	"velero-plugin-for-kubevirt/pkg/kubevirt"
	"velero-plugin-for-kubevirt/pkg/options"
)

// A scope is what one Backup takes, read once from its spec.
type scope struct {
	snapshots  bool // it takes snapshots of disks
	allFiles   bool // it copies the files of all volumes that are not excluded
	itemBlocks bool // the plugin has to be asked about ItemBlocks

	policy     policy         // of its volumes
	config     options.Source // the plugin's configuration
	spec       velerov1.BackupSpec
	namespaces *collections.NamespaceIncludesExcludes
	resources  resourceFilter
	named      *collections.IncludesExcludes // the resources that are included by name
	admitted   sync.Map                      // answers, by namespace and resource
}

// A resourceFilter is one of Velero's two: of the older flags, which are for all resources, or of the newer ones, by scope.
type resourceFilter interface {
	ShouldInclude(resource string) bool
	ShouldExclude(resource string) bool
}

// scope returns what a Backup takes.
func (r *Run) scope(backup *velerov1.Backup) (*scope, error) {
	if known, is := r.scopes.Load(backup.UID); is {
		return known.(*scope), nil
	}
	helper, err := r.discovery()
	if err != nil {
		return nil, fmt.Errorf("reading which resources the cluster serves, for the filters of Backup %s/%s: %w", backup.Namespace, backup.Name, err)
	}
	found := newScope(backup, helper)
	if found.policy, err = r.policyOf(backup); err != nil {
		return nil, err
	}
	if found.snapshots {
		labels := common.PluginConfigLabelSelector(common.PluginKindBackupItemAction, "velero-plugin-for-kubevirt/backup")
		if found.config, err = options.ReadConfigMap(context.Background(), r.reader, backup.Namespace, labels); err != nil {
			return nil, err
		}
	}
	known, _ := r.scopes.LoadOrStore(backup.UID, found)
	return known.(*scope), nil
}

func newScope(backup *velerov1.Backup, helper discovery.Helper) *scope {
	spec := backup.Spec
	s := &scope{
		spec: spec, snapshots: takesSnapshots(backup), allFiles: boolptr.IsSetToTrue(spec.DefaultVolumesToFsBackup), itemBlocks: needsItemBlocks(backup),
		namespaces: collections.NewNamespaceIncludesExcludes().Includes(spec.IncludedNamespaces...).Excludes(spec.ExcludedNamespaces...),
		named:      collections.GetResourceIncludesExcludes(helper, slices.Concat(spec.IncludedResources, spec.IncludedClusterScopedResources), nil),
	}
	// As Velero does (Velero 1.18.1, pkg/backup/backup.go, BackupWithResolvers), without what a resource policy includes and excludes: its type is not
	// exported.
	if collections.UseOldResourceFilters(spec) {
		s.resources = collections.GetGlobalResourceIncludesExcludes(helper, silent, spec.IncludedResources, spec.ExcludedResources, spec.IncludeClusterResources, *s.namespaces)
	} else {
		s.resources = collections.GetScopeResourceIncludesExcludes(helper, silent, spec.IncludedNamespaceScopedResources, spec.ExcludedNamespaceScopedResources,
			spec.IncludedClusterScopedResources, spec.ExcludedClusterScopedResources, *s.namespaces)
	}
	return s
}

// takesSnapshots tells whether a backup takes snapshots of disks.
func takesSnapshots(backup *velerov1.Backup) bool {
	return !boolptr.IsSetToFalse(backup.Spec.SnapshotVolumes)
}

// needsItemBlocks tells whether the plugin has to be asked about a backup's ItemBlocks: unless it takes no snapshots, copies no files by default and
// selects nothing by label. Then no guest has to be frozen, whatever has a namespace is in the backup by itself or not at all, and the order of items does
// not matter. One call for a VM is enough, where a backup with snapshots takes nine, each of about 1 ms.
func needsItemBlocks(backup *velerov1.Backup) bool {
	spec := backup.Spec
	return takesSnapshots(backup) || boolptr.IsSetToTrue(spec.DefaultVolumesToFsBackup) || spec.LabelSelector != nil || len(spec.OrLabelSelectors) > 0
}

// takes tells whether an object that exists gets into the backup as an additional item.
func (s *scope) takes(neighbour graph.Neighbour) bool {
	return neighbour.Labels[velerov1.ExcludeFromBackupLabel] != "true" && s.admits(neighbour.ID)
}

// admits tells whether the backup's filters let an additional item in. Velero's function that decides it is not exported, the filters that it asks are
// (Velero 1.18.1, pkg/backup/item_backupper.go, itemInclusionChecks).
func (s *scope) admits(id kubevirt.ID) bool {
	anyName := kubevirt.ID{GroupResource: id.GroupResource, Namespace: id.Namespace}
	admitted, known := s.admitted.Load(anyName)
	if !known {
		admitted = s.decide(id)
		s.admitted.Store(anyName, admitted)
	}
	return admitted.(bool)
}

func (s *scope) decide(id kubevirt.ID) bool {
	resource := id.GroupResource.String()
	switch {
	case id.Namespace != "":
		return s.namespaces.ShouldInclude(id.Namespace) && s.resources.ShouldInclude(resource)
	case slices.Contains(kubevirt.SharedTypes, id.GroupResource) && !s.asksFor(resource):
		return false
	}
	return !s.resources.ShouldExclude(resource)
}

// asksFor tells whether a backup asks for a cluster-wide resource, by name or with all others.
func (s *scope) asksFor(resource string) bool {
	return boolptr.IsSetToTrue(s.spec.IncludeClusterResources) || len(s.named.GetIncludes()) > 0 && s.named.ShouldInclude(resource)
}
