package cli

import (
	"cmp"
	"fmt"
	"html/template"
	"io"
	"iter"
	"slices"
	"strings"
	"unicode/utf8"

	"velero-plugin-for-kubevirt/pkg/graph"
)

// The picture has a box for each sort of object, and in it cards in three columns; lines run between the rows. It is placed here, because layouts of
// graphs (Graphviz' dot, and what Go has of that kind) put everything that a VM names into one column: 40 cards, one above the other.
// Graphviz compiled into Go would also make the binary 6 MB larger and every start of the plugin slower.
const (
	columns    = 3
	cardWidth  = 262
	cardGap    = 18
	labelSpace = 34 // above a row of cards, for the lines that lead to them and the reasons
	margin     = 24
	titleSpace = 64
	laneSpace  = 72 // between the first card and the boxes
	lineHeight = 16
	// What fits into a card: its letters are 7.3 and 6 wide at most.
	nameLetters, smallLetters = (cardWidth - 24) * 10 / 73, (cardWidth - 24) / 6
	titleLetters              = 60
)

type placedCard struct {
	X, Y, Height      int
	Class, Kind, Hint string
	Name, Detail      []string
	Reason            string
}

type placedGroup struct {
	X, Y, Width, Height int
	Class, Title        string
}

type placedArrow struct{ Class, Path, Hint string }

// A look is the colours of a picture, for a light or a dark screen. They are in rules, not in CSS variables, which many viewers do not know.
type look struct {
	Dark                          bool
	Paper, Ink, Faint, Card, Also template.CSS
	Colours                       []colour
}

// A colour is that of a sort: of its lines, and of its box.
type colour struct {
	Class        string
	Strong, Soft template.CSS
}

var looks = []look{
	{Paper: "#ffffff", Ink: "#1f2933", Faint: "#616e7c", Card: "#ffffff", Also: "#cbd2d9", Colours: []colour{
		{"missing", "#d64545", "#fdeaea"}, {"disks", "#2680c2", "#eaf4fb"}, {"config", "#a87a16", "#fdf6e3"}, {"network", "#2f8f6b", "#e8f6f0"},
		{"type", "#7c5cbf", "#f2edfb"}, {"run", "#c7621a", "#fdf0e6"}, {"other", "#627d98", "#f0f4f8"},
	}},
	{Dark: true, Paper: "#0d1117", Ink: "#e6edf3", Faint: "#9aa5b1", Card: "#161b22", Also: "#3a444f", Colours: []colour{
		{"missing", "#ff7b72", "#2d1417"}, {"disks", "#58a6ff", "#0f1d30"}, {"config", "#e3b341", "#261f0d"}, {"network", "#56d4a0", "#0e2419"},
		{"type", "#bc9cff", "#1c1530"}, {"run", "#ffa657", "#291b0d"}, {"other", "#8fa3b8", "#161d26"},
	}},
}

type picture struct {
	Looks                    []look
	Width, Height, CardWidth int
	Title, Class             string
	Groups                   []placedGroup
	Cards                    []placedCard
	Arrows                   []placedArrow
}

// printSVG draws an object and what it leads to.
func printSVG(out io.Writer, w whole) error {
	cards, arrows := w.cards()
	p := picture{Looks: looks, Title: cut(printable(title(w.root)), titleLetters) + " – " + w.answer(), CardWidth: cardWidth}
	if len(w.in(graph.Missing))+len(w.in(graph.Malformed)) > 0 {
		p.Class = "missing"
	}
	at := map[*card]placedCard{cards[0]: place(cards[0], margin, titleSpace+margin)}
	left := margin + cardWidth + laneSpace
	y := titleSpace
	for members := range grouped(cards[1:]) {
		sort := members[0].sort
		group := placedGroup{X: left, Y: y, Class: sort.class, Title: fmt.Sprintf("%s (%d)", sort.title, len(members)), Width: columns*(cardWidth+cardGap) + cardGap}
		y += 24
		for row := range slices.Chunk(members, columns) {
			y += labelSpace
			tallest := 0
			for i, c := range row {
				at[c] = place(c, left+cardGap+i*(cardWidth+cardGap), y)
				tallest = max(tallest, at[c].Height)
			}
			y += tallest
		}
		y += cardGap
		group.Height = y - group.Y
		p.Groups = append(p.Groups, group)
		y += cardGap
	}
	p.Width, p.Height = left+columns*(cardWidth+cardGap)+cardGap+margin, max(y, titleSpace+margin+at[cards[0]].Height)+margin
	for _, c := range cards {
		p.Cards = append(p.Cards, at[c])
	}
	for _, a := range arrows {
		p.Arrows = append(p.Arrows, draw(a, cards[0], at))
	}
	slices.SortStableFunc(p.Arrows, func(a, b placedArrow) int { // what matters is drawn above what is said twice
		return cmp.Compare(strings.Count(b.Class, "also"), strings.Count(a.Class, "also"))
	})
	return svg.Execute(out, p)
}

// grouped yields the cards of each sort.
func grouped(cards []*card) iter.Seq[[]*card] {
	return func(yield func([]*card) bool) {
		for len(cards) > 0 {
			n := slices.IndexFunc(cards, func(c *card) bool { return c.sort != cards[0].sort })
			if n < 0 {
				n = len(cards)
			}
			if !yield(cards[:n]) {
				return
			}
			cards = cards[n:]
		}
	}
}

func place(c *card, x, y int) placedCard {
	placed := placedCard{
		X: x, Y: y, Class: c.sort.class + " " + strings.ReplaceAll(string(c.state), " ", "-"), Kind: c.kind, Name: wrapped(printable(c.name), nameLetters, 3),
		Detail: broken(printable(c.detail), smallLetters, 3), Reason: cut(printable(c.reason), smallLetters-2),
	}
	placed.Height = 30 + lineHeight*(len(placed.Name)+len(placed.Detail))
	for _, id := range c.ids {
		placed.Hint += id.String() + "\n"
	}
	placed.Hint = printableLines(placed.Hint + c.detail)
	return placed
}

// draw leads a line from one card to another. What the first card refers to is reached by a lane to the left of the boxes and above the row; all other
// lines run behind the cards.
func draw(a arrow, root *card, at map[*card]placedCard) placedArrow {
	from, to := at[a.from], at[a.to]
	line := placedArrow{Class: a.to.sort.class, Hint: printable(a.from.name + " → " + a.to.name + ": " + a.reason)}
	if a.from == root {
		lane := from.X + cardWidth + 12 + 7*slices.Index(sorts, a.to.sort)
		line.Path = fmt.Sprintf("M%d %d H%d V%d H%d V%d", from.X+cardWidth, from.Y+14+4*slices.Index(sorts, a.to.sort), lane, to.Y-labelSpace+12, to.X+10, to.Y)
		return line
	}
	if a.to.from != a.from {
		line.Class = "also"
	}
	x1, x2 := from.X+cardWidth/2, to.X+cardWidth/2
	switch {
	case to.Y == from.Y:
		y := from.Y + from.Height
		line.Path = fmt.Sprintf("M%d %d C%d %d %d %d %d %d", x1, y, x1, y+20, x2, y+20, x2, to.Y+to.Height)
	case to.Y > from.Y:
		y := from.Y + from.Height
		line.Path = fmt.Sprintf("M%d %d C%d %d %d %d %d %d", x1, y, x1, y+60, x2, to.Y-60, x2, to.Y)
	default:
		y := to.Y + to.Height
		line.Path = fmt.Sprintf("M%d %d C%d %d %d %d %d %d", x1, from.Y, x1, from.Y-60, x2, y+60, x2, y)
	}
	return line
}

// wrapped breaks a name into lines, and cuts out its middle when there would be too many.
func wrapped(text string, width, lines int) []string {
	letters := []rune(cut(text, width*lines))
	var result []string
	for part := range slices.Chunk(letters, width) {
		result = append(result, string(part))
	}
	return result
}

// broken breaks a sentence between words, and ends it when there would be too many lines.
func broken(text string, width, lines int) []string {
	var result []string
	for word := range strings.FieldsSeq(text) {
		word = cut(word, width)
		last := len(result) - 1
		switch {
		case last >= 0 && utf8.RuneCountInString(result[last]+" "+word) <= width:
			result[last] += " " + word
		case len(result) == lines:
			result[last] = cut(result[last]+" …", width)
			return result
		default:
			result = append(result, word)
		}
	}
	return result
}

// cut shortens a text in its middle: names often differ in their ends.
func cut(text string, width int) string {
	letters := []rune(text)
	if len(letters) <= width {
		return text
	}
	half := (width - 1) / 2
	return string(letters[:half]) + "…" + string(letters[len(letters)-half:])
}

var svg = template.Must(template.New("svg").Funcs(template.FuncMap{"add": func(a, b int) int { return a + b }, "line": func(i int) int { return i * lineHeight }}).Parse(
	`<svg xmlns="http://www.w3.org/2000/svg" width="{{.Width}}" height="{{.Height}}" viewBox="0 0 {{.Width}} {{.Height}}" font-family="system-ui, 'Segoe UI', Helvetica, Arial, sans-serif">
<style>
text { font-size: 11px } .title { font-size: 20px; font-weight: 600 } .group rect { rx: 12px } .group text { font-size: 13px; font-weight: 600 }
.card rect { stroke-width: 1.5px; rx: 8px } .card .name { font: 12px ui-monospace, SFMono-Regular, Menlo, Consolas, 'DejaVu Sans Mono', monospace }
.missing .detail, .malformed .detail { font-weight: 600 } path { fill: none; stroke-width: 1.5px } .card .reason { paint-order: stroke; stroke-width: 3px }
.not-needed rect, .will-be-made rect, .unknown rect, .card.missing rect { stroke-dasharray: 5 4 }
{{range .Looks}}{{if .Dark}}@media (prefers-color-scheme: dark) {
{{end}}.paper { fill: {{.Paper}} } .title, .card .name { fill: {{.Ink}} } .card text { fill: {{.Faint}} } .card rect { fill: {{.Card}} } path.also { stroke: {{.Also}} }
{{range .Colours}}.group.{{.Class}} rect { fill: {{.Soft}} } path.{{.Class}}, .card.{{.Class}} rect { stroke: {{.Strong}} } .group.{{.Class}} text, .card.{{.Class}} .reason, .title.{{.Class}}{{if eq .Class "missing"}}, .card.missing .detail{{end}} { fill: {{.Strong}} } .card.{{.Class}} .reason { stroke: {{.Soft}} }
{{end}}.card.not-needed rect { stroke: {{.Faint}} }
{{if .Dark}}}
{{end}}{{end}}</style>
<rect class="paper" fill="#fff" width="{{.Width}}" height="{{.Height}}"/>
<text class="title {{.Class}}" x="24" y="42">{{.Title}}</text>
{{range .Groups}}<g class="group {{.Class}}"><rect x="{{.X}}" y="{{.Y}}" width="{{.Width}}" height="{{.Height}}"/><text x="{{add .X 18}}" y="{{add .Y 22}}">{{.Title}}</text></g>
{{end}}{{range .Arrows}}<path class="{{.Class}}" d="{{.Path}}"><title>{{.Hint}}</title></path>
{{end}}{{$p := .}}{{range .Cards}}{{$c := .}}<g class="card {{.Class}}"><title>{{.Hint}}</title><rect x="{{.X}}" y="{{.Y}}" width="{{$p.CardWidth}}" height="{{.Height}}"/>{{if .Reason}}<text class="reason" x="{{add .X 16}}" y="{{add .Y -6}}">{{.Reason}}</text>{{end}}<text x="{{add .X 12}}" y="{{add .Y 18}}">{{.Kind}}</text>{{range $i, $line := .Name}}<text class="name" x="{{add $c.X 12}}" y="{{add (add $c.Y 34) (line $i)}}">{{$line}}</text>{{end}}{{range $i, $line := .Detail}}<text class="detail" x="{{add $c.X 12}}" y="{{add (add $c.Y 34) (line (add $i (len $c.Name)))}}">{{$line}}</text>{{end}}</g>
{{end}}</svg>
`))
