package rules

import (
	"regexp"

	"k8s.io/apimachinery/pkg/runtime/schema"

	"velero-plugin-for-kubevirt/pkg/kubevirt"
	"velero-plugin-for-kubevirt/pkg/object"
)

// bySource is how CDI names the source that it makes for a DataVolume: by the DataVolume's UID, which a restored one has not
// (CDI 1.65.0, pkg/controller/datavolume, volume{Import,Upload,Clone}SourceName).
var bySource = regexp.MustCompile(`^volume-(import|upload|clone)-source-[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$`)

var populatorSource = Rule{
	ID:     "populator-source",
	Kinds:  []schema.GroupResource{kubevirt.VolumeImportSources, kubevirt.VolumeUploadSources, kubevirt.VolumeCloneSources},
	Phases: []Phase{Restore},
	Why:    "The source that CDI made for a DataVolume is left out: CDI makes one for the restored DataVolume, if it needs one.",
	Apply: func(source map[string]any, _ Input) (Result, error) {
		if bySource.MatchString(object.Name(source)) {
			return Result{LeaveOut: "CDI makes a new one for the restored DataVolume"}, nil
		}
		return Result{}, nil
	},
}
