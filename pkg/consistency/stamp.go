package consistency

import (
	"slices"
	"time"

	"velero-plugin-for-kubevirt/pkg/kubevirt"
	"velero-plugin-for-kubevirt/pkg/object"
)

// Stamp writes a verdict into the annotations of a backed-up VM, in place of one from an earlier backup. The VM's owner asks for consistency with the same
// annotation that then holds the verdict; what the owner asked for is kept in velero.kubevirt.io/consistency-policy. The facts tell how long the guest had to
// stay frozen, and together with which group.
func Stamp(vm map[string]any, verdict Verdict, facts Facts) error {
	policy := Policy(vm)
	Clear(vm)
	values := map[string]string{kubevirt.Consistency: string(verdict.Level)}
	if policy != "" {
		values[kubevirt.ConsistencyPolicy] = policy
	}
	if !verdict.Good() {
		values[kubevirt.ConsistencyReason] = string(verdict.Reason())
		values[kubevirt.ConsistencyMessage] = verdict.Message()
	}
	if facts.Window > 0 {
		values[kubevirt.FreezeWindow] = facts.Window.Round(10 * time.Millisecond).String()
	}
	if facts.Together && verdict.Good() {
		values[kubevirt.ConsistencyGroup] = facts.Group
	}
	for key, value := range values {
		if _, err := object.SetAnnotation(vm, key, value); err != nil {
			return err
		}
	}
	return nil
}

// Clear removes a verdict, and nothing that was asked for.
func Clear(vm map[string]any) {
	if isLevel(object.Annotation(vm, kubevirt.Consistency)) {
		object.DeleteAnnotation(vm, kubevirt.Consistency)
	}
	for _, key := range []string{kubevirt.ConsistencyReason, kubevirt.ConsistencyMessage, kubevirt.ConsistencyGroup, kubevirt.FreezeWindow} {
		object.DeleteAnnotation(vm, key)
	}
}

// Policy returns what the owner of a VM asks for, "" when nothing. On a restored VM the annotation may hold a verdict; what was asked for is then in
// velero.kubevirt.io/consistency-policy.
func Policy(vm map[string]any) string {
	if policy := object.Annotation(vm, kubevirt.Consistency); policy != "" && !isLevel(policy) {
		return policy
	}
	return object.Annotation(vm, kubevirt.ConsistencyPolicy)
}

// Stamped returns the verdict that a backed-up VM carries: its level, and what speaks against it. Level is "" when it has none.
func Stamped(vm map[string]any) (Level, string) {
	level := object.Annotation(vm, kubevirt.Consistency)
	if !isLevel(level) {
		return "", ""
	}
	return Level(level), object.Annotation(vm, kubevirt.ConsistencyMessage)
}

func isLevel(value string) bool {
	return slices.Contains([]Level{Offline, Filesystem, Crash}, Level(value))
}
