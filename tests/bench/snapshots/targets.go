package snapshots

import (
	"errors"
	"fmt"
	"slices"
)

// A target is what a case must reach.
type target struct {
	what    string
	of      Case
	measure func(*Results, Case) float64
	limit   float64
	atLeast bool // else at most
}

var targets = []target{
	{"seconds frozen, one cut", Case{VMs: 1, Disks: 1, Workers: 1}, frozen(OneCut), 0.25, false},
	{"seconds frozen, one cut", Case{VMs: 1, Disks: 8, Workers: 1}, frozen(OneCut), 0.5, false},
	{"seconds frozen, without the policy", Case{VMs: 1, Disks: 1, Workers: 1}, frozen(Ordered), 0.5, false},
	{"times faster than Velero alone, one cut", Case{VMs: 10, Disks: 2, Workers: 1}, (*Results).faster, 10, true},
	{"times faster than Velero alone with its default of one worker, one cut", Case{VMs: 50, Disks: 2, Workers: 8}, (*Results).fasterThanDefault, 15, true},
}

// maxBinaryMB is how large the plugin may be.
const maxBinaryMB = 60

func frozen(way string) func(*Results, Case) float64 {
	return func(r *Results, c Case) float64 {
		return median(r.of(c, way), func(s Sample) float64 { return s.Frozen })
	}
}

// A judgement tells whether a target is met.
type judgement struct {
	text string
	met  bool
}

// judge compares the cases that were measured with their targets.
func (r *Results) judge() []judgement {
	judgements := []judgement{{fmt.Sprintf("the binary has %.1f MB, at most %d", r.BinaryMB, maxBinaryMB), r.BinaryMB <= maxBinaryMB}}
	measured := r.cases()
	for _, t := range targets {
		if !slices.Contains(measured, t.of) {
			continue
		}
		value, bound := t.measure(r, t.of), "at most"
		met := value <= t.limit
		if t.atLeast {
			bound, met = "at least", value >= t.limit
		}
		text := fmt.Sprintf("%d VMs, %d disks of each, %d workers: %.2f %s, %s %v", t.of.VMs, t.of.Disks, t.of.Workers, value, t.what, bound, t.limit)
		judgements = append(judgements, judgement{text, met})
	}
	return judgements
}

// Check fails when a target is missed.
func (r *Results) Check() error {
	var errs []error
	for _, j := range r.judge() {
		if !j.met {
			errs = append(errs, errors.New(j.text))
		}
	}
	return errors.Join(errs...)
}
