package restore

import (
	"context"
	"fmt"

	"github.com/vmware-tanzu/velero/pkg/plugin/framework/common"

	"velero-plugin-for-kubevirt/pkg/graph"
	"velero-plugin-for-kubevirt/pkg/kubevirt"
	"velero-plugin-for-kubevirt/pkg/object"
)

// config returns the name and the data of the ConfigMap in Velero's namespace that has Velero's labels for a plugin's
// configuration; nothing when there is none (Velero 1.18.1, pkg/plugin/framework/common/plugin_config.go). Two are an error.
func config(ctx context.Context, reader graph.Reader, namespace, plugin string) (string, map[string]string, error) {
	labels := common.PluginConfigLabelSelector(common.PluginKindRestoreItemAction, plugin)
	found, err := reader.List(ctx, graph.Query{GroupResource: kubevirt.ConfigMaps, Namespace: namespace, Labels: labels})
	if err != nil || len(found.All) == 0 {
		return "", nil, err
	}
	if len(found.All) > 1 {
		return "", nil, fmt.Errorf("ConfigMaps %s and %s in namespace %s both have the labels %s, remove one", found.All[0].Name, found.All[1].Name, namespace, labels)
	}
	obj, err := reader.Get(ctx, kubevirt.ID{GroupResource: kubevirt.ConfigMaps, Namespace: namespace, Name: found.All[0].Name})
	return namespace + "/" + found.All[0].Name, object.TextsAt(obj, "data"), err
}
