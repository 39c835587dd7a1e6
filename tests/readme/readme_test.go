package readme

import (
	"encoding/json"
	"flag"
	"fmt"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"golang.org/x/mod/modfile"

	"velero-plugin-for-kubevirt/pkg/consistency"
	"velero-plugin-for-kubevirt/pkg/graph"
	"velero-plugin-for-kubevirt/pkg/options"
	"velero-plugin-for-kubevirt/pkg/rules"
	"velero-plugin-for-kubevirt/tests/bench/snapshots"
	"velero-plugin-for-kubevirt/tests/cluster"
	"velero-plugin-for-kubevirt/tests/guest"
)

var write = flag.Bool("write", false, "write the tables into the READMEs instead of checking them")

// tables are the generated parts. In its file each stands between <!-- name --> and <!-- end -->.
var tables = []struct {
	file, name string
	generate   func(t *testing.T) string
}{
	{"pkg/options/README.md", "options", optionsTable},
	{"README.md", "bench", benchTable},
	{"README.md", "one cut", oneCutTable},
	{"README.md", "matrix", matrixTable},
	{"pkg/rules/README.md", "rules", rulesTable},
	{"pkg/graph/README.md", "references", referencesTable},
	{"pkg/restore/README.md", "fates", fatesTable},
	{"pkg/consistency/README.md", "reasons", reasonsTable},
	{"pkg/consistency/README.md", "truth", truthTable},
	{"tests/README.md", "make help", makeHelp},
	{"tests/README.md", "snapshots", snapshotsTable},
	{"tests/README.md", "compatibility", compatibilityTable},
	{"tests/README.md", "fuzz", fuzzTable},
}

func TestTablesAreCurrent(t *testing.T) {
	for _, table := range tables {
		text := read(t, table.file)
		part := regexp.MustCompile(`(?s)(<!-- ` + table.name + ` -->\n).*?(<!-- end -->)`)
		if !part.MatchString(text) {
			t.Errorf("%s has no part %q", table.file, table.name)
			continue
		}
		current := part.ReplaceAllString(text, "${1}"+strings.ReplaceAll(table.generate(t), "$", "$$")+"${2}")
		switch {
		case current == text:
		case !*write:
			t.Errorf("%s: %q is not current: run \"make readme\"", table.file, table.name)
		default:
			if err := os.WriteFile(top+table.file, []byte(current), 0o644); err != nil {
				t.Error(err)
			}
		}
	}
}

// top is the top folder of the repository.
const top = "../../"

// What a newcomer reads first must be short enough to be finished.
func TestTheReadmeIsShort(t *testing.T) {
	if size := len(read(t, "README.md")); size > 16<<10 {
		t.Errorf("README.md has %d bytes: move what is a reference next to its code", size)
	}
}

// A link that leads nowhere is worse than none.
func TestLinksLeadSomewhere(t *testing.T) {
	link := regexp.MustCompile(`\]\(([^)#:]*)(#[^)]*)?\)`)
	for _, file := range append(slices.Clone(Files), CLI) {
		for _, found := range link.FindAllStringSubmatch(read(t, file), -1) {
			target := file
			if found[1] != "" {
				target = filepath.Join(filepath.Dir(file), found[1])
			}
			if _, err := os.Stat(top + target); err != nil {
				t.Errorf("%s links to %s: %v", file, found[0], err)
				continue
			}
			if filepath.Ext(target) != ".md" {
				continue
			}
			if anchor := strings.TrimPrefix(found[2], "#"); anchor != "" && !slices.Contains(anchors(read(t, target)), anchor) {
				t.Errorf("%s links to %s, which has no such heading", file, found[0])
			}
		}
	}
}

// anchors returns the names by which GitHub links to the headings of a text.
func anchors(text string) []string {
	var names []string
	for line := range strings.Lines(text) {
		if heading, is := strings.CutPrefix(strings.TrimLeft(line, "#"), " "); is && strings.HasPrefix(line, "#") {
			name := strings.ToLower(strings.TrimSpace(heading))
			names = append(names, strings.ReplaceAll(regexp.MustCompile(`[^\w -]`).ReplaceAllString(name, ""), " ", "-"))
		}
	}
	return names
}

func rulesTable(*testing.T) string {
	var b strings.Builder
	b.WriteString("| rule | when | what and why |\n|---|---|---|\n")
	for _, rule := range rules.All {
		var phases []string
		for _, phase := range rule.Phases {
			phases = append(phases, string(phase))
		}
		fmt.Fprintf(&b, "| `%s` | %s | %s |\n", rule.ID, strings.Join(phases, ", "), rule.Why)
	}
	return b.String()
}

// fatesTable lists what may become of a disk.
func fatesTable(*testing.T) string {
	var b strings.Builder
	b.WriteString("| in the log | when | |\n|---|---|---|\n")
	for _, fate := range rules.Fates {
		var then []string
		if fate.Warns {
			then = append(then, "a warning")
		}
		if fate.Holds {
			then = append(then, "the VM waits")
		}
		fmt.Fprintf(&b, "| %s | %s | %s |\n", fate.Name, fate.When, strings.Join(then, ", "))
	}
	return b.String()
}

// reasonsTable lists why a VM may not be consistent.
func reasonsTable(*testing.T) string {
	var b strings.Builder
	b.WriteString("| reason | what it means | what to do |\n|---|---|---|\n")
	for _, row := range consistency.Reasons {
		fmt.Fprintf(&b, "| `%s` | %s | %s |\n", row.Reason, row.Means, row.Remedy)
	}
	return b.String()
}

// optionsTable lists what can be asked for.
func optionsTable(*testing.T) string {
	var b strings.Builder
	b.WriteString("| option | set on | values | what it does |\n|---|---|---|---|\n")
	for _, option := range options.All {
		var places, values []string
		for _, place := range option.Places {
			places = append(places, string(place))
		}
		for _, value := range option.Values {
			value = "`" + value + "`"
			if value == "`"+option.Default+"`" {
				value += " (default)"
			}
			values = append(values, value)
		}
		if option.Values == nil {
			values = []string{option.ValidValues()}
		}
		fmt.Fprintf(&b, "| `%s` | %s | %s | %s |\n", option.Key, strings.Join(places, ", "), strings.Join(values, ", "), option.What)
	}
	return b.String()
}

// referencesTable lists what the graph follows. The same field of several kinds is one row.
func referencesTable(*testing.T) string {
	var b strings.Builder
	b.WriteString("| from | field, or how it is found | to |\n|---|---|---|\n")
	for _, row := range graph.Rows() {
		fmt.Fprintf(&b, "| %s | %s | %s |\n", row.From, row.Where, row.To)
	}
	return b.String()
}

// matrixTable says how many stories passed in the last "make matrix", whose results tests/matrix writes.
func matrixTable(t *testing.T) string {
	var results struct {
		Date    string
		Stories []string
		Runs    []struct {
			Velero, KubeVirt string
			Passed           []string
		}
	}
	data, err := os.ReadFile("../matrix/results.json")
	if err == nil {
		err = json.Unmarshal(data, &results)
	}
	if err != nil {
		t.Fatal(err)
	}
	var b strings.Builder
	fmt.Fprintf(&b, "| %s |", results.Date)
	for _, kubevirt := range cluster.Releases("kubevirt") {
		fmt.Fprintf(&b, " KubeVirt %s |", kubevirt)
	}
	b.WriteString("\n|---|" + strings.Repeat("---|", len(cluster.Releases("kubevirt"))) + "\n")
	for _, velero := range cluster.Releases("velero") {
		fmt.Fprintf(&b, "| Velero %s |", velero)
		for _, kubevirt := range cluster.Releases("kubevirt") {
			passed := -1
			for _, run := range results.Runs {
				if run.Velero == velero && run.KubeVirt == kubevirt {
					passed = len(run.Passed)
				}
			}
			if passed < 0 {
				t.Errorf("tests/matrix/results.json lacks Velero %s with KubeVirt %s: run \"make matrix\"", velero, kubevirt)
			}
			fmt.Fprintf(&b, " %d of %d pass |", passed, len(results.Stories))
		}
		b.WriteString("\n")
	}
	return b.String()
}

// truthTable compares verdicts with what was in the snapshots, as tests/guest found it when it was last asked for many backups.
func truthTable(t *testing.T) string {
	var results guest.Results
	data, err := os.ReadFile("../guest/" + guest.ResultsFile)
	if err == nil {
		err = json.Unmarshal(data, &results)
	}
	if err != nil {
		t.Fatal(err)
	}
	return results.Table()
}

// benchTable is what the last "make bench WRITE=1" measured.
func benchTable(t *testing.T) string {
	var results struct {
		Machine               string
		BinaryMB, HandshakeMs float64
		Rows                  []struct {
			N           int
			Phase, Date string
			Samples     map[string][]struct{}
			Summary     struct {
				Seconds                                          map[string]float64
				ByAlone, ByNoop, MsPerVM, RequestsPerVM, PeakMiB float64
			}
		}
	}
	data, err := os.ReadFile("../bench/results.json")
	if err == nil {
		err = json.Unmarshal(data, &results)
	}
	if err != nil {
		t.Fatal(err)
	}
	var b strings.Builder
	dates := map[string]bool{}
	for _, row := range results.Rows {
		dates[row.Date] = true
	}
	fmt.Fprintf(&b, "%s, medians of %s; start to handshake %.0f ms, binary %.1f MB:\n\n",
		results.Machine, strings.Join(slices.Sorted(maps.Keys(dates)), " and "), results.HandshakeMs, results.BinaryMB)
	b.WriteString("| | VMs | rounds | Velero alone | a plugin that does nothing | this plugin | × alone | × nothing | API requests per VM | peak memory |\n|---|---|---|---|---|---|---|---|---|---|\n")
	for _, row := range results.Rows {
		s := row.Summary
		fmt.Fprintf(&b, "| %s | %d | %d | %.1f s | %.1f s | %.1f s | %.2f | %.2f | %.3f | %.0f MiB |\n",
			row.Phase, row.N, len(row.Samples["plugin"]), s.Seconds["alone"], s.Seconds["noop"], s.Seconds["plugin"], s.ByAlone, s.ByNoop, s.RequestsPerVM, s.PeakMiB)
	}
	return b.String()
}

// snapshotsTable is what the last "make bench SNAPSHOTS=1 WRITE=1" measured.
func snapshotsTable(t *testing.T) string { return snapshotResults(t).Table() }

// oneCutTable is the part of it that most people ask for.
func oneCutTable(t *testing.T) string { return snapshotResults(t).Summary() }

func snapshotResults(t *testing.T) *snapshots.Results {
	t.Helper()
	results, err := snapshots.Read("../bench/snapshots/results.json")
	if err != nil {
		t.Fatal(err)
	}
	return results
}

// fuzzTable says how many inputs broke nothing, as tests/fuzz found when it was last asked for many.
func fuzzTable(t *testing.T) string {
	var targets []struct {
		Name, Date string
		Executions int
		Seconds    float64
	}
	data, err := os.ReadFile("../fuzz/results.json")
	if err == nil {
		err = json.Unmarshal(data, &targets)
	}
	if err != nil {
		t.Fatal(err)
	}
	var b strings.Builder
	b.WriteString("| target | executions | seconds | on |\n|---|---|---|---|\n")
	for _, target := range targets {
		fmt.Fprintf(&b, "| `%s` | %d | %.0f | %s |\n", target.Name, target.Executions, target.Seconds, target.Date)
	}
	return b.String()
}

// compatibilityTable gives the versions that the tests run against, from the go.mod files that pin them.
func compatibilityTable(t *testing.T) string {
	var b strings.Builder
	b.WriteString("| what | tested with |\n|---|---|\n")
	for _, row := range []struct{ what, module, file string }{
		{"Velero server", "github.com/vmware-tanzu/velero", "../cluster/components/velero/go.mod"},
		{"Kubernetes API server", "k8s.io/kubernetes", "../cluster/components/kubernetes/go.mod"},
		{"KubeVirt: virt-api, virt-controller, virt-freezer", "kubevirt.io/kubevirt", "../cluster/components/kubevirt/go.mod"},
		{"kubelet (with real guests)", "k8s.io/kubernetes", "../cluster/components/kubelet/go.mod"},
		{"KubeVirt: virt-handler, virt-launcher (with real guests)", "kubevirt.io/kubevirt", "../cluster/components/kubevirt-node/go.mod"},
		{"KubeVirt API types", "kubevirt.io/api", "../../go.mod"},
		{"CDI: cdi-apiserver, cdi-controller", "kubevirt.io/containerized-data-importer", "../cluster/components/cdi/go.mod"},
		{"CSI snapshotter", "github.com/kubernetes-csi/external-snapshotter/v8", "../cluster/components/snapshotter/go.mod"},
		{"CDI API types", "kubevirt.io/containerized-data-importer-api", "../../go.mod"},
	} {
		fmt.Fprintf(&b, "| %s | %s |\n", row.what, version(t, row.file, row.module))
	}
	return b.String()
}

func version(t *testing.T, file, module string) string {
	data, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	mod, err := modfile.ParseLax(file, data, nil)
	if err != nil {
		t.Fatal(err)
	}
	for _, require := range mod.Require {
		if require.Mod.Path == module {
			return require.Mod.Version
		}
	}
	t.Fatalf("%s does not require %s", file, module)
	return ""
}

func makeHelp(t *testing.T) string {
	out, err := exec.Command("make", "--no-print-directory", "-C", "../..", "help").Output()
	if err != nil {
		t.Fatal(err)
	}
	return "```\n" + string(out) + "```\n"
}

// A command nobody runs is a command that may not work.
func TestCommandsAreRun(t *testing.T) {
	ci, err := os.ReadFile("../../.ci/run")
	if err != nil {
		t.Fatal(err)
	}
	inCI := strings.Fields(string(ci))
	commands, err := Commands(top)
	if err != nil || len(commands) == 0 {
		t.Fatalf("%d commands, %v", len(commands), err)
	}
	for _, command := range commands {
		words := strings.Fields(command)
		for strings.Contains(words[0], "=") { // a variable
			words = words[1:]
		}
		switch words[0] {
		case "velero", "velero-plugin-for-kubevirt":
			// tests/e2e runs these.
		case "make":
			if target := strings.TrimSuffix(words[1], ";"); !slices.Contains(inCI, target) && !slices.Contains(inCI, target+";") {
				t.Errorf("%q is not run by .ci/run", command)
			}
		default:
			t.Errorf("%q: nothing runs it", command)
		}
	}
}

func read(t *testing.T, file string) string {
	t.Helper()
	data, err := os.ReadFile(top + file)
	if err != nil {
		t.Fatal(err)
	}
	return string(data)
}
