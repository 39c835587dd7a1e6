package rules

import (
	"k8s.io/apimachinery/pkg/runtime/schema"

	"velero-plugin-for-kubevirt/pkg/kubevirt"
	"velero-plugin-for-kubevirt/pkg/object"
	"velero-plugin-for-kubevirt/pkg/options"
)

// A VM that ran when it was backed up starts as soon as it is restored. Not everybody wants that, in a rehearsal say.
// KubeVirt does not take a run strategy beside the older field running (KubeVirt 1.9.0,
// pkg/virt-api/webhooks/validating-webhook/admitters/vms-admitter.go).
var vmRunStrategy = Rule{
	ID:     "vm-run-strategy",
	Kinds:  []schema.GroupResource{kubevirt.VirtualMachines, kubevirt.VirtualMachinePools},
	Phases: []Phase{Restore},
	Why:    "The VM gets the run strategy that the Restore asks for.",
	Apply: func(vm map[string]any, in Input) (Result, error) {
		asked, err := options.RunStrategy.Value(in.Restore)
		if err != nil || asked == "" {
			return Result{}, err
		}
		path := kubevirt.VMSpec[in.Resource]
		spec, err := object.Map(vm, path)
		if err != nil || spec == nil || spec["runStrategy"] == asked {
			return Result{}, err
		}
		changes := []Change{{Path: path + ".runStrategy", What: "set the run strategy that the Restore asks for"}}
		spec["runStrategy"] = asked
		return Result{Changes: append(changes, withoutRunning(spec, path)...)}, nil
	},
}

// withoutRunning removes the older field, which a run strategy takes the place of, from a VM's spec.
func withoutRunning(spec map[string]any, path string) []Change {
	if _, set := spec["running"]; !set {
		return nil
	}
	delete(spec, "running")
	return []Change{{Path: path + ".running", What: "removed for the run strategy"}}
}
