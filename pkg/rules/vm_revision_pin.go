package rules

import (
	"strings"

	"k8s.io/apimachinery/pkg/runtime/schema"

	"velero-plugin-for-kubevirt/pkg/kubevirt"
	"velero-plugin-for-kubevirt/pkg/object"
)

// Since KubeVirt 1.5 the ControllerRevision that holds the VM's copy of its instancetype or preference is named only in the
// status, which Velero drops. Without it KubeVirt takes the type as it is at restore time, silently with other CPU and
// memory, or does not start the VM when the type is gone. A name in the spec wins over the status (KubeVirt 1.9.0,
// pkg/instancetype/find/revision.go). The rule runs in both phases: in the backup so that it restores anywhere, on restore
// for backups made without this plugin.
var vmRevisionPin = Rule{
	ID:     "vm-revision-pin",
	Kinds:  []schema.GroupResource{kubevirt.VirtualMachines},
	Phases: []Phase{Backup, Restore},
	Why:    "The revision of the instancetype and preference that the VM runs with is named in the spec: the status is not restored.",
	Apply: func(vm map[string]any, in Input) (Result, error) {
		var result Result
		for _, matcher := range []string{"instancetype", "preference"} {
			pinned, err := pinRevision(vm, in.Original, matcher)
			if err != nil {
				return Result{}, err
			}
			if pinned {
				result.Changes = append(result.Changes, Change{Path: "spec." + matcher + ".revisionName", What: "named the revision that the status names"})
			}
		}
		return result, nil
	},
}

func pinRevision(vm, original map[string]any, matcher string) (bool, error) {
	spec, err := object.Map(vm, "spec."+matcher)
	if err != nil || spec == nil {
		return false, err
	}
	pinned, err := object.String(vm, "spec."+matcher+".revisionName")
	if err != nil || pinned != "" {
		return false, err
	}
	revision, err := object.String(original, "status."+matcher+"Ref.controllerRevisionRef.name")
	if err != nil || revision == "" {
		return false, err
	}
	// The status still speaks of the old type between a change of the spec and KubeVirt's answer to it; KubeVirt rejects a
	// revision of another type.
	wanted, err := object.String(vm, "spec."+matcher+".name")
	if err != nil {
		return false, err
	}
	current, err := object.String(original, "status."+matcher+"Ref.name")
	if err != nil || (current != "" && !strings.EqualFold(wanted, current)) {
		return false, err
	}
	spec["revisionName"] = revision
	return true, nil
}
