package rules

import (
	"k8s.io/apimachinery/pkg/runtime/schema"

	"velero-plugin-for-kubevirt/pkg/kubevirt"
	"velero-plugin-for-kubevirt/pkg/object"
)

// CDI signs the permission to clone with a key of its installation and, in the long-lived one, the object's UID. A restored
// token keeps CDI from making a new one and is then found invalid (CDI 1.65.0, pkg/controller/datavolume/clone-controller-base.go,
// pkg/controller/common/util.go).
var cloneToken = Rule{
	ID:     "clone-token",
	Kinds:  []schema.GroupResource{kubevirt.DataVolumes, kubevirt.PersistentVolumeClaims},
	Phases: []Phase{Restore},
	Why:    "The token by which CDI allowed a clone is removed: it is not valid for the restored object, and keeps CDI from making one.",
	Apply: func(obj map[string]any, _ Input) (Result, error) {
		var result Result
		for _, token := range []string{kubevirt.CloneToken, kubevirt.ExtendedCloneToken} {
			if object.DeleteAnnotation(obj, token) {
				result.Changes = append(result.Changes, Change{Path: "metadata.annotations[" + token + "]", What: "removed CDI's clone token"})
			}
		}
		return result, nil
	},
}
