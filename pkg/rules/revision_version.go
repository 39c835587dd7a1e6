package rules

import (
	"k8s.io/apimachinery/pkg/runtime/schema"
	"kubevirt.io/api/instancetype"
	"kubevirt.io/api/instancetype/v1beta1"

	"velero-plugin-for-kubevirt/pkg/kubevirt"
	"velero-plugin-for-kubevirt/pkg/object"
)

// oldVersions are those that KubeVirt does not know any more since 1.7. Up to 1.6 it converted them to v1beta1, in which every
// field has the name that it had (KubeVirt 1.6, staging/src/kubevirt.io/api/instancetype/v1alpha2/conversion.go).
var oldVersions = map[string]bool{instancetype.GroupName + "/v1alpha1": true, instancetype.GroupName + "/v1alpha2": true}

// The revision of an instancetype holds the whole object, in the version of its day. A newer KubeVirt does not start a VM that
// has one of a version that it does not know. One whose label does not say the latest version it replaces by one of another
// name – also where the VM's spec names it, which the restored one does (KubeVirt 1.8.4, pkg/instancetype/upgrade/handler.go).
var revisionVersion = Rule{
	ID:     "revision-version",
	Kinds:  []schema.GroupResource{kubevirt.ControllerRevisions},
	Phases: []Phase{Restore},
	Why:    "The revision of an instancetype or preference of a version before v1beta1 is brought to that: KubeVirt since 1.7 cannot read the older ones.",
	Apply: func(revision map[string]any, _ Input) (Result, error) {
		version, err := object.String(revision, "data.apiVersion")
		if err != nil {
			return Result{}, err
		}
		kind, err := object.String(revision, "data.kind")
		if err != nil || kind == "" || (!oldVersions[version] && version != v1beta1.SchemeGroupVersion.String()) {
			return Result{}, err
		}
		data, err := object.Map(revision, "data")
		if err != nil {
			return Result{}, err
		}
		var result Result
		if oldVersions[version] {
			data["apiVersion"] = v1beta1.SchemeGroupVersion.String()
			result.Changes = append(result.Changes, Change{Path: "data.apiVersion", What: "brought the revision to a version that KubeVirt still knows"})
		}
		changed, err := object.SetLabel(revision, instancetype.ControllerRevisionObjectVersionLabel, v1beta1.SchemeGroupVersion.Version)
		if err != nil {
			return Result{}, err
		}
		if changed {
			result.Changes = append(result.Changes, Change{
				Path: "metadata.labels[" + instancetype.ControllerRevisionObjectVersionLabel + "]", What: "named the version of the revision",
			})
		}
		return result, nil
	},
}
