package rules

import (
	"strconv"
	"strings"

	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime/schema"

	"velero-plugin-for-kubevirt/pkg/kubevirt"
	"velero-plugin-for-kubevirt/pkg/object"
	"velero-plugin-for-kubevirt/pkg/options"
)

// A restored pool makes its VMs anew, numbered from 0, and they take over the restored disks, whose names have the same
// numbers (KubeVirt 1.8.4, pkg/virt-controller/watch/pool/pool.go, calculateNewVMNames and indexVMSpec). Velero restores
// pools before VMs, so whether the pool is there decides. A VM that it does not make – because the pool was not restored,
// or had VMs with higher numbers – comes back as a VM of its own.
var poolVM = Rule{
	ID:     "pool-vm",
	Kinds:  []schema.GroupResource{kubevirt.VirtualMachines},
	Phases: []Phase{Restore},
	Why:    "A VM that its restored VirtualMachinePool makes anew, on the restored disks, is left out: there would be twice as many.",
	Apply: func(vm map[string]any, in Input) (Result, error) {
		if in.Pool == nil {
			return Result{}, nil
		}
		pools, err := options.Pools.Value(in.Restore)
		if err != nil || pools == options.AsVMs {
			return Result{}, err
		}
		replicas, set, err := unstructured.NestedInt64(in.Pool, "spec", "replicas")
		if err != nil {
			return Result{}, err
		}
		if !set {
			replicas = 1
		}
		number, err := strconv.ParseInt(object.Name(vm)[strings.LastIndexByte(object.Name(vm), '-')+1:], 10, 64)
		if err != nil || number >= replicas {
			return Result{}, nil //nolint:nilerr // a name without a number is none that the pool gives
		}
		return Result{LeaveOut: "its VirtualMachinePool makes it anew on the restored disks"}, nil
	},
}
