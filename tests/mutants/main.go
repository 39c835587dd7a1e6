// Command mutants breaks the plugin in one place at a time – a rule, a reference, a lookup is taken out – and runs the fast
// tests. A mutant that no test notices is a rule that nothing guards: it is printed, and the exit code is 1.
package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"regexp"
	"strings"
)

// tables are the lists whose entries are taken out, one at a time: file and variable.
var tables = []struct{ file, variable string }{
	{"pkg/rules/rules.go", "All"},
	{"pkg/graph/references.go", "references"},
	{"pkg/graph/lookups.go", "lookups"},
}

// The tests that must notice.
var tests = []string{"./tests/scenarios"}

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	defer stop()
	survivors, err := run(ctx)
	if err != nil {
		fmt.Fprintln(os.Stderr, "mutants:", err)
		os.Exit(1)
	}
	if survivors > 0 {
		fmt.Printf("%d mutants survived\n", survivors)
		os.Exit(1)
	}
	fmt.Println("no mutant survived")
}

func run(ctx context.Context) (survivors int, err error) {
	if out, err := goTest(ctx); err != nil {
		return 0, fmt.Errorf("the tests fail without a mutant: %w\n%s", err, out)
	}
	for _, table := range tables {
		source, entries, err := entriesOf(table.file, table.variable)
		if err != nil {
			return 0, err
		}
		for _, e := range entries {
			killer, err := try(ctx, table.file, without(source, e))
			if err != nil {
				return 0, err
			}
			if killer == "" {
				survivors++
				killer = "SURVIVED"
			}
			fmt.Printf("%-40s without %s\n", killer, firstLine(source[e.start:e.end]))
		}
	}
	return survivors, nil
}

// An entry is one element of a list, by its place in the source.
type entry struct{ start, end int }

// entriesOf finds the elements of the list that a variable is initialized with.
func entriesOf(file, variable string) ([]byte, []entry, error) {
	source, err := os.ReadFile(file)
	if err != nil {
		return nil, nil, err
	}
	set := token.NewFileSet()
	parsed, err := parser.ParseFile(set, file, source, 0)
	if err != nil {
		return nil, nil, err
	}
	var entries []entry
	ast.Inspect(parsed, func(node ast.Node) bool {
		spec, is := node.(*ast.ValueSpec)
		if !is || spec.Names[0].Name != variable || len(spec.Values) != 1 {
			return true
		}
		list, is := spec.Values[0].(*ast.CompositeLit)
		if !is {
			return true
		}
		for _, element := range list.Elts {
			entries = append(entries, entry{set.Position(element.Pos()).Offset, set.Position(element.End()).Offset})
		}
		return false
	})
	if len(entries) == 0 {
		return nil, nil, fmt.Errorf("%s: no list %s", file, variable)
	}
	return source, entries, nil
}

// without returns the source with one element cut out. What it named stays in use, so that the mutant compiles.
func without(source []byte, e entry) []byte {
	rest := bytes.TrimPrefix(source[e.end:], []byte(","))
	mutant := append(bytes.Clone(source[:e.start]), rest...)
	return append(mutant, []byte("\nvar _ = []any{"+string(used(source[e.start:e.end]))+"}\n")...)
}

// used lists the functions that an element names.
func used(element []byte) []byte {
	names := regexp.MustCompile(`find: ([A-Za-z]+)[,}\s]`).FindSubmatch(element)
	if names == nil {
		return nil
	}
	return names[1]
}

var failed = regexp.MustCompile(`--- FAIL: (\S+/\S+/\S+)`)

// try runs the tests with a file replaced and returns the first test that fails, "" if none does.
func try(ctx context.Context, file string, mutant []byte) (killer string, err error) {
	dir, err := os.MkdirTemp("", "mutant-")
	if err != nil {
		return "", err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(dir)) }()
	replacement := filepath.Join(dir, "mutant.go")
	absolute, err := filepath.Abs(file)
	if err != nil {
		return "", err
	}
	overlay, err := json.Marshal(map[string]any{"Replace": map[string]string{absolute: replacement}})
	if err != nil {
		return "", err
	}
	overlayFile := filepath.Join(dir, "overlay.json")
	if err := errors.Join(os.WriteFile(replacement, mutant, 0o600), os.WriteFile(overlayFile, overlay, 0o600)); err != nil {
		return "", err
	}
	out, err := goTest(ctx, "-overlay", overlayFile)
	if err == nil {
		return "", nil
	}
	if name := failed.FindSubmatch(out); name != nil {
		return string(name[1]), nil
	}
	return "", fmt.Errorf("a mutant of %s does not compile: %w\n%s", file, err, out)
}

func goTest(ctx context.Context, args ...string) ([]byte, error) {
	return exec.CommandContext(ctx, "go", append(append([]string{"test", "-count=1", "-vet=off"}, args...), tests...)...).CombinedOutput()
}

func firstLine(text []byte) string {
	line, _, _ := strings.Cut(string(text), "\n")
	return line
}
