package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"runtime"
	"slices"
	"strings"
	"text/tabwriter"
	"time"

	"velero-plugin-for-kubevirt/tests/bench/snapshots"
)

// What is measured, and with what.
const (
	Backup   = "backup"
	Restore  = "restore"
	Alone    = "alone"  // Velero without a plugin for VMs
	Floor    = "noop"   // with the plugin that does nothing
	Measured = "plugin" // with the plugin to measure
)

// Results are what a run of the bench found.
type Results struct {
	Machine   string  `json:"machine"`
	Spread    bool    `json:"spread"`
	BinaryMB  float64 `json:"binaryMB"`
	Handshake float64 `json:"handshakeMs"`
	Rows      []Row   `json:"rows"`
}

// A Row is one phase with one number of VMs.
type Row struct {
	Date    string              `json:"date"`
	N       int                 `json:"n"`
	Phase   string              `json:"phase"`
	Samples map[string][]Sample `json:"samples"` // by variant
	Summary Summary             `json:"summary"`
}

// A Summary is the medians of a row.
type Summary struct {
	Seconds       map[string]float64 `json:"seconds"` // by variant
	ByAlone       float64            `json:"byAlone"`
	ByFloor       float64            `json:"byNoop"`
	PerVM         float64            `json:"msPerVM"`
	PluginPerVM   float64            `json:"pluginCPUmsPerVM"`
	RequestsPerVM float64            `json:"requestsPerVM"`
	PeakMiB       float64            `json:"peakMiB"`
}

func (r Row) summary() Summary {
	n := float64(r.N)
	return Summary{
		Seconds: map[string]float64{Alone: r.Median(Alone, seconds), Floor: r.Median(Floor, seconds), Measured: r.Median(Measured, seconds)},
		ByAlone: r.Ratio(Alone), ByFloor: r.Ratio(Floor),
		PerVM: 1000 * r.Median(Measured, seconds) / n, PluginPerVM: 1000 * r.Median(Measured, plugin) / n,
		RequestsPerVM: r.Median(Measured, asked) / n, PeakMiB: r.Median(Measured, resident) / (1 << 20),
	}
}

func newResults(ctx context.Context, s *settings) (*Results, error) {
	info, err := os.Stat(s.plugin)
	if err != nil {
		return nil, err
	}
	handshake, err := handshake(ctx, s.plugin)
	if err != nil {
		return nil, err
	}
	machine, err := machine()
	if err != nil {
		return nil, err
	}
	return &Results{
		Machine: machine, Spread: s.spread,
		BinaryMB: float64(info.Size()) / 1e6, Handshake: handshake.Seconds() * 1000,
	}, nil
}

// machine tells what the bench runs on.
func machine() (string, error) {
	info, err := os.ReadFile("/proc/cpuinfo")
	if err != nil {
		return "", err
	}
	model := runtime.GOARCH
	for line := range strings.Lines(string(info)) {
		if key, value, _ := strings.Cut(line, ":"); strings.TrimSpace(key) == "model name" {
			model = strings.TrimSpace(value)
			break
		}
	}
	return fmt.Sprintf("%d × %s", runtime.NumCPU(), model), nil
}

func (r *Results) add(n int, phase, variant string, sample Sample) {
	row := Row{Date: time.Now().UTC().Format(time.DateOnly), N: n, Phase: phase, Samples: map[string][]Sample{}}
	i := slices.IndexFunc(r.Rows, row.sameAs)
	if i < 0 {
		i = len(r.Rows)
		r.Rows = append(r.Rows, row)
	}
	r.Rows[i].Samples[variant] = append(r.Rows[i].Samples[variant], sample)
}

// Ratio is the median over the rounds of what the plugin took by what another variant took in the same round, or in
// its last one.
func (r Row) Ratio(other string) float64 {
	var ratios []float64
	others := r.Samples[other]
	for i, sample := range r.Samples[Measured] {
		ratios = append(ratios, sample.Seconds/others[min(i, len(others)-1)].Seconds)
	}
	return snapshots.Median(ratios)
}

// Median is that of one measure of the samples of a variant.
func (r Row) Median(variant string, of func(Sample) float64) float64 {
	var values []float64
	for _, sample := range r.Samples[variant] {
		values = append(values, of(sample))
	}
	return snapshots.Median(values)
}

func seconds(s Sample) float64  { return s.Seconds }
func plugin(s Sample) float64   { return s.Plugin }
func asked(s Sample) float64    { return float64(s.Requests) }
func resident(s Sample) float64 { return float64(s.Bytes) }

// output prints the results and writes the files that were asked for.
func (r *Results) output(s *settings) error {
	for i := range r.Rows {
		r.Rows[i].Summary = r.Rows[i].summary()
	}
	if s.write != "" {
		if err := r.keep(s.write); err != nil {
			return fmt.Errorf("reading the results of earlier runs: %w", err)
		}
	}
	data, err := s.writeResults(r)
	if err != nil {
		return err
	}
	if s.plot != "" {
		if err := r.plot(s.plot); err != nil {
			return err
		}
	}
	if s.output == "json" {
		_, err := os.Stdout.Write(data)
		return err
	}
	r.print()
	return nil
}

// writeResults returns results as JSON, and writes them into the file that was asked for, if any.
func (s *settings) writeResults(results any) ([]byte, error) {
	data, err := json.MarshalIndent(results, "", "  ")
	if err != nil {
		return nil, err
	}
	data = append(data, '\n')
	if s.write == "" {
		return data, nil
	}
	return data, os.WriteFile(s.write, data, 0o644)
}

// keep adds what earlier runs on this machine have measured and this one has not: all sizes together take an hour.
func (r *Results) keep(path string) error {
	data, err := os.ReadFile(path)
	if errors.Is(err, os.ErrNotExist) {
		return nil
	}
	var earlier Results
	if err == nil {
		err = json.Unmarshal(data, &earlier)
	}
	if err != nil || earlier.Machine != r.Machine || earlier.Spread != r.Spread {
		return err
	}
	for _, row := range earlier.Rows {
		if !slices.ContainsFunc(r.Rows, row.sameAs) {
			r.Rows = append(r.Rows, row)
		}
	}
	slices.SortStableFunc(r.Rows, func(a, b Row) int { return a.N - b.N })
	return nil
}

// sameAs tells whether two rows measure the same.
func (r Row) sameAs(other Row) bool { return r.N == other.N && r.Phase == other.Phase }

func (r *Results) print() {
	fmt.Printf("%s\nbinary %.1f MB, start to handshake %.0f ms\n\n", r.Machine, r.BinaryMB, r.Handshake)
	table := tabwriter.NewWriter(os.Stdout, 0, 0, 2, ' ', tabwriter.AlignRight)
	fmt.Fprintln(table, "phase\tVMs\trounds\talone s\tnoop s\tplugin s\tby alone\tby noop\tms per VM\tplugin CPU ms per VM\trequests per VM\tpeak MiB\tmeasured\t")
	for _, row := range r.Rows {
		sum := row.Summary
		fmt.Fprintf(table, "%s\t%d\t%d\t%.1f\t%.1f\t%.1f\t%.2f\t%.2f\t%.1f\t%.2f\t%.3f\t%.0f\t%s\t\n", row.Phase, row.N, len(row.Samples[Measured]), sum.Seconds[Alone], sum.Seconds[Floor],
			sum.Seconds[Measured], sum.ByAlone, sum.ByFloor, sum.PerVM, sum.PluginPerVM, sum.RequestsPerVM, sum.PeakMiB, row.Date)
	}
	table.Flush()
}

// check fails when a limit is passed.
func (r *Results) check(s *settings) error {
	var errs []error
	for _, row := range r.Rows {
		other := Alone
		if row.Phase == Restore {
			other = Floor // Velero alone restores what KubeVirt makes by itself, too
		}
		if ratio := row.Ratio(other); s.maxRatio > 0 && ratio > s.maxRatio {
			errs = append(errs, fmt.Errorf("a %s of %d VMs takes %.2f times what it takes with %s, more than %.2f", row.Phase, row.N, ratio, other, s.maxRatio))
		}
		perVM := row.Median(Measured, asked) / float64(row.N)
		switch {
		case s.maxRequests == 0 || row.Phase != Backup:
		case perVM == 0:
			errs = append(errs, fmt.Errorf("of a backup of %d VMs the audit log has no API request of the plugin: they are not counted", row.N))
		case perVM > s.maxRequests:
			errs = append(errs, fmt.Errorf("a backup of %d VMs makes %.2f API requests per VM, more than %.2f", row.N, perVM, s.maxRequests))
		}
	}
	return errors.Join(errs...)
}
