package restore

import (
	"context"
	"maps"
	"slices"

	"github.com/sirupsen/logrus"
	velerov1 "github.com/vmware-tanzu/velero/pkg/apis/velero/v1"
	"github.com/vmware-tanzu/velero/pkg/util/collections"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/runtime/schema"

	"velero-plugin-for-kubevirt/pkg/graph"
	"velero-plugin-for-kubevirt/pkg/kubevirt"
	"velero-plugin-for-kubevirt/pkg/object"
	"velero-plugin-for-kubevirt/pkg/rules"
)

// comesWith returns what Velero has to be told of, to have it restored before an item. A restore that selects nothing by label brings
// all that has a namespace by itself, and in its usual order has done so before: what is there is left out, since Velero would read the
// namespace of each once more (Velero 1.18.1, pkg/restore/restore.go, restoreItem).
func (r *Run) comesWith(ctx context.Context, id kubevirt.ID, original map[string]any, restore *velerov1.Restore) ([]kubevirt.ID, error) {
	ids, listed, err := rules.AdditionalItems(original)
	if err != nil {
		return nil, err
	}
	if !listed {
		if ids, err = named(id.GroupResource, original); err != nil {
			return nil, err
		}
	}
	selects := restore.Spec.LabelSelector != nil || len(restore.Spec.OrLabelSelectors) > 0
	// What brings a DataVolume along names its claim, too, if the backup has it.
	chosen := selects && (listed || id.GroupResource != kubevirt.DataVolumes || isSelected(original, restore))
	return slices.DeleteFunc(ids, func(id kubevirt.ID) bool {
		switch {
		case chosen || id.Namespace == "":
			return false
		case !listed:
			return true // Velero warns of what the backup does not have
		}
		id = target(id, restore)
		there, err := graph.MetadataOf(ctx, r.reader, id)
		if err != nil {
			r.log.WithError(err).WithField("neighbour", id.String()).Debug("could not see what has been restored; Velero is told of it")
		}
		return there != nil
	}), nil
}

// isSelected tells whether a restore selects an item by its own labels.
func isSelected(original map[string]any, restore *velerov1.Restore) bool {
	selectors := restore.Spec.OrLabelSelectors
	if restore.Spec.LabelSelector != nil {
		selectors = append(slices.Clone(selectors), restore.Spec.LabelSelector)
	}
	return slices.ContainsFunc(selectors, func(by *metav1.LabelSelector) bool {
		selector, err := metav1.LabelSelectorAsSelector(by)
		return err == nil && selector.Matches(labels.Set(object.Labels(original)))
	})
}

// named returns what an item could not have run without, of its own namespace or cluster-wide: what a backup made without this plugin may well have.
func named(resource schema.GroupResource, original map[string]any) ([]kubevirt.ID, error) {
	neighbours, err := graph.Named(resource, original)
	if err != nil {
		return nil, err
	}
	var ids []kubevirt.ID
	for _, neighbour := range neighbours {
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
		needed := slices.Contains(kubevirt.SharedTypes, neighbour.GroupResource) ||
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
