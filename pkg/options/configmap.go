package options

import (
	"context"
	"fmt"

	"velero-plugin-for-kubevirt/pkg/graph"
	"velero-plugin-for-kubevirt/pkg/kubevirt"
	"velero-plugin-for-kubevirt/pkg/object"
)

// ReadConfigMap returns the ConfigMap in Velero's namespace that has the labels of a plugin's configuration, by which Velero's
// own plugins find theirs (Velero 1.18.1, pkg/plugin/framework/common/plugin_config.go). It is empty when there is none; two are an error.
func ReadConfigMap(ctx context.Context, reader graph.Reader, namespace, labels string) (Source, error) {
	config := Source{Place: InConfig}
	found, err := reader.List(ctx, graph.Query{GroupResource: kubevirt.ConfigMaps, Namespace: namespace, Labels: labels})
	if err != nil || len(found.All) == 0 {
		return config, err
	}
	if len(found.All) > 1 {
		return config, fmt.Errorf("ConfigMaps %s and %s in namespace %s both have the labels %s, remove one", found.All[0].Name, found.All[1].Name, namespace, labels)
	}
	obj, err := reader.Get(ctx, kubevirt.ID{GroupResource: kubevirt.ConfigMaps, Namespace: namespace, Name: found.All[0].Name})
	config.Name, config.Data = namespace+"/"+found.All[0].Name, object.TextsAt(obj, "data")
	return config, err
}
