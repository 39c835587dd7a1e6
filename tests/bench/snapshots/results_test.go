package snapshots

import (
	"encoding/json"
	"os"
	"strings"
	"testing"
)

// results are of three rounds of a case. A slow round is slow for all.
func results(c Case, alone, ordered, oneCut Sample) *Results {
	r := &Results{Machine: "here", BinaryMB: 45}
	for round, slow := range []float64{1, 10, 2} {
		for way, sample := range map[string]Sample{Alone: alone, Ordered: ordered, OneCut: oneCut} {
			r.Add(Sample{Case: c, Round: round, Way: way, Seconds: slow * sample.Seconds, Frozen: slow * sample.Frozen})
		}
	}
	return r
}

func TestRowsAreMedians(t *testing.T) {
	r := results(Case{VMs: 1, Disks: 2, Workers: 8}, Sample{Seconds: 8, Frozen: 4}, Sample{Seconds: 6, Frozen: 3}, Sample{Seconds: 0.5, Frozen: 0.25})
	got, err := json.Marshal(r.Rows)
	want := `[{"phase":"snapshots","vms":1,"disks":2,"workers":8,"seconds":{"alone":16,"oneCut":1,"ordered":12},"frozenSeconds":{"alone":8,"oneCut":0.5,"ordered":6}}]`
	if err != nil || string(got) != want {
		t.Errorf("got %s, %v", got, err)
	}
	if line := strings.Join(r.lines()[1], " "); !strings.Contains(line, "1 2 8 3 8.00 s 6.00 s 0.50 s 16.0 s 12.0 s 1.0 s 16.0") {
		t.Errorf("the table says %s", line)
	}
}

// both are results of 50 VMs: Velero alone with one worker, and one cut with eight.
func both(alone, oneCut float64) *Results {
	r := &Results{Machine: "here", BinaryMB: 45}
	r.Add(Sample{Case: Case{VMs: 50, Disks: 2, Workers: 1}, Way: Alone, Seconds: alone})
	r.Add(Sample{Case: Case{VMs: 50, Disks: 2, Workers: 8}, Way: OneCut, Seconds: oneCut})
	return r
}

func TestTargetsAreOfTheSameRound(t *testing.T) {
	small, ten := Case{VMs: 1, Disks: 1, Workers: 1}, Case{VMs: 10, Disks: 2, Workers: 1}
	frozen := func(seconds float64) Sample { return Sample{Seconds: 1, Frozen: seconds} }
	took := func(seconds float64) Sample { return Sample{Seconds: seconds} }
	large := results(small, frozen(1), frozen(0.1), frozen(0.1))
	large.BinaryMB = 60.1
	for name, of := range map[string]struct {
		results *Results
		want    string
	}{
		"fine":                 {results(small, frozen(1), frozen(0.25), frozen(0.125)), ""},
		"one cut too long":     {results(small, frozen(1), frozen(0.25), frozen(0.15)), "1 VMs, 1 disks of each, 1 workers: 0.30 seconds frozen, one cut, at most 0.25"},
		"no policy, too long":  {results(small, frozen(1), frozen(0.3), frozen(0.1)), "0.60 seconds frozen, without the policy, at most 0.5"},
		"fast":                 {results(ten, took(100), took(100), took(10)), ""},
		"not much faster":      {results(ten, took(100), took(100), took(12.5)), "10 VMs, 2 disks of each, 1 workers: 8.00 times faster than Velero alone, one cut, at least 10"},
		"fast with workers":    {both(600, 40), ""},
		"slow with workers":    {both(600, 50), "50 VMs, 2 disks of each, 8 workers: 12.00 times faster than Velero alone with its default of one worker, one cut, at least 15"},
		"no default measured":  {results(Case{VMs: 50, Disks: 2, Workers: 8}, took(100), took(100), took(1)), "0.00 times faster than Velero alone with its default of one worker"},
		"the plugin too large": {large, "the binary has 60.1 MB, at most 60"},
	} {
		err := of.results.Check()
		if (err == nil) != (of.want == "") || err != nil && !strings.Contains(err.Error(), of.want) {
			t.Errorf("%s: got %v", name, err)
		}
	}
}

// TestCasesThatWereNotMeasuredAreKept: all together take more than an hour, so some are measured by themselves.
func TestCasesThatWereNotMeasuredAreKept(t *testing.T) {
	one, two := Case{VMs: 1, Disks: 1, Workers: 1}, Case{VMs: 1, Disks: 2, Workers: 1}
	earlier := results(one, Sample{Seconds: 1}, Sample{Seconds: 1}, Sample{Seconds: 1})
	earlier.Add(Sample{Case: two, Way: Alone, Seconds: 5})
	now := results(one, Sample{Seconds: 3}, Sample{Seconds: 3}, Sample{Seconds: 3})
	now.Keep(earlier)
	if len(now.Rows) != 2 || now.Rows[0].Seconds[Alone] != 6 || now.Rows[1].Seconds[Alone] != 5 {
		t.Errorf("got %+v", now.Rows)
	}
	elsewhere := &Results{Machine: "elsewhere"}
	if elsewhere.Keep(earlier); len(elsewhere.Rows) != 0 {
		t.Errorf("on another machine: got %+v", elsewhere.Rows)
	}
}

// TestThePlotIsCurrent: "make bench SNAPSHOTS=1 WRITE=1" writes both.
func TestThePlotIsCurrent(t *testing.T) {
	r, err := Read("results.json")
	if err != nil {
		t.Fatal(err)
	}
	plot, err := os.ReadFile("frozen.svg")
	if err != nil {
		t.Fatal(err)
	}
	if len(r.Rows) == 0 || string(plot) != r.Plot() {
		t.Errorf("frozen.svg is not the plot of results.json, which has %d rows", len(r.Rows))
	}
}
