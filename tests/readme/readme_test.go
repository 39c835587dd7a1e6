package readme

import (
	"encoding/json"
	"flag"
	"fmt"
	"os"
	"os/exec"
	"regexp"
	"slices"
	"strings"
	"testing"

	"golang.org/x/mod/modfile"

	"velero-plugin-for-kubevirt/pkg/consistency"
	"velero-plugin-for-kubevirt/pkg/graph"
	"velero-plugin-for-kubevirt/pkg/options"
	"velero-plugin-for-kubevirt/pkg/rules"
	"velero-plugin-for-kubevirt/tests/cluster"
	"velero-plugin-for-kubevirt/tests/guest"
)

var write = flag.Bool("write", false, "write the tables into the README instead of checking them")

const path = "../../README.md"

// tables are the generated parts. In the README each stands between <!-- name --> and <!-- end -->.
var tables = map[string]func(t *testing.T) string{
	"matrix":        matrixTable,
	"truth":         truthTable,
	"bench":         benchTable,
	"rules":         rulesTable,
	"options":       optionsTable,
	"reasons":       reasonsTable,
	"references":    referencesTable,
	"compatibility": compatibilityTable,
	"make help":     makeHelp,
}

func TestTablesAreCurrent(t *testing.T) {
	text := read(t)
	current := text
	for name, generate := range tables {
		part := regexp.MustCompile(`(?s)(<!-- ` + name + ` -->\n).*?(<!-- end -->)`)
		if !part.MatchString(current) {
			t.Errorf("README.md has no part %q", name)
			continue
		}
		current = part.ReplaceAllString(current, "${1}"+strings.ReplaceAll(generate(t), "$", "$$")+"${2}")
	}
	if current == text {
		return
	}
	if !*write {
		t.Error("README.md is not current: run \"make readme\"")
		return
	}
	if err := os.WriteFile(path, []byte(current), 0o644); err != nil {
		t.Error(err)
	}
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
			fmt.Fprintf(&b, " %d of %d stories pass |", passed, len(results.Stories))
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
	fmt.Fprintf(&b, "%s, medians; start to handshake %.0f ms, binary %.1f MB:\n\n",
		results.Machine, results.HandshakeMs, results.BinaryMB)
	b.WriteString("| | VMs | rounds | Velero alone | with a plugin that does nothing | with this plugin | × alone | × nothing | API requests per VM | peak memory | measured |\n|---|---|---|---|---|---|---|---|---|---|---|\n")
	for _, row := range results.Rows {
		s := row.Summary
		fmt.Fprintf(&b, "| %s | %d | %d | %.1f s | %.1f s | %.1f s | %.2f | %.2f | %.3f | %.0f MiB | %s |\n",
			row.Phase, row.N, len(row.Samples["plugin"]), s.Seconds["alone"], s.Seconds["noop"], s.Seconds["plugin"], s.ByAlone, s.ByNoop, s.RequestsPerVM, s.PeakMiB, row.Date)
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
	commands := Commands(read(t))
	if len(commands) == 0 {
		t.Fatal("README.md has no commands")
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

func read(t *testing.T) string {
	data, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return string(data)
}
