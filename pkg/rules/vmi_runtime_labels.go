package rules

import (
	"k8s.io/apimachinery/pkg/runtime/schema"

	"velero-plugin-for-kubevirt/pkg/kubevirt"
	"velero-plugin-for-kubevirt/pkg/object"
)

// KubeVirt's webhook rejects the creation of a VMI that carries one of its reserved labels: "creation of the following
// reserved kubevirt.io/ labels on a VMI object is prohibited" (KubeVirt 1.9.0,
// pkg/virt-api/webhooks/validating-webhook/admitters/vmi-create-admitter.go).
var vmiRuntimeLabels = Rule{
	ID:     "vmi-runtime-labels",
	Kinds:  []schema.GroupResource{kubevirt.VirtualMachineInstances},
	Phases: []Phase{Restore},
	Why:    "A VirtualMachineInstance of its own loses the labels KubeVirt gave it at run time: KubeVirt rejects it otherwise.",
	Apply: func(vmi map[string]any, _ Input) (Result, error) {
		var result Result
		for _, label := range kubevirt.RuntimeLabels {
			if object.DeleteLabel(vmi, label) {
				result.Changes = append(result.Changes, Change{Path: "metadata.labels[" + label + "]", What: "removed KubeVirt's runtime label"})
			}
		}
		return result, nil
	},
}
