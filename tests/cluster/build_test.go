package cluster

import (
	"bytes"
	"cmp"
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
		sum, err := hashModule(files, "go.mod", flags)
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
	// Another file pins the versions.
	older := func(mod, sum string) string {
		t.Helper()
		files := module(func(m fstest.MapFS) {
			m["v1.mod"], m["v1.sum"] = &fstest.MapFile{Data: []byte(mod)}, &fstest.MapFile{Data: []byte(sum)}
		})
		if hash(files, "-s") != base {
			t.Error("a file that is not used changes the hash")
		}
		key, err := hashModule(files, "v1.mod", []string{"-s"})
		if err != nil {
			t.Fatal(err)
		}
		return key
	}
	first := older("module m", "sum")
	if first == base || first == older("module n", "sum") || first == older("module m", "") {
		t.Error("another file's content does not change the hash")
	}
}

// TestReleases compares the versions that binaries report with those they are built from, for every release.
func TestReleases(t *testing.T) {
	stamp := regexp.MustCompile(`ersion=(v[0-9.]+)`)
	for component, known := range releases {
		for n, release := range known {
			options := Options{Releases: map[string]string{component: release}}
			if err := options.check(); err != nil {
				t.Error(err)
			}
			for _, p := range programsOf(options) {
				module, _, isOwn := strings.Cut(p.Package, "/cmd/")
				if p.Module != component || p.Pinned || !isOwn {
					continue
				}
				if (p.Mod == "") != (n == 0) {
					t.Errorf("%s of release %s is built from %q", p.Name, release, p.Mod)
				}
				if got := stamp.FindStringSubmatch(p.LDFlags); got == nil || got[1] != release {
					t.Errorf("%s of release %s is stamped %q", p.Name, release, p.LDFlags)
				}
				gomod, err := os.ReadFile(filepath.Join("components", component, cmp.Or(p.Mod, "go.mod")))
				if err != nil {
					t.Fatal(err)
				}
				if want := module + " " + release; !strings.Contains(string(gomod), want) {
					t.Errorf("%s of release %s is built from a file that does not require %q", p.Name, release, want)
				}
			}
		}
	}
}

func TestUnknownReleases(t *testing.T) {
	for text, want := range map[string]string{
		"velero":        `"velero" is not COMPONENT=VERSION`,
		"velero=v1.0.0": `there is no release "v1.0.0" of velero, but v1.18.1, `,
		"podman=v1.0.0": `no release of "podman" can be chosen, but of kubernetes, kubevirt, velero`,
		"velero=":       `there is no release "" of velero`,
	} {
		chosen, err := ParseReleases(text)
		if err == nil {
			_, err = Start(t.Context(), Options{Releases: chosen})
		}
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%q gives %v", text, err)
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
