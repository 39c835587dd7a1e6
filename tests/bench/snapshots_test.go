package main

import (
	"testing"
	"time"

	"k8s.io/apimachinery/pkg/types"

	"velero-plugin-for-kubevirt/tests/cluster"
)

func TestFrozenTimeIsOfOneFreezeOfEachGuest(t *testing.T) {
	begin := time.Now()
	event := func(namespace, name string, action cluster.Action, after time.Duration) cluster.Event {
		return cluster.Event{VMI: types.NamespacedName{Namespace: namespace, Name: name}, Action: action, Time: begin.Add(after)}
	}
	frozen, thawed := event("mine", "vm", cluster.Frozen, time.Second), event("mine", "vm", cluster.Thawed, 3*time.Second)
	others := []cluster.Event{event("mine", "vm", cluster.Frozen, -time.Minute), event("theirs", "vm", cluster.Thawed, time.Second)}
	for name, of := range map[string]struct {
		events []cluster.Event
		want   float64 // 0 for an error
	}{
		"once":       {[]cluster.Event{frozen, thawed}, 2},
		"twice":      {[]cluster.Event{frozen, thawed, frozen, thawed}, 0},
		"by itself":  {[]cluster.Event{frozen, event("mine", "vm", cluster.AutoThawed, 2*time.Second)}, 0},
		"not thawed": {[]cluster.Event{frozen}, 0},
	} {
		got, err := frozenFor(append(others, of.events...), "mine", begin)
		if of.want == 0 && err == nil && len(got) > 0 || of.want > 0 && (err != nil || len(got) != 1 || got[0] != of.want) {
			t.Errorf("%s: got %v, %v", name, got, err)
		}
	}
}
