// Package pkg holds no code: its test guards which package may know which.
package pkg

import (
	"go/parser"
	"go/token"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
)

const module = "velero-plugin-for-kubevirt/"

// mayImport lists, for each package, those of ours that it may import. Imports point one way: words and maps at the bottom,
// knowledge of KubeVirt above them, Velero and people on top.
var mayImport = map[string][]string{
	"pkg/kubevirt":    {},
	"pkg/object":      {},
	"pkg/options":     {"pkg/kubevirt", "pkg/object", "pkg/graph"},
	"pkg/graph":       {"pkg/kubevirt", "pkg/object"},
	"pkg/consistency": {"pkg/kubevirt", "pkg/object"},
	"pkg/rules":       {"pkg/kubevirt", "pkg/object", "pkg/options"},
	"pkg/cluster":     {"pkg/kubevirt", "pkg/graph"},
	"pkg/snapshot":    {"pkg/kubevirt", "pkg/object", "pkg/graph"},
	"pkg/freeze":      {"pkg/kubevirt", "pkg/consistency"},
	"pkg/backup":      {"pkg/kubevirt", "pkg/object", "pkg/consistency", "pkg/freeze", "pkg/graph", "pkg/options", "pkg/rules", "pkg/snapshot"},
	"pkg/restore":     {"pkg/kubevirt", "pkg/object", "pkg/consistency", "pkg/graph", "pkg/options", "pkg/rules", "pkg/snapshot"},
	"pkg/actions":     {"pkg/kubevirt", "pkg/object", "pkg/backup", "pkg/restore"},
	"pkg/vm":          {"pkg/kubevirt", "pkg/object", "pkg/graph"},
	"pkg/rollback":    {"pkg/kubevirt", "pkg/object", "pkg/graph", "pkg/options", "pkg/rules", "pkg/vm"},
	"pkg/drill":       {"pkg/kubevirt", "pkg/object", "pkg/consistency", "pkg/graph", "pkg/options", "pkg/vm"},
	"pkg/cli": {
		"pkg/kubevirt", "pkg/object", "pkg/backup", "pkg/cluster", "pkg/consistency", "pkg/drill", "pkg/graph", "pkg/restore", "pkg/rollback", "pkg/rules", "pkg/vm",
	},
}

// mayImportVelero are the packages that speak Velero's API: the adapters, the two rooms that read a Backup or a Restore, what people ask about them,
// and what has Velero make some.
var mayImportVelero = []string{"pkg/actions", "pkg/backup", "pkg/cli", "pkg/drill", "pkg/restore", "pkg/rollback", "pkg/vm"}

// toItem turns a struct into an item, which loses the fields that the struct does not know.
const toItem = "ToUnstructured("

func TestImportsPointOneWay(t *testing.T) {
	for _, err := range violations(t, "..") {
		t.Error(err)
	}
}

func violations(t *testing.T, root string) []string {
	var found []string
	err := filepath.WalkDir(filepath.Join(root, "pkg"), func(path string, entry fs.DirEntry, err error) error {
		if err != nil || entry.IsDir() || !strings.HasSuffix(path, ".go") || strings.HasSuffix(path, "_test.go") {
			return err
		}
		file, err := parser.ParseFile(token.NewFileSet(), path, nil, parser.ImportsOnly)
		if err != nil {
			return err
		}
		relative, err := filepath.Rel(root, filepath.Dir(path))
		if err != nil {
			return err
		}
		allowed, known := mayImport[filepath.ToSlash(relative)]
		if !known {
			found = append(found, path+": this package is not in the layout; put it there")
		}
		source, err := os.ReadFile(path)
		if err != nil {
			return err
		}
		if strings.Contains(string(source), toItem) {
			found = append(found, path+": turns a struct back into an item")
		}
		for _, spec := range file.Imports {
			imported, err := strconv.Unquote(spec.Path.Value)
			if err != nil {
				return err
			}
			if ours, is := strings.CutPrefix(imported, module); is && !slices.Contains(allowed, ours) {
				found = append(found, path+": may not import "+ours)
			}
			if strings.Contains(imported, "vmware-tanzu/velero") && !slices.Contains(mayImportVelero, filepath.ToSlash(relative)) {
				found = append(found, path+": may not import Velero")
			}
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return found
}

// The test above must be able to fail.
func TestViolationsAreFound(t *testing.T) {
	root := t.TempDir()
	for path, source := range map[string]string{
		"pkg/object/up.go":     "package object\nimport _ \"" + module + "pkg/graph\"\n",
		"pkg/rules/velero.go":  "package rules\nimport _ \"github.com/vmware-tanzu/velero/pkg/plugin/velero\"\n",
		"pkg/common/common.go": "package common\n",
		"pkg/graph/back.go":    "package graph\nvar _ = converter." + toItem + "nil)\n",
	} {
		file := filepath.Join(root, filepath.FromSlash(path))
		if err := os.MkdirAll(filepath.Dir(file), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(file, []byte(source), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	if found := violations(t, root); len(found) != 4 {
		t.Errorf("want 4 violations, got %q", found)
	}
}
