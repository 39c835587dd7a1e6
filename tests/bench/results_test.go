package main

import (
	"maps"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

func results(plugin float64, requests int) *Results {
	r := &Results{}
	for _, phase := range []string{Backup, Restore} {
		for _, round := range []float64{1, 10, 2} { // a slow round is slow for all
			r.add(100, phase, Alone, Sample{Seconds: 10 * round})
			r.add(100, phase, Floor, Sample{Seconds: 8 * round})
			r.add(100, phase, Measured, Sample{Seconds: plugin * round, Requests: requests})
		}
	}
	return r
}

func TestRatioIsOfTheSameRound(t *testing.T) {
	if got := results(12, 0).Rows[0].Ratio(Alone); got < 1.19 || got > 1.21 {
		t.Errorf("got %f", got)
	}
}

// TestWrittenResultsKeepOtherSizes: all sizes together take an hour, so one is measured anew by itself.
func TestWrittenResultsKeepOtherSizes(t *testing.T) {
	path := filepath.Join(t.TempDir(), "results.json")
	rows := func(machine string, seconds float64, sizes ...int) (got map[int]float64) {
		r := &Results{Machine: machine}
		for _, n := range sizes {
			for _, variant := range []string{Alone, Floor, Measured} {
				r.add(n, Backup, variant, Sample{Seconds: seconds})
			}
		}
		if err := r.output(&settings{write: path, output: "table"}); err != nil {
			t.Fatal(err)
		}
		got = map[int]float64{}
		for _, row := range r.Rows {
			got[row.N] = row.Summary.Seconds[Measured]
		}
		return got
	}
	rows("one", 10, 200, 800)
	if got, want := rows("one", 20, 200), map[int]float64{200: 20, 800: 10}; !maps.Equal(got, want) {
		t.Errorf("got %v, want %v", got, want)
	}
	if got, want := rows("another", 30, 200), map[int]float64{200: 30}; !maps.Equal(got, want) {
		t.Errorf("on another machine: got %v, want %v", got, want)
	}
}

func TestCheckFailsWhenALimitIsPassed(t *testing.T) {
	for name, limited := range map[string]struct {
		results *Results
		limits  settings
		want    string
	}{
		"fine":     {results(12, 10), settings{maxRatio: 1.6, maxRequests: 0.2}, ""},
		"backup":   {results(17, 10), settings{maxRatio: 1.6}, "a backup of 100 VMs takes 1.70 times what it takes with alone"},
		"restore":  {results(14, 10), settings{maxRatio: 1.6}, "a restore of 100 VMs takes 1.75 times what it takes with noop"},
		"requests": {results(12, 30), settings{maxRequests: 0.2}, "a backup of 100 VMs makes 0.30 API requests per VM"},
		"not seen": {results(12, 0), settings{maxRequests: 0.2}, "has no API request of the plugin"},
	} {
		err := limited.results.check(&limited.limits)
		if (err == nil) != (limited.want == "") || err != nil && !strings.Contains(err.Error(), limited.want) {
			t.Errorf("%s: got %v", name, err)
		}
	}
}

func TestRequestsAreCountedByUserAgent(t *testing.T) {
	log := filepath.Join(t.TempDir(), "audit.log")
	lines := `{"stage":"ResponseComplete","userAgent":"plugin/v1"}` + "\n" + `{"stage":"ResponseStarted","userAgent":"plugin/v1"}` + "\n" +
		`{"stage":"ResponseComplete","userAgent":"velero/v1"}` + "\n"
	if err := os.WriteFile(log, []byte(lines+lines), 0o600); err != nil {
		t.Fatal(err)
	}
	if n, err := requests(log, int64(len(lines)), "plugin/"); n != 1 || err != nil {
		t.Errorf("got %d, %v", n, err)
	}
}
