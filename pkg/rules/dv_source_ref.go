package rules

import (
	"encoding/json"
	"fmt"

	"k8s.io/apimachinery/pkg/runtime/schema"

	"velero-plugin-for-kubevirt/pkg/kubevirt"
	"velero-plugin-for-kubevirt/pkg/object"
)

// CDI never looks at a DataVolume whose DataSource is missing, finished or not: it stays without a phase, and its VM does not
// start. Where the data of a finished one came from it does not check (CDI 1.65.0, pkg/controller/datavolume/controller-base.go;
// seen on real controllers). KubeVirt puts the DataSource's source into the DataVolumes that it makes from templates (KubeVirt
// 1.8.4, pkg/storage/types/dv.go), so this is about those that people make.
var dvSourceRef = Rule{
	ID:     "dv-source-ref",
	Kinds:  []schema.GroupResource{kubevirt.DataVolumes},
	Phases: []Phase{Backup, Restore},
	Why:    "A finished DataVolume whose DataSource the cluster does not have names what the DataSource stood for: CDI would not look at it.",
	Apply: func(dv map[string]any, in Input) (Result, error) {
		if in.Phase == Restore {
			return resolveSource(dv, in)
		}
		source, err := sourceOf(in.DataSource)
		if err != nil {
			return Result{}, err
		}
		if finished, err := isFinished(dv); err != nil || !finished || source == nil {
			return forgetSource(dv), err
		}
		text, err := json.Marshal(source)
		if err != nil {
			return Result{}, err
		}
		changed, err := object.SetAnnotation(dv, kubevirt.ResolvedSource, string(text))
		if err != nil || !changed {
			return Result{}, err
		}
		return Result{Changes: []Change{{Path: resolvedSourcePath, What: "noted what the DataSource stands for"}}}, nil
	},
}

const resolvedSourcePath = "metadata.annotations[" + kubevirt.ResolvedSource + "]"

// sourceOf returns the disk or snapshot that a DataSource stands for. One that stands for another DataSource has it in its
// status (since CDI 1.63).
func sourceOf(dataSource map[string]any) (map[string]any, error) {
	for _, at := range []string{"spec.source", "status.source"} {
		for _, kind := range []string{"pvc", "snapshot"} {
			place, err := object.Map(dataSource, at+"."+kind)
			if err != nil {
				return nil, fmt.Errorf("reading DataSource %s/%s: %w", object.Namespace(dataSource), object.Name(dataSource), err)
			}
			if place["name"] == nil {
				continue
			}
			namespace := place["namespace"]
			if namespace == nil {
				namespace = object.Namespace(dataSource)
			}
			return map[string]any{kind: map[string]any{"namespace": namespace, "name": place["name"]}}, nil
		}
	}
	return nil, nil
}

// forgetSource removes the note of a source. One that the plugin has not made in this backup is somebody's who may edit DataVolumes: CDI would clone
// for Velero what it does not clone for them.
func forgetSource(dv map[string]any) Result {
	if !object.DeleteAnnotation(dv, kubevirt.ResolvedSource) {
		return Result{}
	}
	return Result{Changes: []Change{{Path: resolvedSourcePath, What: "removed the note of what the DataSource stood for"}}}
}

// resolveSource puts in the source that was noted, when the DataSource is missing, and removes the note. Of an unfinished DataVolume the plugin notes none.
func resolveSource(dv map[string]any, in Input) (Result, error) {
	text := object.Annotation(dv, kubevirt.ResolvedSource)
	result := forgetSource(dv)
	if text == "" {
		return result, nil
	}
	if finished, err := isFinished(in.Original); err != nil || !finished {
		return result, err
	}
	spec, err := object.Map(dv, "spec")
	if err != nil || in.DataSource != nil || spec["sourceRef"] == nil {
		return result, err
	}
	var source map[string]any
	if err := json.Unmarshal([]byte(text), &source); err != nil {
		return Result{}, fmt.Errorf("%s: %w", resolvedSourcePath, err)
	}
	delete(spec, "sourceRef")
	spec["source"] = source
	result.Changes = append(result.Changes,
		Change{Path: "spec.sourceRef", What: "removed the reference to the missing DataSource"},
		Change{Path: "spec.source", What: "named what the missing DataSource stood for"})
	return result, nil
}
