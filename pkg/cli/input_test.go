package cli

import (
	"bytes"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"unicode/utf16"
)

// named is a VM of this name and namespace, on a disk of its own.
func named(namespace, name string) string {
	metadata := "{name: " + name + "}"
	if namespace != "" {
		metadata = "{name: " + name + ", namespace: " + namespace + "}"
	}
	return "---\napiVersion: kubevirt.io/v1\nkind: VirtualMachine\nmetadata: " + metadata + "\nspec: " + claimed
}

const root = "---\n{apiVersion: v1, kind: PersistentVolumeClaim, metadata: {name: root, namespace: shop}}\n"

func TestFilesAreReadAsKubectlReadsThem(t *testing.T) {
	folder := t.TempDir()
	for name, text := range map[string]string{"vm.yaml": named("shop", "web"), "deep/root.yml": root, "notes.txt": "no YAML: ["} {
		if err := os.MkdirAll(filepath.Dir(filepath.Join(folder, name)), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(folder, name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	vm, disk := write(t, "vm.yaml", named("shop", "web")), write(t, "root.yaml", root)
	both := write(t, "both.yaml", named("shop", "web")+named("shop", "db")+root)
	bare := write(t, "bare.yaml", named("", "web")+"---\n{apiVersion: v1, kind: PersistentVolumeClaim, metadata: {name: root}}")
	office := write(t, "office.yaml", named("shop", "web")+named("office", "web"))
	for name, c := range map[string]struct {
		args []string
		code int
		want string
	}{
		"the second of two files counts, too": {[]string{"vm/web", "-f", vm, "-f", disk}, 0, "shop/web: complete, 2 objects"},
		"so does the first":                   {[]string{"vm/web", "-f", disk, "-f", vm}, 0, "shop/web: complete, 2 objects"},
		"one is not enough":                   {[]string{"vm/web", "-f", vm}, 1, "shop/web: 1 missing, 1 object"},
		"the same twice is no contradiction":  {[]string{"vm/web", "-f", vm, "-f", vm, "-f", disk}, 0, "shop/web: complete, 2 objects"},
		"a folder":                            {[]string{"vm/web", "-f", folder}, 1, "shop/web: 1 missing, 1 object"},
		"a folder of folders":                 {[]string{"vm/web", "-R", "-f", folder}, 0, "shop/web: complete, 2 objects"},
		"all VMs of a file":                   {[]string{"-f", both}, 0, "shop/web: complete, 2 objects\n\nvirtualmachines/db"},
		"in a table":                          {[]string{"-f", both, "-o", "table"}, 0, "shop        virtualmachines/db    2         complete, 2 objects   <none>"},
		"a file without namespaces":           {[]string{"vm/web", "-f", bare}, 0, "web: complete, 2 objects"},
		"put into one":                        {[]string{"vm/web", "-n", "shop", "-f", bare}, 0, "shop/web: complete, 2 objects"},
		"kind and name apart":                 {[]string{"vm", "shop/web", "-f", both}, 0, "shop/web: complete, 2 objects"},
		"another kind to start from":          {[]string{"pvc", "-f", both}, 0, "shop/root: complete, 1 object"},
		"names, each once":                    {[]string{"-f", both, "-o", "name"}, 0, "virtualmachines.kubevirt.io/web\npersistentvolumeclaims/root\nvirtualmachines.kubevirt.io/db\n"},
		"a name in two namespaces":            {[]string{"vm/web", "-f", office}, 2, "web is in several namespaces"},
	} {
		t.Run(name, func(t *testing.T) {
			if code, out, errOut := run(append([]string{"graph"}, c.args...)...); code != c.code || !strings.Contains(out+errOut, c.want) {
				t.Errorf("exit code %d, errors %q, output:\n%s", code, errOut, out)
			}
		})
	}
}

func TestABackupIsRecognised(t *testing.T) {
	for _, flag := range []string{"-f", "--backup"} {
		for _, file := range []string{everyVolume, asBackup(t, everyVolume)} {
			if code, out, errOut := run("graph", "vm/web", flag, file); code != 0 || !strings.Contains(out, "shop/web: complete, 20 objects") {
				t.Errorf("%s %s: exit code %d, errors %q, output:\n%s", flag, file, code, errOut, out)
			}
		}
	}
}

func TestInputIsReadFromStdinInUTF16(t *testing.T) {
	var text bytes.Buffer
	for _, unit := range utf16.Encode([]rune("\ufeff" + named("shop", "web") + root)) {
		text.Write([]byte{byte(unit), byte(unit >> 8)})
	}
	cmd := newGraph()
	var out bytes.Buffer
	cmd.SetIn(&text)
	cmd.SetOut(&out)
	cmd.SetArgs([]string{"vm/web", "-f", "-"})
	if err := cmd.Execute(); err != nil || !strings.Contains(out.String(), "shop/web: complete, 2 objects") {
		t.Errorf("%v, output:\n%s", err, out.String())
	}
}

// TestBadInputIsOneSentence: what it is, and what to do.
func TestBadInputIsOneSentence(t *testing.T) {
	backup, err := os.ReadFile(asBackup(t, everyVolume))
	if err != nil {
		t.Fatal(err)
	}
	for name, c := range map[string]struct{ file, want string }{
		"an empty file":               {write(t, "a.yaml", ""), "no objects"},
		"separators alone":            {write(t, "a.yaml", "---\n---\n"), "no objects"},
		"a document without a kind":   {write(t, "a.yaml", named("shop", "web")+"---\nreplicas: 1\ntext: "+strings.Repeat("long ", 10_000)), "document 2 is no Kubernetes object: it has no kind"},
		"a sentence":                  {write(t, "a.yaml", "hello"), "document 1"},
		"one object in two versions":  {write(t, "a.yaml", named("shop", "web")+strings.Replace(named("shop", "web"), "root}", "data}", 1)), "virtualmachines.kubevirt.io/shop/web is there in two versions"},
		"no VM":                       {write(t, "a.yaml", root), "no virtualmachines.kubevirt.io"},
		"a folder without files":      {t.TempDir(), "no .yaml, .yml or .json files in this folder"},
		"half a backup":               {write(t, "b.tar.gz", string(backup[:len(backup)/2])), "the file ends in the middle: download it again"},
		"a compressed file":           {write(t, "b.gz", string(compressed(t, []byte(strings.Repeat("log ", 1000))))), "no backup, which is a tar.gz file"},
		"an archive of other things":  {write(t, "b.tar.gz", string(archived(t, map[string]string{"readme": "hello"}))), `no backup: it has no items below resources/`},
		"a damaged compressed stream": {write(t, "b.tar.gz", "\x1f\x8bgarbage"), "reading "},
	} {
		t.Run(name, func(t *testing.T) {
			code, out, errOut := run("graph", "-f", c.file)
			if code != 2 || out != "" || !strings.Contains(errOut, c.want) {
				t.Errorf("exit code %d, output %q, errors %q", code, out, errOut)
			}
			if strings.Count(errOut, "\n") != 1 || len(errOut) > 500 {
				t.Errorf("no sentence of %d bytes: %.500q", len(errOut), errOut)
			}
		})
	}
}
