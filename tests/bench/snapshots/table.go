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
