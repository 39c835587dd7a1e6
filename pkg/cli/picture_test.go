package cli

import (
	"encoding/json"
	"encoding/xml"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"
	"testing"
	"unicode/utf8"
)

// everything is a VM that uses every field that names something.
const everything = "../../tests/scenarios/a-vm-with-every-reference/objects.yaml"

// A drawing is what a person can see of a picture.
type drawing struct {
	groups, cards, arrows int
	texts                 map[string][]string // by class
}

func readSVG(t *testing.T, text string) drawing {
	d := drawing{texts: map[string][]string{}}
	class, inText := "", false
	for decoder := xml.NewDecoder(strings.NewReader(text)); ; {
		token, err := decoder.Token()
		if errors.Is(err, io.EOF) {
			return d
		}
		if err != nil {
			t.Fatal(err)
		}
		switch element := token.(type) {
		case xml.StartElement:
			class = ""
			for _, attribute := range element.Attr {
				if attribute.Name.Local == "class" {
					class = attribute.Value
				}
			}
			inText = element.Name.Local == "text"
			switch {
			case element.Name.Local == "path":
				d.arrows++
			case strings.HasPrefix(class, "group "):
				d.groups++
			case strings.HasPrefix(class, "card "):
				d.cards++
			}
		case xml.EndElement:
			inText = false
		case xml.CharData:
			if inText {
				d.texts[class] = append(d.texts[class], string(element))
			}
		}
	}
}

func TestThePictureShowsEveryObjectAndEveryReference(t *testing.T) {
	_, out, _ := run("graph", "vm/all", "-f", everything, "-o", "svg")
	d := readSVG(t, out)
	if title := d.texts["title "]; len(title) != 1 || title[0] != "everything/all – complete, 50 objects" {
		t.Errorf("title %q", title)
	}
	_, out, _ = run("graph", "vm/all", "-f", everything, "-o", "json")
	type object struct{ Resource, Name string }
	var wholes []struct {
		Objects []struct {
			object
			References []object
		}
	}
	if err := json.Unmarshal([]byte(out), &wholes); err != nil || len(wholes) != 1 {
		t.Fatalf("%v in %s", err, out)
	}
	isDisk := map[string]bool{}
	for _, o := range wholes[0].Objects {
		isDisk[o.Name] = isDisk[o.Name] || o.Resource == "datavolumes"
	}
	cardOf := func(o object) string {
		if o.Resource == "persistentvolumeclaims" && isDisk[o.Name] {
			return "datavolumes/" + o.Name
		}
		return o.Resource + "/" + o.Name
	}
	cards, arrows := map[string]bool{}, map[string]bool{}
	for _, o := range wholes[0].Objects {
		cards[cardOf(o.object)] = true
		for _, reference := range o.References {
			if from, to := cardOf(o.object), cardOf(reference); from != to {
				arrows[from+" "+to] = true
			}
		}
	}
	if d.cards != len(cards) || d.arrows != len(arrows) || d.groups != 5 {
		t.Errorf("%d cards in %d groups and %d arrows, want %d in 5 and %d", d.cards, d.groups, d.arrows, len(cards), len(arrows))
	}
}

func TestTheMissingComesFirst(t *testing.T) {
	_, out, _ := run("graph", "vm/gone", "-n", "shop", "-f", gone, "-o", "svg")
	d := readSVG(t, out)
	if titles := d.texts["title missing"]; len(titles) != 1 || titles[0] != "shop/gone – 1 missing, 2 objects" {
		t.Errorf("title %q", titles)
	}
	if first := strings.Index(out, "Missing (1)"); first < 0 || first > strings.Index(out, "Disks (1)") {
		t.Errorf("the missing is at %d", first)
	}
	_, out, _ = run("graph", "vm/gone", "-n", "shop", "-f", gone, "-o", "mermaid")
	if first := strings.Index(out, `subgraph gmissing ["Missing"]`); first < 0 || first > strings.Index(out, "subgraph gdisks") {
		t.Errorf("the missing is at %d", first)
	}
}

func TestADiskIsOneCardWithItsSizeAndClass(t *testing.T) {
	_, out, _ := run("graph", "vm/web", "-f", everyVolume, "-o", "mermaid")
	for _, want := range []string{`["DataVolume and PVC<br/>web-root<br/>1Gi · manual"]:::disks`, `-->|"volume root"| n4`} {
		if !strings.Contains(out, want) {
			t.Errorf("%q is missing in:\n%s", want, out)
		}
	}
}

// TestLongNamesStayInTheirBoxes: a letter of a name is 7.3 wide, one of any other text less than 6.
func TestLongNamesStayInTheirBoxes(t *testing.T) {
	long := strings.Repeat("a-very-long-name-", 14) + "end"
	_, out, _ := run("graph", "-f", write(t, "vm.yaml", strings.Replace(named("shop", long), "claimName: root", "claimName: "+long, 1)), "-o", "svg")
	d := readSVG(t, out)
	lines := 0
	for class, texts := range d.texts {
		for _, text := range texts {
			width := float64(utf8.RuneCountInString(text)) * 6
			if class == "name" {
				width = float64(utf8.RuneCountInString(text)) * 7.3
				lines++
			}
			limit := float64(cardWidth - 12)
			if strings.HasPrefix(class, "title") {
				width, limit = width*2, 1240-24 // the picture's own width
			}
			if width > limit {
				t.Errorf("%s %q is %.0f wide", class, text, width)
			}
		}
	}
	if lines != 6 || !strings.Contains(out, "name-end</text>") {
		t.Errorf("%d lines of names, or no end, in:\n%s", lines, out)
	}
}

// TestHostileNamesAreText in a terminal, in XML, in Graphviz' and Mermaid's languages.
func TestHostileNamesAreText(t *testing.T) {
	file := write(t, "vm.yaml", strings.Replace(named("shop", `"w\e[2J\n<b>"`), "claimName: root", `claimName: "x\"]; click n0 <script>\x07"`, 1))
	for format := range formats {
		_, out, errOut := run("graph", "-f", file, "-o", format)
		for _, control := range []string{"\x1b", "\x07"} {
			if strings.Contains(out+errOut, control) {
				t.Errorf("%s: %q reaches the terminal: %q", format, control, out+errOut)
			}
		}
		for bad, inFormat := range map[string]string{"<script>": "svg mermaid", `x"]`: "mermaid dot"} {
			if strings.Contains(inFormat, format) && strings.Contains(out, bad) {
				t.Errorf("%s: %s in:\n%s", format, bad, out)
			}
		}
		if format == "svg" {
			readSVG(t, out)
		}
	}
}

// vmWithDisks is a file of a VM, and of its disks unless they are to be missing.
func vmWithDisks(t *testing.T, n int, missing bool) string {
	var volumes []string
	var b strings.Builder
	for i := range n {
		volumes = append(volumes, fmt.Sprintf(`{"name":"d%d","dataVolume":{"name":"disk-%d"}}`, i, i))
		if !missing {
			fmt.Fprintf(&b, `{"apiVersion":"v1","kind":"PersistentVolumeClaim","metadata":{"name":"disk-%d","namespace":"shop"}}`+"\n", i)
			fmt.Fprintf(&b, `{"apiVersion":"cdi.kubevirt.io/v1beta1","kind":"DataVolume","metadata":{"name":"disk-%d","namespace":"shop"},"status":{"phase":"Succeeded"}}`+"\n", i)
		}
	}
	return write(t, "vm.json", `{"apiVersion":"kubevirt.io/v1","kind":"VirtualMachine","metadata":{"name":"web","namespace":"shop"},"status":{"printableStatus":"Running"},`+
		`"spec":{"template":{"spec":{"volumes":[`+strings.Join(volumes, ",")+"]}}}}\n"+b.String())
}

// TestTenTimesTheDisksAreTenTimesTheWork: allocations are the same on every machine; quadratic work would be a hundred times.
func TestTenTimesTheDisksAreTenTimesTheWork(t *testing.T) {
	for _, format := range []string{"tree", "svg", "json"} {
		work := func(disks int) float64 {
			file := vmWithDisks(t, disks, false)
			return testing.AllocsPerRun(1, func() {
				if code, _, errOut := run("graph", "-f", file, "-o", format); code != 0 {
					t.Error(errOut)
				}
			})
		}
		if few, many := work(200), work(2000); many > 15*few {
			t.Errorf("%s: %.0f allocations for 200 disks, %.0f for 2000", format, few, many)
		}
	}
}

func TestTwoThousandMissingDisksAreAShortError(t *testing.T) {
	code, out, errOut := run("graph", "-f", vmWithDisks(t, 2000, true))
	if code != 1 || len(errOut) > 1000 || !strings.Contains(errOut, "2000 missing") || !strings.Contains(errOut, "and 1990 more") || !strings.Contains(out, "disk-1999") {
		t.Errorf("exit code %d, errors %q", code, errOut)
	}
}

func TestThePictureOfTheDocumentationIsCurrent(t *testing.T) {
	_, want, _ := run("graph", "vm/all", "-f", everything, "-o", "svg")
	if got, err := os.ReadFile("graph.svg"); err != nil || string(got) != want {
		t.Errorf("graph.svg is another picture (%v): go run . graph vm/all -f %s -o svg > pkg/cli/graph.svg", err, strings.TrimPrefix(everything, "../../"))
	}
}
