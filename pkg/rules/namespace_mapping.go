package rules

import (
	"encoding/json"
	"strings"

	"k8s.io/apimachinery/pkg/runtime/schema"

	"velero-plugin-for-kubevirt/pkg/kubevirt"
	"velero-plugin-for-kubevirt/pkg/object"
)

// Velero puts an object into the namespace that its own is mapped to, and leaves alone what the object says about
// namespaces: a VM is then rejected ("Embedded DataVolume namespace differs", KubeVirt 1.9.0,
// pkg/storage/admitters/data-volume-template.go), or uses the network, image or disk of the namespace it came from.
var namespaceMapping = Rule{
	ID: "namespace-mapping",
	Kinds: []schema.GroupResource{
		kubevirt.VirtualMachines, kubevirt.VirtualMachineInstances, kubevirt.VirtualMachineInstanceReplicaSets, kubevirt.VirtualMachinePools,
		kubevirt.DataVolumes, kubevirt.DataSources, kubevirt.PersistentVolumeClaims, kubevirt.VirtualMachineSnapshotContents,
	},
	Phases: []Phase{Restore},
	Why:    "A field that names a mapped namespace names the one it is mapped to: Velero maps only the object's own.",
	Apply: func(obj map[string]any, in Input) (Result, error) {
		var result Result
		if len(in.NamespaceMapping) == 0 {
			return result, nil
		}
		for _, field := range namespaceFields(in.Resource) {
			texts, err := object.Strings(obj, field.path)
			if err != nil {
				return Result{}, err
			}
			for _, text := range texts {
				if mapped := field.rewrite(text.Value, in.NamespaceMapping); mapped != text.Value {
					text.Parent[text.Path[strings.LastIndexByte(text.Path, '.')+1:]] = mapped
					result.Changes = append(result.Changes, Change{Path: text.Path, What: "names the namespace that it is restored into"})
				}
			}
		}
		for _, at := range annotationFields(in.Resource) {
			annotations, err := object.Map(obj, at.path)
			if err != nil {
				return Result{}, err
			}
			value, _ := annotations[at.key].(string)
			if mapped := at.rewrite(value, in.NamespaceMapping); mapped != value {
				annotations[at.key] = mapped
				result.Changes = append(result.Changes, Change{Path: at.path + "[" + at.key + "]", What: "names the namespace that it is restored into"})
			}
		}
		return result, nil
	},
}

type rewriter func(value string, mapping map[string]string) string

type namespaceField struct {
	path, key string // key: of an annotation
	rewrite   rewriter
}

// namespaceFields returns the fields of a kind that hold a namespace.
func namespaceFields(resource schema.GroupResource) []namespaceField {
	var fields []namespaceField
	if vmi := vmiSpec(resource); vmi != "" {
		fields = append(fields, namespaceField{path: vmi + ".networks[].multus.networkName", rewrite: mapSlashed})
	}
	for _, at := range dataVolumeSpecs(resource) {
		for _, source := range []string{"source.pvc", "source.snapshot", "sourceRef", "pvc.dataSourceRef", "storage.dataSourceRef"} {
			fields = append(fields, namespaceField{path: at + source + ".namespace", rewrite: mapWhole})
		}
	}
	if vm := vmSpec(resource); vm != "" {
		fields = append(fields, namespaceField{path: vm + ".dataVolumeTemplates[].metadata.namespace", rewrite: mapWhole})
	}
	switch resource {
	case kubevirt.DataSources:
		for _, source := range []string{"pvc", "snapshot", "dataSource"} {
			fields = append(fields, namespaceField{path: "spec.source." + source + ".namespace", rewrite: mapWhole})
		}
	case kubevirt.VirtualMachineSnapshotContents:
		for _, kept := range []string{"source.virtualMachine", "volumeBackups[].persistentVolumeClaim"} {
			fields = append(fields, namespaceField{path: "spec." + kept + ".metadata.namespace", rewrite: mapWhole})
		}
	case kubevirt.PersistentVolumeClaims:
		fields = append(fields, namespaceField{path: "spec.dataSourceRef.namespace", rewrite: mapWhole})
	}
	return fields
}

// dataVolumeSpecs returns where a kind has the specs of DataVolumes.
func dataVolumeSpecs(resource schema.GroupResource) []string {
	if resource == kubevirt.DataVolumes {
		return []string{"spec."}
	}
	if vm := vmSpec(resource); vm != "" {
		return []string{vm + ".dataVolumeTemplates[].spec."}
	}
	return nil
}

// vmSpec returns where a kind that is, makes or keeps a VirtualMachine has its spec.
func vmSpec(resource schema.GroupResource) string {
	if resource == kubevirt.VirtualMachineSnapshotContents {
		return "spec.source.virtualMachine.spec"
	}
	return kubevirt.VMSpec[resource]
}

// vmiSpec is the same for the spec of a VirtualMachineInstance.
func vmiSpec(resource schema.GroupResource) string {
	if resource == kubevirt.VirtualMachineSnapshotContents {
		return vmSpec(resource) + ".template.spec"
	}
	return kubevirt.VMISpec[resource]
}

// annotationFields returns the annotations of a kind that hold a namespace: of the launcher pod's networks, and of claims that
// CDI fills.
func annotationFields(resource schema.GroupResource) []namespaceField {
	if vmi := vmiSpec(resource); vmi != "" {
		at := strings.TrimSuffix(vmi, "spec") + "metadata.annotations"
		return []namespaceField{
			{at, kubevirt.MultusNetworks, mapNetworks},
			{at, kubevirt.MultusDefaultNetwork, mapNetworks},
		}
	}
	if resource == kubevirt.PersistentVolumeClaims {
		at := "metadata.annotations"
		return []namespaceField{
			{at, kubevirt.CloneRequest, mapSlashed},
			{at, kubevirt.OwnedByDataVolume, mapSlashed},
			{at, kubevirt.EventsSource, mapSlashed},
			{at, kubevirt.DataSourceNamespace, mapWhole},
		}
	}
	return nil
}

func mapWhole(value string, mapping map[string]string) string {
	if mapped := mapping[value]; mapped != "" {
		return mapped
	}
	return value
}

// mapSlashed maps the first part of namespace/name, and leaves a plain name alone.
func mapSlashed(value string, mapping map[string]string) string {
	namespace, name, qualified := strings.Cut(value, "/")
	if !qualified {
		return value
	}
	return mapWhole(namespace, mapping) + "/" + name
}

// mapNetworks maps both forms that Multus has for a list of networks: "name, namespace/name@interface" and JSON. JSON that
// is none is left for Multus to reject.
func mapNetworks(value string, mapping map[string]string) string {
	var list []map[string]any
	if !strings.HasPrefix(strings.TrimSpace(value), "[") {
		var networks []string
		for network := range strings.SplitSeq(value, ",") {
			bare := strings.TrimLeft(network, " ")
			networks = append(networks, network[:len(network)-len(bare)]+mapSlashed(bare, mapping))
		}
		return strings.Join(networks, ",")
	}
	if json.Unmarshal([]byte(value), &list) != nil {
		return value
	}
	changed := false
	for _, network := range list {
		for field, rewrite := range map[string]rewriter{"namespace": mapWhole, "name": mapSlashed} {
			if old, _ := network[field].(string); rewrite(old, mapping) != old {
				network[field], changed = rewrite(old, mapping), true
			}
		}
	}
	mapped, err := json.Marshal(list)
	if err != nil || !changed {
		return value
	}
	return string(mapped)
}
