package cli

import (
	"html/template"
	"io"
	"slices"

	"velero-plugin-for-kubevirt/pkg/graph"
	"velero-plugin-for-kubevirt/pkg/kubevirt"
)

// The picture has a column for each number of steps from the first object. Graphviz compiled into Go would draw it too, but
// makes the binary 6 MB larger and every start of the plugin slower.
const (
	boxWidth, boxHeight = 300, 40
	columnGap, rowGap   = 110, 14
	margin              = 24
)

type box struct {
	X, Y           int
	Resource, Name string
	Missing        bool
	Title          string
	column         int
}

type curve struct {
	X1, Y1, X2, Y2, C1, C2 int
	Title                  string
}

type picture struct {
	Width, Height, BoxWidth, BoxHeight int
	Boxes                              []*box
	Curves                             []curve
}

// printSVG draws the graph.
func printSVG(out io.Writer, nodes []graph.Node) error {
	p := picture{BoxWidth: boxWidth, BoxHeight: boxHeight}
	boxes := place(nodes)
	for _, node := range nodes {
		from := boxes[node.ID]
		p.Boxes = append(p.Boxes, from)
		p.Width = max(p.Width, from.X+boxWidth+margin)
		p.Height = max(p.Height, from.Y+boxHeight+margin)
		for _, n := range node.Neighbours {
			to := boxes[n.ID]
			if to.column <= from.column {
				continue // back to where one came from
			}
			c := curve{X1: from.X + boxWidth, Y1: from.Y + boxHeight/2, X2: to.X, Y2: to.Y + boxHeight/2, Title: n.Path}
			c.C1, c.C2 = c.X1+columnGap/2, c.X2-columnGap/2
			p.Curves = append(p.Curves, c)
		}
	}
	return svg.Execute(out, p)
}

// place puts every object into the column after the first that refers to it, and each column into the middle of the height.
func place(nodes []graph.Node) map[kubevirt.ID]*box {
	home := nodes[0].Namespace
	boxes := map[kubevirt.ID]*box{}
	var columns [][]*box
	add := func(id kubevirt.ID, column int, missing bool) {
		b := &box{Resource: id.Resource, Name: id.Name, Missing: missing, Title: id.String(), column: column}
		if id.Namespace != home && id.Namespace != "" {
			b.Name = id.Namespace + "/" + id.Name
		}
		boxes[id] = b
		if column == len(columns) {
			columns = append(columns, nil)
		}
		columns[column] = append(columns[column], b)
	}
	add(nodes[0].ID, 0, nodes[0].Missing)
	for _, node := range nodes { // breadth first: the referrer is placed before what it refers to
		for _, n := range node.Neighbours {
			if boxes[n.ID] == nil {
				missing := slices.ContainsFunc(nodes, func(m graph.Node) bool { return m.ID == n.ID && m.Missing })
				add(n.ID, boxes[node.ID].column+1, missing)
			}
		}
	}
	tallest := 0
	for _, column := range columns {
		tallest = max(tallest, len(column))
	}
	for x, column := range columns {
		top := margin + (tallest-len(column))*(boxHeight+rowGap)/2
		for y, b := range column {
			b.X, b.Y = margin+x*(boxWidth+columnGap), top+y*(boxHeight+rowGap)
		}
	}
	return boxes
}

var svg = template.Must(template.New("svg").Funcs(template.FuncMap{"add": func(a, b int) int { return a + b }}).Parse(
	`<svg xmlns="http://www.w3.org/2000/svg" width="{{.Width}}" height="{{.Height}}" viewBox="0 0 {{.Width}} {{.Height}}" font-family="system-ui, sans-serif">
<style>
svg { background: #fff }
path { fill: none; stroke: #9aa5b1; stroke-width: 1.5 }
rect { fill: #f5f7fa; stroke: #486581; rx: 8 }
text { font-size: 13px; fill: #102a43 }
.resource { font-size: 11px; fill: #627d98 }
.missing rect { fill: #fff5f5; stroke: #e12d39; stroke-dasharray: 5 3 }
.missing text { fill: #ab091e }
</style>
{{range .Curves}}<path d="M{{.X1}} {{.Y1}} C{{.C1}} {{.Y1}} {{.C2}} {{.Y2}} {{.X2}} {{.Y2}}"><title>{{.Title}}</title></path>
{{end}}{{$p := .}}{{range .Boxes}}<g{{if .Missing}} class="missing"{{end}}><title>{{.Title}}{{if .Missing}} is missing{{end}}</title><rect x="{{.X}}" y="{{.Y}}" width="{{$p.BoxWidth}}" height="{{$p.BoxHeight}}"/>
<text class="resource" x="{{add .X 12}}" y="{{add .Y 16}}">{{.Resource}}</text><text x="{{add .X 12}}" y="{{add .Y 32}}">{{.Name}}</text></g>
{{end}}</svg>
`))
