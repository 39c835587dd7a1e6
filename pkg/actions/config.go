package actions

import (
	"context"
	"fmt"

	"github.com/vmware-tanzu/velero/pkg/plugin/framework/common"

	"velero-plugin-for-kubevirt/pkg/graph"
	"velero-plugin-for-kubevirt/pkg/kubevirt"
	"velero-plugin-for-kubevirt/pkg/object"
	"velero-plugin-for-kubevirt/pkg/options"
)

// pluginConfig selects the plugin's ConfigMap by the labels that Velero has for it (Velero 1.18.1,
// pkg/plugin/framework/common/plugin_config.go).
var pluginConfig = common.PluginConfigLabelSelector(common.PluginKindRestoreItemAction, "velero-plugin-for-kubevirt/restore")

// config returns what the plugin's ConfigMap in Velero's namespace says; nothing when there is none. Two are an error.
func config(ctx context.Context, reader graph.Reader, namespace string) (options.Source, error) {
	source := options.Source{Place: options.InConfig}
	found, err := reader.List(ctx, graph.Query{GroupResource: kubevirt.ConfigMaps, Namespace: namespace, Labels: pluginConfig})
	if err != nil || len(found) == 0 {
		return source, err
	}
	if len(found) > 1 {
		return source, fmt.Errorf("ConfigMaps %s and %s in namespace %s both have the labels %s, remove one", found[0].Name, found[1].Name, namespace, pluginConfig)
	}
	obj, err := reader.Get(ctx, kubevirt.ID{GroupResource: kubevirt.ConfigMaps, Namespace: namespace, Name: found[0].Name})
	if err != nil {
		return source, err
	}
	source.Name = namespace + "/" + found[0].Name
	source.Data = object.TextsAt(obj, "data")
	return source, nil
}
