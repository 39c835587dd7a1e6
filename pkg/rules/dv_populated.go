package rules

import (
	"k8s.io/apimachinery/pkg/runtime/schema"

	"velero-plugin-for-kubevirt/pkg/kubevirt"
	"velero-plugin-for-kubevirt/pkg/object"
)

// A restored DataVolume has no status, so that CDI would fetch its source again, over or beside the restored disk. The
// annotation tells it that the PVC comes from elsewhere. Of a claim that does not come CDI would wait for ever, or the VM
// start on an empty one. A DataVolume that had not finished, or whose claim is not there, is restored bare: CDI fetches
// it from the start, which is right, whereas annotated it would be called Succeeded without data (CDI 1.65.0,
// pkg/controller/datavolume/controller-base.go; seen on real controllers).
var dvPopulated = Rule{
	ID:     "dv-populated",
	Kinds:  []schema.GroupResource{kubevirt.DataVolumes},
	Phases: []Phase{Restore},
	Why:    "A DataVolume that had finished is marked prePopulated when its disk is there; else CDI fetches its source again, or, if it cannot, it is left out.",
	Apply: func(dv map[string]any, in Input) (Result, error) {
		finished, err := isFinished(in.Original)
		if err != nil || !finished {
			return Result{}, err
		}
		if in.Data == NoData {
			return withoutData(dv, in)
		}
		changed, err := object.SetAnnotation(dv, kubevirt.PrePopulated, object.Name(dv))
		if err != nil || !changed {
			return Result{}, err
		}
		return Result{Changes: []Change{{
			Path: "metadata.annotations[" + kubevirt.PrePopulated + "]",
			What: "marked the finished DataVolume as populated by its restored PVC",
		}}}, nil
	},
}

// withoutData leaves a DataVolume to CDI. A backup of what an earlier restore marked has the mark, too.
func withoutData(dv map[string]any, in Input) (Result, error) {
	spec, err := object.Map(dv, "spec")
	if err != nil {
		return Result{}, err
	}
	refill, err := RefillOf(spec, in.Target.Namespace, in.There)
	if err != nil {
		return Result{}, err
	}
	claim := kubevirt.ID{GroupResource: kubevirt.PersistentVolumeClaims, Namespace: in.Target.Namespace, Name: object.Name(dv)}
	warn := func(what string) Result {
		return Result{Warnings: []Warning{{Path: "spec.source", What: what, Other: claim}}}
	}
	var result Result
	switch refill {
	case BySource:
		result = warn("the data of the DataVolume does not come with this restore: CDI fetches it from its source again")
	case Blank:
		result = warn("the data of the DataVolume does not come with this restore: CDI makes it empty")
	default:
		result = warn("the data of the DataVolume does not come with this restore, and CDI cannot fetch it again")
		result.LeaveOut = "its data does not come with this restore, and CDI cannot fetch it again"
		return result, nil
	}
	if object.DeleteAnnotation(dv, kubevirt.PrePopulated) {
		result.Changes = []Change{{Path: "metadata.annotations[" + kubevirt.PrePopulated + "]", What: "removed the mark of a DataVolume that is populated"}}
	}
	return result, nil
}
