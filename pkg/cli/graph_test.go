package cli

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"encoding/json"
	"encoding/xml"
	"errors"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"velero-plugin-for-kubevirt/pkg/cluster"
)

const (
	whole = "../../tests/scenarios/running-vm-with-every-volume-type/objects.yaml"
	gone  = "../../tests/scenarios/a-vm-that-names-what-is-gone/objects.yaml"
)

func TestGraphPrintsATree(t *testing.T) {
	code, out, errOut := run("graph", "vm", "shop/web", "-f", whole)
	if code != 0 || errOut != "" {
		t.Fatalf("exit code %d, errors %q", code, errOut)
	}
	for _, line := range []string{
		"virtualmachines/web\n",
		"├── secrets/web-tls  (spec.template.spec.volumes[6].secret.secretName)\n",
		"└── virtualmachineinstances/web\n    ├── pods/hp-volume-4kq9s\n    └── pods/virt-launcher-web-7bqxm\n",
	} {
		if !strings.Contains(out, line) {
			t.Errorf("%q is missing in:\n%s", line, out)
		}
	}
	if strings.Contains(out, "db") || strings.Contains(out, "web-extra") {
		t.Errorf("too much in:\n%s", out)
	}
}

func TestGraphMarksWhatIsMissingAndExitsWith1(t *testing.T) {
	for _, format := range []string{"tree", "json", "dot", "svg"} {
		code, out, errOut := run("graph", "vm", "gone", "-n", "shop", "-f", gone, "-o", format)
		if code != 1 || errOut != "missing: secrets/shop/gone-user-data\n" {
			t.Errorf("%s: exit code %d, errors %q", format, code, errOut)
		}
		mark := map[string]string{"tree": "MISSING", "json": `"missing": true`, "dot": "color=red", "svg": `class="missing"`}[format]
		if !strings.Contains(out, mark) {
			t.Errorf("%s: %q is missing in:\n%s", format, mark, out)
		}
	}
}

func TestGraphReadsABackupFileAsItReadsObjects(t *testing.T) {
	_, want, _ := run("graph", "vm", "shop/web", "-f", whole, "-o", "json")
	backup := asBackup(t, whole)
	code, got, errOut := run("graph", "vm", "shop/web", "--backup", backup, "-o", "json")
	if code != 0 || got != want {
		t.Errorf("exit code %d, errors %q, got:\n%s\nwant:\n%s", code, errOut, got, want)
	}
}

// asBackup writes objects the way Velero's backup file has them.
func asBackup(t *testing.T, path string) string {
	file, err := os.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer file.Close()
	objects, err := cluster.ReadObjects(file)
	if err != nil {
		t.Fatal(err)
	}
	var buffer bytes.Buffer
	zipped := gzip.NewWriter(&buffer)
	archive := tar.NewWriter(zipped)
	for resource, items := range cluster.FromObjects(objects) {
		for _, item := range items {
			data, err := item.MarshalJSON()
			if err != nil {
				t.Fatal(err)
			}
			scope := "cluster/"
			if item.GetNamespace() != "" {
				scope = "namespaces/" + item.GetNamespace() + "/"
			}
			for _, version := range []string{"", "v1-preferredversion/"} {
				name := "resources/" + resource.String() + "/" + version + scope + item.GetName() + ".json"
				if err := archive.WriteHeader(&tar.Header{Name: name, Size: int64(len(data)), Mode: 0o644}); err != nil {
					t.Fatal(err)
				}
				if _, err := archive.Write(data); err != nil {
					t.Fatal(err)
				}
			}
		}
	}
	target := filepath.Join(t.TempDir(), "nightly-data.tar.gz")
	if err := errors.Join(archive.Close(), zipped.Close(), os.WriteFile(target, buffer.Bytes(), 0o600)); err != nil {
		t.Fatal(err)
	}
	return target
}

func TestGraphOutputsAreWellFormed(t *testing.T) {
	_, out, _ := run("graph", "vm", "shop/web", "-f", whole, "-o", "json")
	var nodes []map[string]any
	if err := json.Unmarshal([]byte(out), &nodes); err != nil || len(nodes) != 20 {
		t.Errorf("%d objects, %v", len(nodes), err)
	}
	_, out, _ = run("graph", "vm", "shop/web", "-f", whole, "-o", "svg")
	boxes := 0
	for decoder := xml.NewDecoder(strings.NewReader(out)); ; {
		token, err := decoder.Token()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			t.Fatal(err)
		}
		if element, is := token.(xml.StartElement); is && element.Name.Local == "rect" {
			boxes++
		}
	}
	if boxes != 20 {
		t.Errorf("%d boxes, want 20", boxes)
	}
	_, out, _ = run("graph", "vm", "shop/web", "-f", whole, "-o", "dot")
	if !strings.HasPrefix(out, "digraph {\n") || !strings.Contains(out, `"virtualmachines.kubevirt.io/shop/web" -> "secrets/shop/web-tls"`) {
		t.Errorf("got:\n%s", out)
	}
}

func TestGraphMistakes(t *testing.T) {
	for _, mistake := range []struct {
		code int
		args []string
		want string
	}{
		{2, []string{"graph"}, "requires at least 1 arg"},
		{2, []string{"graph", "table", "shop/web", "-f", whole}, `unknown kind "table"`},
		{2, []string{"graph", "vm", "shop/web", "-f", whole, "-o", "png"}, `want tree, json, dot or svg`},
		{2, []string{"graph", "vm", "shop/web", "-f", "no-such-file"}, "no-such-file"},
		{2, []string{"graph", "vm", "shop/web", "--backup", whole}, "reading " + whole},
		{1, []string{"graph", "vm", "shop/nobody", "-f", whole}, "missing: virtualmachines.kubevirt.io/shop/nobody"},
		{2, []string{"graph", "vm", "shop/web", "--kubeconfig", "no-such-file"}, "finding the cluster"},
	} {
		if code, _, errOut := run(mistake.args...); code != mistake.code || !strings.Contains(errOut, mistake.want) {
			t.Errorf("%v: exit code %d, errors %q", mistake.args, code, errOut)
		}
	}
}
