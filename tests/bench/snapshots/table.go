package snapshots

import (
	"fmt"
	"io"
	"strings"
	"text/tabwriter"
)

// lines are the table of all cases.
func (r *Results) lines() [][]string {
	header := []string{"VMs", "disks of each", "workers", "rounds"}
	for _, what := range []string{"frozen, ", "backup, "} {
		for _, way := range Ways {
			header = append(header, what+way.Title)
		}
	}
	lines := [][]string{append(header, "× faster", "measured")}
	for _, row := range r.Rows {
		cut := r.of(row.Case, OneCut)
		line := []string{fmt.Sprint(row.VMs), fmt.Sprint(row.Disks), fmt.Sprint(row.Workers), fmt.Sprint(len(cut))}
		for _, way := range Ways {
			line = append(line, fmt.Sprintf("%.2f s", row.Frozen[way.Name]))
		}
		for _, way := range Ways {
			line = append(line, fmt.Sprintf("%.1f s", row.Seconds[way.Name]))
		}
		date := ""
		if len(cut) > 0 {
			date = cut[len(cut)-1].Date
		}
		lines = append(lines, append(line, fmt.Sprintf("%.1f", r.faster(row.Case)), date))
	}
	return lines
}

// Table returns the results as Markdown.
func (r *Results) Table() string {
	var text strings.Builder
	fmt.Fprintf(&text, "%s, medians; binary %.1f MB:\n\n", r.Machine, r.BinaryMB)
	for n, line := range r.lines() {
		fmt.Fprintf(&text, "| %s |\n", strings.Join(line, " | "))
		if n == 0 {
			fmt.Fprintln(&text, "|"+strings.Repeat("---|", len(line)))
		}
	}
	return text.String()
}

// Summary returns what most people ask of the results, as Markdown.
func (r *Results) Summary() string {
	var text strings.Builder
	text.WriteString("| |")
	for _, way := range Ways {
		text.WriteString(" " + way.Title + " |")
	}
	text.WriteString("\n|---|" + strings.Repeat("---|", len(Ways)) + "\n")
	frozen := func(r Row) map[string]float64 { return r.Frozen }
	took := func(r Row) map[string]float64 { return r.Seconds }
	for _, line := range []struct {
		what     string
		of       Case
		measured func(Row) map[string]float64
	}{
		{"frozen, 1 disk", Case{VMs: 1, Disks: 1, Workers: 1}, frozen},
		{"frozen, 8 disks", Case{VMs: 1, Disks: 8, Workers: 1}, frozen},
		{"backup, 10 VMs × 2 disks", Case{VMs: 10, Disks: 2, Workers: 1}, took},
		{"backup, 50 VMs × 2 disks, 8 workers", Case{VMs: 50, Disks: 2, Workers: 8}, took},
	} {
		for _, row := range r.Rows {
			if row.Case != line.of {
				continue
			}
			fmt.Fprintf(&text, "| %s |", line.what)
			for _, way := range Ways {
				seconds := line.measured(row)[way.Name]
				fmt.Fprintf(&text, " %.*f s |", decimals(seconds), seconds)
			}
			text.WriteString("\n")
		}
	}
	return text.String()
}

// decimals says how many are worth reading.
func decimals(seconds float64) int {
	switch {
	case seconds < 1:
		return 2
	case seconds < 10:
		return 1
	}
	return 0
}

// Print prints the results and whether the targets are met, for people.
func (r *Results) Print(out io.Writer) error {
	fmt.Fprintf(out, "%s\nbinary %.1f MB\n\n", r.Machine, r.BinaryMB)
	table := tabwriter.NewWriter(out, 0, 0, 2, ' ', tabwriter.AlignRight)
	for _, line := range r.lines() {
		fmt.Fprintln(table, strings.Join(line, "\t")+"\t")
	}
	if err := table.Flush(); err != nil {
		return err
	}
	fmt.Fprintln(out)
	for _, result := range r.judge() {
		said := "met"
		if !result.met {
			said = "MISSED"
		}
		if _, err := fmt.Fprintf(out, "%-6s  %s\n", said, result.text); err != nil {
			return err
		}
	}
	return nil
}
