package cluster

import (
	"bytes"
	"context"
	"errors"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"testing/fstest"
	"time"
)

func TestHashModule(t *testing.T) {
	module := func(change func(fstest.MapFS)) fstest.MapFS {
		files := fstest.MapFS{
			"go.mod":            {Data: []byte("module m")},
			"go.sum":            {Data: []byte("sum")},
			"manifests/main.go": {Data: []byte("package main")},
		}
		change(files)
		return files
	}
	hash := func(files fstest.MapFS, flags ...string) string {
		t.Helper()
		sum, err := hashModule(files, flags)
		if err != nil {
			t.Fatal(err)
		}
		return sum
	}
	base := hash(module(func(fstest.MapFS) {}), "-s")
	same := map[string]func(fstest.MapFS){
		"nothing":  func(fstest.MapFS) {},
		"a test":   func(m fstest.MapFS) { m["manifests/main_test.go"] = &fstest.MapFile{Data: []byte("x")} },
		"a README": func(m fstest.MapFS) { m["README.md"] = &fstest.MapFile{Data: []byte("x")} },
	}
	for what, change := range same {
		if hash(module(change), "-s") != base {
			t.Errorf("changing %s changes the hash", what)
		}
	}
	different := map[string]func(fstest.MapFS){
		"go.mod":         func(m fstest.MapFS) { m["go.mod"].Data = []byte("module n") },
		"go.sum":         func(m fstest.MapFS) { m["go.sum"].Data = nil },
		"a file":         func(m fstest.MapFS) { m["manifests/main.go"].Data = []byte("package main\n") },
		"a file's place": func(m fstest.MapFS) { m["main.go"] = m["manifests/main.go"]; delete(m, "manifests/main.go") },
	}
	for what, change := range different {
		if hash(module(change), "-s") == base {
			t.Errorf("changing %s does not change the hash", what)
		}
	}
	if hash(module(func(fstest.MapFS) {}), "-s", "-w") == base {
		t.Error("changing the flags does not change the hash")
	}
}

// TestVersionsStamped compares the versions that binaries report with those they are built from.
func TestVersionsStamped(t *testing.T) {
	for _, p := range programsOf(Options{}) {
		stamp := regexp.MustCompile(`ersion=(v[0-9.]+)`).FindStringSubmatch(p.LDFlags)
		if stamp == nil {
			continue
		}
		gomod, err := os.ReadFile(filepath.Join("components", p.Module, "go.mod"))
		if err != nil {
			t.Fatal(err)
		}
		module, _, _ := strings.Cut(p.Package, "/cmd/")
		if want := module + " " + stamp[1]; !strings.Contains(string(gomod), want) {
			t.Errorf("%s is stamped %s, but %s/go.mod does not require %q", p.Name, stamp[1], p.Module, want)
		}
	}
}

// TestBuild builds a program of its own with the real compiler.
func TestBuild(t *testing.T) {
	source, cache := t.TempDir(), t.TempDir()
	write := func(name, content string) {
		t.Helper()
		path := filepath.Join(source, "mine", name)
		if err := errors.Join(os.MkdirAll(filepath.Dir(path), 0o755), os.WriteFile(path, []byte(content), 0o644)); err != nil {
			t.Fatal(err)
		}
	}
	write("go.mod", "module mine\n\ngo 1.26.0\n")
	write("hello/main.go", "package main\n\nvar Word = \"?\"\n\nfunc main() { println(Word) }\n")
	var out bytes.Buffer
	b := &builder{source: source, cache: cache, progress: newProgress(&out)}
	hello := Program{Name: "hello", Module: "mine", Package: "./hello", LDFlags: "-X main.Word=hi"}
	first, err := b.build(t.Context(), []Program{hello})
	if err != nil {
		t.Fatal(err)
	}
	if printed := out.String(); !strings.Contains(printed, "building hello (1 of 1)") || !strings.Contains(printed, " s\n") {
		t.Errorf("the progress is %q", printed)
	}
	out.Reset()
	second, err := b.build(t.Context(), []Program{hello})
	if err != nil || out.Len() > 0 || first["hello"] != second["hello"] {
		t.Errorf("the second build gives %v, %v and prints %q", second, err, out.String())
	}
	if _, err := runProgram(t.Context(), first["hello"], nil); err != nil {
		t.Error(err)
	}
	write("hello/main.go", "package main\n\nfunc main() { nonsense }\n")
	_, err = b.build(t.Context(), []Program{hello})
	if err == nil || !strings.HasPrefix(err.Error(), "building hello: ") || !strings.Contains(err.Error(), "undefined: nonsense") {
		t.Errorf("a failing build gives: %v", err)
	}
}

func TestLockFile(t *testing.T) {
	path := filepath.Join(t.TempDir(), "lock")
	unlock, err := lockFile(t.Context(), path, func() { t.Error("waited for nobody") })
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Millisecond)
	defer cancel()
	waited := false
	if _, err := lockFile(ctx, path, func() { waited = true }); !errors.Is(err, context.DeadlineExceeded) || !waited {
		t.Errorf("locking twice gives %v after waiting %t", err, waited)
	}
	unlock()
	if _, err := lockFile(t.Context(), path, func() {}); err != nil {
		t.Error(err)
	}
}

func TestFreePort(t *testing.T) {
	seen := map[int]bool{}
	for range 50 {
		port, err := freePort()
		if err != nil {
			t.Fatal(err)
		}
		defer releasePort(port)
		if seen[port] || port < firstPort || port > lastPort {
			t.Errorf("port %d is given out twice or out of range", port)
		}
		seen[port] = true
	}
}
