package restore

import (
	"context"
	"maps"
	"slices"

	"github.com/sirupsen/logrus"
	velerov1 "github.com/vmware-tanzu/velero/pkg/apis/velero/v1"
	"github.com/vmware-tanzu/velero/pkg/util/collections"
	"k8s.io/apimachinery/pkg/runtime/schema"

	"velero-plugin-for-kubevirt/pkg/graph"
	"velero-plugin-for-kubevirt/pkg/kubevirt"
	"velero-plugin-for-kubevirt/pkg/object"
	"velero-plugin-for-kubevirt/pkg/rules"
)

// notByThemselves returns what Velero has to be told of, to have it restored before an item. A restore that selects nothing by label brings
// all that has a namespace by itself, and in its usual order has done so before: what is there is left out, since Velero would read the
// namespace of each once more (Velero 1.18.1, pkg/restore/restore.go, restoreItem).
func (r *Run) notByThemselves(ctx context.Context, ids []kubevirt.ID, restore *velerov1.Restore) []kubevirt.ID {
	if restore.Spec.LabelSelector != nil || len(restore.Spec.OrLabelSelectors) > 0 {
		return ids
	}
	return slices.DeleteFunc(ids, func(id kubevirt.ID) bool {
		if id.Namespace == "" {
			return false
		}
		id = target(id, restore)
		there, err := graph.MetadataOf(ctx, r.reader, id)
		if err != nil {
			r.log.WithError(err).WithField("neighbour", id.String()).Debug("could not see what has been restored; Velero is told of it")
		}
		return there != nil
	})
}

// inBackup returns the neighbours of a backed-up item that are in the backup: those it lists, or, in a backup made without
// this plugin, those of its namespace that it could not have run without.
func inBackup(resource schema.GroupResource, original map[string]any) ([]kubevirt.ID, error) {
	ids, found, err := rules.AdditionalItems(original)
	if err != nil || found {
		return ids, err
	}
	named, err := graph.Named(resource, original)
	if err != nil {
		return nil, err
	}
	for _, neighbour := range named {
		if !neighbour.Optional && (neighbour.Namespace == "" || neighbour.Namespace == object.Namespace(original)) {
			ids = append(ids, neighbour.ID)
		}
	}
	return ids, nil
}

// warnAbsent warns about what Absent finds.
func (r *Run) warnAbsent(ctx context.Context, id kubevirt.ID, obj map[string]any, target kubevirt.ID, spec velerov1.RestoreSpec) error {
	absent, err := r.Absent(ctx, id, obj, spec)
	for _, neighbour := range absent {
		r.log.WithFields(logrus.Fields{"item": id.String(), "target": target.Namespace + "/" + target.Name, "neighbour": neighbour.String(), "path": neighbour.Path}).
			Warn("the item names an object outside of its namespace that this cluster does not have")
	}
	return err
}

// Absent returns the networks and images of a namespace that is not restored, and the cluster-wide instancetypes and
// preferences, that an item names and the cluster does not have. KubeVirt does not start a VM without its network, and CDI does nothing
// for a DataVolume without its DataSource, finished or not. An instancetype or preference is not needed while the VM's
// revision of it is there.
func (r *Run) Absent(ctx context.Context, id kubevirt.ID, obj map[string]any, spec velerov1.RestoreSpec) ([]graph.Neighbour, error) {
	named, err := graph.Named(id.GroupResource, obj)
	if err != nil {
		return nil, err
	}
	restored := collections.NewIncludesExcludes().Includes(spec.IncludedNamespaces...).Excludes(spec.ExcludedNamespaces...)
	mapped := slices.Collect(maps.Values(spec.NamespaceMapping))
	types, err := graph.ClusterTypes(id.GroupResource, obj)
	if err != nil {
		return nil, err
	}
	var absent []graph.Neighbour
	for _, neighbour := range append(named, types...) {
		needed := neighbour.Namespace == "" && slices.Contains(kubevirt.SharedTypes, neighbour.GroupResource) ||
			neighbour.GroupResource == kubevirt.NetworkAttachmentDefinitions || neighbour.GroupResource == kubevirt.DataSources
		inside := neighbour.Namespace == id.Namespace || slices.Contains(mapped, neighbour.Namespace) || (neighbour.Namespace != "" && restored.ShouldInclude(neighbour.Namespace))
		if !needed || inside {
			continue
		}
		found, err := r.reader.Get(ctx, neighbour.ID)
		if err != nil {
			return absent, err
		}
		if found == nil {
			absent = append(absent, neighbour)
		}
	}
	return absent, nil
}
