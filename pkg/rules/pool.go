package rules

import (
	"k8s.io/apimachinery/pkg/runtime/schema"

	"velero-plugin-for-kubevirt/pkg/kubevirt"
	"velero-plugin-for-kubevirt/pkg/options"
)

// A pool never takes over VMs that it did not make: beside restored ones it would make as many again (KubeVirt 1.8.4,
// pkg/virt-controller/watch/pool/pool.go, execute and scaleOut; seen on real controllers).
var pool = Rule{
	ID:     "pool",
	Kinds:  []schema.GroupResource{kubevirt.VirtualMachinePools},
	Phases: []Phase{Restore},
	Why:    "A VirtualMachinePool is left out when its VMs are asked for instead: it would make as many again.",
	Apply: func(_ map[string]any, in Input) (Result, error) {
		pools, err := options.Pools.Value(in.Restore)
		if err != nil {
			return Result{}, err
		}
		if pools == options.AsVMs {
			return Result{LeaveOut: "its VMs are restored without it, as " + options.Pools.Key + " asks"}, nil
		}
		return Result{}, nil
	},
}
