package main

import (
	"fmt"
	"math"
	"os"
	"slices"
	"strings"
)

// The size of a panel of the plot, and the space around it.
const (
	width, height = 360.0, 240.0
	left, top     = 60.0, 40.0
)

var colours = map[string]string{Alone: "#888888", Floor: "#e69f00", Measured: "#0072b2"}

// plot draws milliseconds per VM against the number of VMs, a panel for backups and one for restores: a cost that does not grow
// with the number of VMs is a horizontal line.
func (r *Results) plot(path string) error {
	var svg strings.Builder
	fmt.Fprintf(&svg, `<svg xmlns="http://www.w3.org/2000/svg" width="%.0f" height="%.0f" font-family="sans-serif" font-size="12">`+"\n",
		2*(width+left)+left, height+3*top)
	fmt.Fprintln(&svg, `<rect width="100%" height="100%" fill="white"/>`)
	for i, phase := range []string{Backup, Restore} {
		r.panel(&svg, phase, left+float64(i)*(width+left))
	}
	for i, variant := range []string{Alone, Floor, Measured} {
		fmt.Fprintf(&svg, `<text x="%.0f" y="%.0f" fill="%s">%s</text>`+"\n", left+float64(i)*160, height+2.6*top, colours[variant],
			map[string]string{Alone: "Velero alone", Floor: "no-op plugin", Measured: "this plugin"}[variant])
	}
	fmt.Fprintln(&svg, "</svg>")
	return os.WriteFile(path, []byte(svg.String()), 0o644)
}

func (r *Results) panel(svg *strings.Builder, phase string, x0 float64) {
	rows := slices.DeleteFunc(slices.Clone(r.Rows), func(row Row) bool { return row.Phase != phase })
	if len(rows) == 0 {
		return
	}
	slices.SortFunc(rows, func(a, b Row) int { return a.N - b.N })
	perVM := func(row Row, variant string) float64 { return 1000 * row.Median(variant, seconds) / float64(row.N) }
	highest := 0.0
	for _, row := range rows {
		for variant := range colours {
			highest = max(highest, perVM(row, variant))
		}
	}
	low, high := math.Log(float64(rows[0].N)), math.Log(float64(rows[len(rows)-1].N))
	at := func(n int, value float64) (float64, float64) {
		share := 0.5
		if high > low {
			share = (math.Log(float64(n)) - low) / (high - low)
		}
		return x0 + share*width, top + height*(1-value/(1.1*highest))
	}
	fmt.Fprintf(svg, `<text x="%.0f" y="%.0f" font-size="14">%s, ms per VM</text>`+"\n", x0, top*0.6, phase)
	fmt.Fprintf(svg, `<path d="M%.0f %.0f V%.0f H%.0f" fill="none" stroke="black"/>`+"\n", x0, top, top+height, x0+width)
	_, y := at(rows[0].N, highest)
	fmt.Fprintf(svg, `<text x="%.0f" y="%.0f" text-anchor="end">%.0f</text><text x="%.0f" y="%.0f" text-anchor="end">0</text>`+"\n", x0-6, y+4, highest, x0-6, top+height)
	for _, row := range rows {
		x, _ := at(row.N, 0)
		fmt.Fprintf(svg, `<text x="%.0f" y="%.0f" text-anchor="middle">%d VMs</text>`+"\n", x, top+height+18, row.N)
	}
	for _, variant := range []string{Alone, Floor, Measured} {
		var points []string
		for _, row := range rows {
			x, y := at(row.N, perVM(row, variant))
			points = append(points, fmt.Sprintf("%.1f,%.1f", x, y))
			fmt.Fprintf(svg, `<circle cx="%.1f" cy="%.1f" r="3" fill="%s"/>`+"\n", x, y, colours[variant])
		}
		fmt.Fprintf(svg, `<polyline points="%s" fill="none" stroke="%s" stroke-width="2"/>`+"\n", strings.Join(points, " "), colours[variant])
	}
}
