package cli

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"os"
	"strings"
	"testing"

	"velero-plugin-for-kubevirt/pkg/cluster"
)

const (
	everyVolume = "../../tests/scenarios/running-vm-with-every-volume-type/objects.yaml"
	gone        = "../../tests/scenarios/a-vm-that-names-what-is-gone/objects.yaml"
)

func TestGraphPrintsATree(t *testing.T) {
	code, out, errOut := run("graph", "vm", "shop/web", "-f", everyVolume)
	if code != 0 || errOut != "" {
		t.Fatalf("exit code %d, errors %q", code, errOut)
	}
	for _, line := range []string{
		"virtualmachines/web\n",
		"├── secrets/web-tls  (spec.template.spec.volumes[6].secret.secretName)\n",
		"├── configmaps/web-extra  (spec.template.spec.volumes[5].configMap.name)  not here, not needed: its reference says optional\n",
		"└── virtualmachineinstances/web  (runs as)\n    ├── pods/hp-volume-4kq9s  (runs in)\n    └── pods/virt-launcher-web-7bqxm  (runs in)\n\nshop/web: complete, 20 objects\n",
	} {
		if !strings.Contains(out, line) {
			t.Errorf("%q is missing in:\n%s", line, out)
		}
	}
	if strings.Contains(out, "db") {
		t.Errorf("too much in:\n%s", out)
	}
}

func TestGraphMarksWhatIsMissingAndExitsWith1(t *testing.T) {
	for format, mark := range map[string]string{
		"tree": "secrets/gone-user-data  (spec.template.spec.volumes[1].cloudInitNoCloud.secretRef.name)  MISSING", "table": "1 missing", "wide": "missing ",
		"json": `"state": "missing"`, "yaml": "state: missing", "name": "virtualmachines.kubevirt.io/gone\n", "dot": "color=red", "mermaid": "MISSING\"]:::missing",
		"svg": `class="card missing missing"`,
	} {
		code, out, errOut := run("graph", "vm", "gone", "-n", "shop", "-f", gone, "-o", format)
		if code != 1 || errOut != "shop/gone: 1 missing: secrets/shop/gone-user-data\n" {
			t.Errorf("%s: exit code %d, errors %q", format, code, errOut)
		}
		if !strings.Contains(out, mark) {
			t.Errorf("%s: %q is missing in:\n%s", format, mark, out)
		}
	}
}

func TestGraphReadsABackupFileAsItReadsObjects(t *testing.T) {
	_, want, _ := run("graph", "vm", "shop/web", "-f", everyVolume, "-o", "json")
	backup := asBackup(t, everyVolume)
	code, got, errOut := run("graph", "vm", "shop/web", "--backup", backup, "-o", "json")
	if code != 0 || got != want {
		t.Errorf("exit code %d, errors %q, got:\n%s\nwant:\n%s", code, errOut, got, want)
	}
}

// asBackup writes the objects of a file the way Velero's backup file has them.
func asBackup(t *testing.T, path string) string {
	t.Helper()
	text, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return backupFile(t, string(text))
}

// backupFile writes objects the way Velero's backup file has them.
func backupFile(t *testing.T, text string) string {
	t.Helper()
	objects, err := cluster.ReadObjects(strings.NewReader(text))
	if err != nil {
		t.Fatal(err)
	}
	files := map[string]string{}
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
				files["resources/"+resource.String()+"/"+version+scope+item.GetName()+".json"] = string(data)
			}
		}
	}
	return write(t, "nightly-data.tar.gz", string(archived(t, files)))
}

func archived(t *testing.T, files map[string]string) []byte {
	var buffer bytes.Buffer
	archive := tar.NewWriter(&buffer)
	for name, data := range files {
		if err := archive.WriteHeader(&tar.Header{Name: name, Size: int64(len(data)), Mode: 0o644}); err != nil {
			t.Fatal(err)
		}
		if _, err := archive.Write([]byte(data)); err != nil {
			t.Fatal(err)
		}
	}
	if err := archive.Close(); err != nil {
		t.Fatal(err)
	}
	return compressed(t, buffer.Bytes())
}

func compressed(t *testing.T, data []byte) []byte {
	var buffer bytes.Buffer
	zipped := gzip.NewWriter(&buffer)
	if _, err := zipped.Write(data); err != nil {
		t.Fatal(err)
	}
	if err := zipped.Close(); err != nil {
		t.Fatal(err)
	}
	return buffer.Bytes()
}

func TestGraphMistakes(t *testing.T) {
	for _, mistake := range []struct {
		args []string
		want string
	}{
		{[]string{"graph", "table", "shop/web", "-f", everyVolume}, `unknown kind "table"`},
		{[]string{"graph", "vm", "shop/web", "-f", everyVolume, "-o", "png"}, `want tree, table, wide,`},
		{[]string{"graph", "vm", "shop/web", "-f", "no-such-file"}, "no-such-file"},
		{[]string{"graph", "vm", "shop/web", "-n", "office", "-f", everyVolume}, `"shop/web" is in namespace shop, and --namespace says office`},
		{[]string{"graph", "vm/web", "-l", "app=web", "-f", everyVolume}, "web is named"},
		{[]string{"graph", "-A", "-n", "shop", "-f", everyVolume}, "none of the others can be"},
		{[]string{"graph", "vm", "shop/nobody", "-f", gone}, "no virtualmachines.kubevirt.io/shop/nobody; there is virtualmachines.kubevirt.io/shop/gone,"},
		{[]string{"graph", "vmpool", "-f", gone}, "no virtualmachinepools.pool.kubevirt.io"},
		{[]string{"graph", "-l", "app=none", "-f", gone}, "no virtualmachines.kubevirt.io with labels app=none"},
		{[]string{"graph", "-f", gone, "-o", "svg"}, "a picture is of one object, and these are 2: name one"},
		{[]string{"graph", "vm", "shop/web", "--kubeconfig", "no-such-file"}, "finding the cluster"},
	} {
		if code, out, errOut := run(mistake.args...); code != 2 || out != "" || !strings.Contains(errOut, mistake.want) {
			t.Errorf("%v: exit code %d, output %q, errors %q", mistake.args, code, out, errOut)
		}
	}
}
