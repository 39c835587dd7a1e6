package snapshots

import (
	"fmt"
	"math"
	"strings"
)

// The size of the plot, and the space around it.
const (
	width, height = 480.0, 280.0
	left, top     = 70.0, 60.0
	right         = 120.0
)

// The ends of the time axis, which is logarithmic, in seconds.
const shortest, longest = 0.1, 100.0

// windows is for how long Windows holds its writers.
const windows = 10.0

var colours = map[string]string{Alone: "#888888", Ordered: "#e69f00", OneCut: "#0072b2"}

// Plot draws for how long the guest of one VM is frozen against the number of its disks, as SVG, by one of Velero's workers.
func (r *Results) Plot() string {
	var rows []Row
	for _, row := range r.Rows {
		if row.VMs == 1 && row.Workers == 1 {
			rows = append(rows, row)
		}
	}
	var svg strings.Builder
	fmt.Fprintf(&svg, `<svg xmlns="http://www.w3.org/2000/svg" width="%.0f" height="%.0f" font-family="sans-serif" font-size="12">`+"\n", left+width+right, height+2*top)
	fmt.Fprintln(&svg, `<rect width="100%" height="100%" fill="white"/>`)
	fmt.Fprintf(&svg, `<text x="%.0f" y="20" font-size="14">For how long a guest is frozen while its disks are backed up</text>`+"\n", left)
	for seconds := shortest; seconds <= longest; seconds *= 10 {
		y := yOf(seconds)
		fmt.Fprintf(&svg, `<path d="M%.0f %.1f H%.0f" stroke="#dddddd"/><text x="%.0f" y="%.1f" text-anchor="end">%.4g s</text>`+"\n", left, y, left+width, left-8, y+4, seconds)
	}
	fmt.Fprintf(&svg, `<path d="M%.0f %.1f H%.0f" stroke="#cc0000" stroke-dasharray="6 4"/>`+"\n", left, yOf(windows), left+width)
	fmt.Fprintf(&svg, `<text x="%.0f" y="%.1f" fill="#cc0000">Windows gives up</text>`+"\n", left+width+8, yOf(windows)+4)
	for n, row := range rows {
		x := xOf(n, len(rows))
		fmt.Fprintf(&svg, `<text x="%.1f" y="%.0f" text-anchor="middle">%d</text>`+"\n", x, top+height+20, row.Disks)
	}
	fmt.Fprintf(&svg, `<text x="%.0f" y="%.0f" text-anchor="middle">disks of the VM</text>`+"\n", left+width/2, top+height+40)
	for n, way := range Ways {
		fmt.Fprintf(&svg, `<text x="%.0f" y="42" fill="%s">%s</text>`+"\n", left+120*float64(n), colours[way.Name], way.Title)
		line(&svg, rows, way.Name)
	}
	fmt.Fprintln(&svg, "</svg>")
	return svg.String()
}

// line draws the points of one way.
func line(svg *strings.Builder, rows []Row, way string) {
	var points []string
	for n, row := range rows {
		x, y := xOf(n, len(rows)), yOf(row.Frozen[way])
		points = append(points, fmt.Sprintf("%.1f,%.1f", x, y))
		fmt.Fprintf(svg, `<circle cx="%.1f" cy="%.1f" r="3" fill="%s"><title>%d disks: %.2f s</title></circle>`+"\n", x, y, colours[way], row.Disks, row.Frozen[way])
	}
	fmt.Fprintf(svg, `<polyline points="%s" fill="none" stroke="%s" stroke-width="2"/>`+"\n", strings.Join(points, " "), colours[way])
}

func xOf(n, of int) float64 { return left + width*(float64(n)+0.5)/float64(max(of, 1)) }

func yOf(seconds float64) float64 {
	return top + height*(1-math.Log(max(seconds, shortest)/shortest)/math.Log(longest/shortest))
}
