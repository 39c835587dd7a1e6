// Package snapshots has what the bench found of backups with snapshots: for how long the guests were frozen, and how long the backups took. It measures
// nothing itself.
package snapshots

import (
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"slices"
	"time"
)

// The ways in which VMs are backed up.
const (
	Alone   = "alone"   // by Velero without this plugin
	Ordered = "ordered" // with it: Velero snapshots one disk after the other, and the plugin thaws the guest after the last
	OneCut  = "oneCut"  // with its volume policy: the plugin snapshots all disks of a VM at once
)

// Ways lists them, and says what they are.
var Ways = []struct{ Name, Title string }{{Alone, "Velero alone"}, {Ordered, "this plugin"}, {OneCut, "one cut"}}

// A Case is what is backed up, and by how many of Velero's workers.
type Case struct {
	VMs     int `json:"vms"`
	Disks   int `json:"disks"` // of each VM
	Workers int `json:"workers"`
}

// A Sample is one backup.
type Sample struct {
	Case
	Date    string  `json:"date"`
	Round   int     `json:"round"`
	Way     string  `json:"way"`
	Seconds float64 `json:"seconds"` // from "velero backup create --wait" to its end
	Frozen  float64 `json:"frozen"`  // seconds by the guests' clocks: of several guests the median
	Longest float64 `json:"longest"` // of the guests
}

// A Row is the medians of one case, by way.
type Row struct {
	Phase string `json:"phase"`
	Case
	Seconds map[string]float64 `json:"seconds"`
	Frozen  map[string]float64 `json:"frozenSeconds"`
}

// Results are all samples, and where they come from.
type Results struct {
	Machine  string   `json:"machine"`
	BinaryMB float64  `json:"binaryMB"`
	Rows     []Row    `json:"rows"` // what the samples come to
	Samples  []Sample `json:"samples"`
}

// Add adds a sample.
func (r *Results) Add(s Sample) {
	s.Date = time.Now().UTC().Format(time.DateOnly)
	r.Samples = append(r.Samples, s)
	r.summarize()
}

// Read reads results; there are none when there is no such file.
func Read(path string) (*Results, error) {
	var r Results
	data, err := os.ReadFile(path)
	if errors.Is(err, fs.ErrNotExist) {
		return &r, nil
	}
	if err == nil {
		err = json.Unmarshal(data, &r)
	}
	if err != nil {
		return nil, fmt.Errorf("reading %s: %w", path, err)
	}
	return &r, nil
}

// Keep adds the cases of an earlier run on the same machine that were not measured in this one: all together take more than an hour.
func (r *Results) Keep(earlier *Results) {
	if earlier.Machine != r.Machine {
		return
	}
	measured := r.cases()
	for _, s := range earlier.Samples {
		if !slices.Contains(measured, s.Case) {
			r.Samples = append(r.Samples, s)
		}
	}
	r.summarize()
}

// cases returns the different ones, small ones first.
func (r *Results) cases() []Case {
	different := map[Case]bool{}
	for _, s := range r.Samples {
		different[s.Case] = true
	}
	return slices.SortedFunc(maps.Keys(different), func(a, b Case) int {
		return cmp.Or(a.VMs-b.VMs, a.Disks-b.Disks, a.Workers-b.Workers)
	})
}

func (r *Results) summarize() {
	r.Rows = nil
	for _, c := range r.cases() {
		row := Row{Phase: "snapshots", Case: c, Seconds: map[string]float64{}, Frozen: map[string]float64{}}
		for _, way := range Ways {
			if samples := r.of(c, way.Name); len(samples) > 0 {
				row.Seconds[way.Name] = median(samples, func(s Sample) float64 { return s.Seconds })
				row.Frozen[way.Name] = median(samples, func(s Sample) float64 { return s.Frozen })
			}
		}
		r.Rows = append(r.Rows, row)
	}
}

// of returns the samples of one way, in the order of rounds.
func (r *Results) of(c Case, way string) []Sample {
	samples := slices.DeleteFunc(slices.Clone(r.Samples), func(s Sample) bool { return s.Case != c || s.Way != way })
	slices.SortFunc(samples, func(a, b Sample) int { return a.Round - b.Round })
	return samples
}

// faster returns how many times faster one cut is than Velero alone in the same round, at the median; 0 when one of them was not measured.
func (r *Results) faster(c Case) float64 {
	alone := map[int]float64{}
	for _, s := range r.of(c, Alone) {
		alone[s.Round] = s.Seconds
	}
	return median(r.of(c, OneCut), func(s Sample) float64 { return alone[s.Round] / s.Seconds })
}

// fasterThanDefault returns how many times faster one cut is than Velero alone with one worker, as it is by default; 0 when one of them was not measured.
func (r *Results) fasterThanDefault(c Case) float64 {
	seconds := func(s Sample) float64 { return s.Seconds }
	cut := median(r.of(c, OneCut), seconds)
	if cut == 0 {
		return 0
	}
	return median(r.of(Case{VMs: c.VMs, Disks: c.Disks, Workers: 1}, Alone), seconds) / cut
}

func median(samples []Sample, of func(Sample) float64) float64 {
	var values []float64
	for _, s := range samples {
		values = append(values, of(s))
	}
	return Median(values)
}

// Median sorts values and returns the middle, 0 of none.
func Median(values []float64) float64 {
	slices.Sort(values)
	middle := len(values) / 2
	switch {
	case len(values) == 0:
		return 0
	case len(values)%2 == 0:
		return (values[middle-1] + values[middle]) / 2
	}
	return values[middle]
}
