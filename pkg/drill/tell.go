package drill

import (
	"context"
	"encoding/json"
	"fmt"
	"strings"
	"time"

	"velero-plugin-for-kubevirt/pkg/kubevirt"
	"velero-plugin-for-kubevirt/pkg/object"
)

// Summary is how a drill ended, in a line: "passed 2026-11-24T02:00:00Z, 12 of 12".
func Summary(results []Result, ended time.Time) (text string, passed bool) {
	good := 0
	for _, result := range results {
		if result.Passed {
			good++
		}
	}
	word := "failed"
	if passed = good == len(results); passed {
		word = "passed"
	}
	return fmt.Sprintf("%s %s, %d of %d", word, ended.UTC().Format(time.RFC3339), good, len(results)), passed
}

// Tell leaves the summary on the Backup, as an annotation and as an Event, which says what went wrong.
func (r *Run) Tell(ctx context.Context, results []Result, ended time.Time) error {
	summary, passed := Summary(results, ended)
	id := kubevirt.ID{GroupResource: kubevirt.VeleroBackups, Namespace: r.Velero, Name: r.Backup}
	backup, err := r.Cluster.Now(ctx, id)
	if err != nil {
		return err
	}
	if backup == nil {
		return fmt.Errorf("%s is gone", id)
	}
	patch, err := json.Marshal(map[string]any{"metadata": map[string]any{"annotations": map[string]any{Annotation: summary}}})
	if err != nil {
		return err
	}
	if err := r.Cluster.Patch(ctx, id, patch); err != nil {
		return err
	}
	kind, reason, message := "Normal", "DrillPassed", summary
	if !passed {
		kind, reason = "Warning", "DrillFailed"
		for _, result := range results {
			if !result.Passed {
				message += "; " + result.VM + ": " + result.Reason
			}
		}
	}
	event := kubevirt.ID{GroupResource: kubevirt.Events, Namespace: r.Velero, Name: r.Backup + "." + r.ID}
	at := ended.UTC().Format(time.RFC3339)
	_, err = r.Cluster.Create(ctx, event, map[string]any{
		"apiVersion": "v1", "kind": "Event", "metadata": map[string]any{"namespace": event.Namespace, "name": event.Name},
		"involvedObject": map[string]any{"apiVersion": backup["apiVersion"], "kind": "Backup", "namespace": id.Namespace, "name": id.Name, "uid": object.UID(backup)},
		"type":           kind, "reason": reason, "message": shorten(message), "count": 1, "firstTimestamp": at, "lastTimestamp": at,
		"source": map[string]any{"component": "velero-plugin-for-kubevirt"},
	})
	return err
}

// longest is how long the message of an Event may be (Kubernetes 1.36, pkg/apis/core/validation/events.go, NoteLengthLimit).
const longest = 1024

func shorten(message string) string {
	message = strings.ToValidUTF8(message, "?")
	if len(message) > longest {
		message = strings.ToValidUTF8(message[:longest-3], "") + "..."
	}
	return message
}
