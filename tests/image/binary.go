package main

import (
	"bytes"
	"cmp"
	"debug/buildinfo"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"

	"github.com/google/licensecheck"
)

// program is the name of the binary, in the image and beside it.
const program = "velero-plugin-for-kubevirt"

// A binary is one of the plugin, and what is linked into it.
type binary struct {
	content   []byte
	os, arch  string
	goVersion string
	modules   []module // sorted by path; the plugin's own is the first, Go's standard library the second
}

// A module is one that a binary is linked with.
type module struct {
	path, version string
	licences      []licence
}

// A licence is a file that says under which terms a module may be passed on.
type licence struct {
	path    string // below the module's folder
	content []byte
	id      string // of the SPDX list; empty when the text is not one of it
}

// readBinary reads a binary that was built from the module in the folder top, and finds the licences of what is in it.
func readBinary(path, top string) (binary, error) {
	info, err := buildinfo.ReadFile(path)
	if err != nil {
		return binary{}, err
	}
	content, err := os.ReadFile(path)
	if err != nil {
		return binary{}, err
	}
	setting := map[string]string{}
	for _, s := range info.Settings {
		setting[s.Key] = s.Value
	}
	b := binary{content: content, os: setting["GOOS"], arch: setting["GOARCH"], goVersion: info.GoVersion}
	packages, err := listPackages(top, setting["-tags"], "GOOS="+b.os, "GOARCH="+b.arch, "GOTOOLCHAIN="+b.goVersion)
	if err != nil {
		return binary{}, err
	}
	if b.modules, err = modulesOf(packages, b.goVersion); err != nil {
		return binary{}, err
	}
	for _, m := range info.Deps {
		if !slices.ContainsFunc(b.modules, func(listed module) bool { return listed.path == m.Path && listed.version == m.Version }) {
			return binary{}, fmt.Errorf("it is linked with %s %s, which %s does not require: build it from there", m.Path, m.Version, top)
		}
	}
	return b, nil
}

// A goPackage is what the go command says of a package.
type goPackage struct {
	ImportPath, Dir, Root string
	Standard              bool
	Module                *struct {
		Path, Version, Dir string
		Main               bool
	}
}

// listPackages returns all packages that the module's program is linked with.
func listPackages(top, tags string, env ...string) ([]goPackage, error) {
	list := exec.Command("go", "list", "-deps", "-json=ImportPath,Dir,Root,Standard,Module", "-tags", tags, ".")
	list.Dir, list.Env = top, append(os.Environ(), append(env, "CGO_ENABLED=0")...)
	out, err := list.Output()
	if err != nil {
		var exit *exec.ExitError
		if errors.As(err, &exit) {
			err = fmt.Errorf("%w: %s", err, exit.Stderr)
		}
		return nil, fmt.Errorf("listing the packages: %w", err)
	}
	var packages []goPackage
	for decoder := json.NewDecoder(bytes.NewReader(out)); ; {
		var p goPackage
		if err := decoder.Decode(&p); errors.Is(err, io.EOF) {
			return packages, nil
		} else if err != nil {
			return nil, fmt.Errorf("listing the packages: %w", err)
		}
		packages = append(packages, p)
	}
}

// modulesOf returns the modules of packages with the licences that apply to these: those in their folders and in the folders above.
func modulesOf(packages []goPackage, goVersion string) ([]module, error) {
	found := map[string]module{}
	for _, p := range packages {
		m, root := module{path: "std", version: strings.TrimPrefix(goVersion, "go")}, p.Root
		if !p.Standard {
			m, root = module{path: p.Module.Path, version: p.Module.Version}, p.Module.Dir
		}
		if known, is := found[m.path]; is {
			m = known
		}
		for dir := p.Dir; ; dir = filepath.Dir(dir) {
			more, err := licencesIn(root, dir)
			if err != nil {
				return nil, err
			}
			for _, file := range more {
				if !slices.ContainsFunc(m.licences, func(l licence) bool { return l.path == file.path }) {
					m.licences = append(m.licences, file)
				}
			}
			if dir == root || len(dir) < len(root) {
				break
			}
		}
		found[m.path] = m
	}
	var modules []module
	for _, m := range found {
		if len(m.licences) == 0 {
			return nil, fmt.Errorf("module %s has no licence file: it must not be passed on", m.path)
		}
		slices.SortFunc(m.licences, func(a, b licence) int { return cmp.Compare(a.path, b.path) })
		modules = append(modules, m)
	}
	slices.SortFunc(modules, func(a, b module) int { return cmp.Compare(rank(a)+a.path, rank(b)+b.path) })
	return modules, nil
}

func rank(m module) string {
	switch m.path {
	case program:
		return "0"
	case "std":
		return "1"
	}
	return "2"
}

// licenceFile is how licences and what must accompany them are called.
var licenceFile = regexp.MustCompile(`(?i)^(un)?(licen[cs]e|copying|notice|patents)([-._].*)?$`)

// licencesIn returns the licence files of a folder of a module.
func licencesIn(root, dir string) ([]licence, error) {
	entries, err := os.ReadDir(dir)
	if err != nil {
		return nil, err
	}
	var found []licence
	for _, entry := range entries {
		if !entry.Type().IsRegular() || !licenceFile.MatchString(entry.Name()) || filepath.Ext(entry.Name()) == ".go" {
			continue
		}
		content, err := os.ReadFile(filepath.Join(dir, entry.Name()))
		if err != nil {
			return nil, err
		}
		path, err := filepath.Rel(root, filepath.Join(dir, entry.Name()))
		if err != nil {
			return nil, err
		}
		found = append(found, licence{path: filepath.ToSlash(path), content: content, id: identify(content)})
	}
	return found, nil
}

// identify returns the SPDX identifier of a text that is a licence and little else, else "".
func identify(text []byte) string {
	coverage := licensecheck.Scan(text)
	if coverage.Percent < 75 {
		return ""
	}
	var ids []string
	for _, match := range coverage.Match {
		if !match.IsURL && !slices.Contains(ids, match.ID) {
			ids = append(ids, match.ID)
		}
	}
	slices.Sort(ids)
	return strings.Join(ids, " AND ")
}
