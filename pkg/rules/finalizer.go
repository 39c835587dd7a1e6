package rules

import (
	"slices"

	"k8s.io/apimachinery/pkg/runtime/schema"

	"velero-plugin-for-kubevirt/pkg/kubevirt"
	"velero-plugin-for-kubevirt/pkg/object"
)

// staleFinalizers are those that stand for something which is not restored: an owner, an operation in progress. With it
// gone nobody removes them, and the object, and its namespace, could never be deleted.
var staleFinalizers = map[schema.GroupResource][]string{
	kubevirt.VirtualMachines: {
		// Removed by the pool that owns the VM (KubeVirt 1.8.4, pkg/virt-controller/watch/pool/pool.go; seen on real
		// controllers: the namespace cannot be deleted).
		kubevirt.PoolFinalizer,
		// Removed by the snapshot that the VM's status names (pkg/storage/snapshot/source.go, Unlock).
		kubevirt.SnapshotSourceFinalizer,
	},
	kubevirt.DataVolumes: {
		// Removed by the controller of clones, which looks at no DataVolume whose DataSource is gone (CDI 1.65.0,
		// pkg/controller/datavolume/controller-base.go and clone-controller-base.go).
		kubevirt.CrossNamespaceFinalizer,
	},
	kubevirt.PersistentVolumeClaims: {
		// Removed by the controllers of CDI that fill a PVC, which look at none that has no source any more (CDI 1.65.0,
		// pkg/controller/populators/clone-populator.go, clone-controller.go, import-controller.go).
		kubevirt.ClonePopulatorFinalizer, kubevirt.CloneSourceFinalizer, kubevirt.ImageStreamFinalizer,
		// Removed when a snapshot of the PVC is ready (external-snapshotter 8.7.0,
		// pkg/common-controller/snapshot_controller.go, checkandRemovePVCFinalizer).
		kubevirt.SnapshottedFinalizer,
	},
}

var finalizer = Rule{
	ID:     "finalizer",
	Kinds:  []schema.GroupResource{kubevirt.VirtualMachines, kubevirt.DataVolumes, kubevirt.PersistentVolumeClaims},
	Phases: []Phase{Restore},
	Why:    "Finalizers of pools, snapshots, clones and imports are dropped: nobody would ever remove them from the restored object.",
	Apply: func(obj map[string]any, in Input) (Result, error) {
		metadata, err := object.Map(obj, "metadata")
		if err != nil {
			return Result{}, err
		}
		found, err := object.Strings(obj, "metadata.finalizers[]")
		if err != nil {
			return Result{}, err
		}
		var result Result
		var kept []any
		for _, f := range found {
			if slices.Contains(staleFinalizers[in.Resource], f.Value) {
				result.Changes = append(result.Changes, Change{Path: f.Path, What: "removed a finalizer that nobody would remove"})
			} else {
				kept = append(kept, f.Value)
			}
		}
		switch {
		case len(result.Changes) == 0:
		case len(kept) == 0:
			delete(metadata, "finalizers")
		default:
			metadata["finalizers"] = kept
		}
		return result, nil
	},
}
