package main

import (
	"archive/tar"
	"bytes"
	"crypto/sha256"
	"debug/buildinfo"
	"encoding/hex"
	"encoding/json"
	"errors"
	"io"
	"log"
	"maps"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-containerregistry/pkg/name"
	"github.com/google/go-containerregistry/pkg/registry"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/layout"
	"github.com/google/go-containerregistry/pkg/v1/remote"
	"github.com/google/go-containerregistry/pkg/v1/tarball"
	"github.com/google/go-containerregistry/pkg/v1/validate"
)

// TestImage makes the image as people do, twice, in different folders, and pushes one to a registry.
func TestImage(t *testing.T) {
	server := httptest.NewServer(registry.New(registry.Logger(log.New(io.Discard, "", 0))))
	defer server.Close()
	reference := strings.TrimPrefix(server.URL, "http://") + "/velero/velero-plugin-for-kubevirt:v1.2.3"
	first, second := copyOfSources(t, "a"), copyOfSources(t, "another-folder")
	makeTarget(t, first, "push", reference)
	makeTarget(t, second, "image", reference)

	index := readLayout(t, first)
	digest, err := index.Digest()
	if err != nil {
		t.Fatal(err)
	}
	if other, err := readLayout(t, second).Digest(); err != nil || other != digest {
		t.Errorf("the same sources give %s in one folder, %s in another, %v", digest, other, err)
	}
	t.Run("pushed", func(t *testing.T) { testPushed(t, reference, digest) })
	t.Run("archive", func(t *testing.T) { testArchive(t, first, reference) })
	t.Run("labels", func(t *testing.T) { testLabels(t, index) })
	t.Run("content", func(t *testing.T) { testContent(t, first) })
}

// copyOfSources copies what is in the repository into a folder of its own.
func copyOfSources(t *testing.T, folder string) string {
	t.Helper()
	dir := filepath.Join(t.TempDir(), folder)
	files, err := exec.Command("git", "-C", top, "ls-files", "-z", "--", "go.mod", "go.sum", "Makefile", "LICENSE", "main.go", "pkg", "tests/image").Output()
	if err != nil {
		t.Fatal(err)
	}
	for file := range strings.SplitSeq(strings.TrimRight(string(files), "\x00"), "\x00") {
		content, err := os.ReadFile(filepath.Join(top, file))
		if errors.Is(err, os.ErrNotExist) {
			continue // removed, and not committed yet
		}
		if err == nil {
			err = os.MkdirAll(filepath.Dir(filepath.Join(dir, file)), 0o755)
		}
		if err == nil {
			err = os.WriteFile(filepath.Join(dir, file), content, 0o644)
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	return dir
}

func makeTarget(t *testing.T, dir, target, reference string) {
	t.Helper()
	out, err := exec.Command("make", "-C", dir, target, "IMAGE="+reference, "PLATFORMS=linux/amd64", "VERSION=v1.2.3", "REVISION=c0ffee",
		"CREATED=1700000000", "SOURCE=https://example.com/repository").CombinedOutput()
	if err != nil {
		t.Fatalf("make %s: %v\n%s", target, err, out)
	}
}

func readLayout(t *testing.T, dir string) v1.ImageIndex {
	t.Helper()
	folder, err := layout.ImageIndexFromPath(filepath.Join(dir, "bin/image/oci"))
	if err != nil {
		t.Fatal(err)
	}
	manifest, err := folder.IndexManifest()
	if err != nil || len(manifest.Manifests) != 1 {
		t.Fatalf("want one index in the layout: %+v, %v", manifest, err)
	}
	index, err := folder.ImageIndex(manifest.Manifests[0].Digest)
	if err != nil {
		t.Fatal(err)
	}
	return index
}

// testPushed reads back from the registry what "make push" has pushed.
func testPushed(t *testing.T, reference string, digest v1.Hash) {
	ref, err := name.ParseReference(reference)
	if err != nil {
		t.Fatal(err)
	}
	index, err := remote.Index(ref)
	if err != nil {
		t.Fatal(err)
	}
	if got, err := index.Digest(); err != nil || got != digest {
		t.Errorf("the registry has %s, the layout %s, %v", got, digest, err)
	}
	if err := validate.Index(index); err != nil {
		t.Error(err)
	}
}

func testArchive(t *testing.T, dir, reference string) {
	tag, err := name.NewTag(reference)
	if err != nil {
		t.Fatal(err)
	}
	image, err := tarball.ImageFromPath(filepath.Join(dir, "bin/image/velero-plugin-for-kubevirt-linux-amd64.tar"), &tag)
	if err != nil {
		t.Fatal(err)
	}
	config, err := image.ConfigFile()
	if err != nil {
		t.Fatal(err)
	}
	if config.OS != "linux" || config.Architecture != "amd64" || config.Config.User != "65532:65532" {
		t.Errorf("the image is for %s/%s and user %s", config.OS, config.Architecture, config.Config.User)
	}
	if command := append(config.Config.Entrypoint, config.Config.Cmd...); !slices.Equal(command, []string{"/velero-plugin-for-kubevirt", "install", "/target"}) {
		t.Errorf("it runs %q", command)
	}
}

// testLabels compares what the index, the image and its configuration say of themselves.
func testLabels(t *testing.T, index v1.ImageIndex) {
	manifest, err := index.IndexManifest()
	if err != nil || len(manifest.Manifests) != 1 {
		t.Fatalf("%+v, %v", manifest, err)
	}
	image, err := index.Image(manifest.Manifests[0].Digest)
	if err != nil {
		t.Fatal(err)
	}
	own, err := image.Manifest()
	if err != nil {
		t.Fatal(err)
	}
	config, err := image.ConfigFile()
	if err != nil {
		t.Fatal(err)
	}
	for label, want := range map[string]string{
		"title": "velero-plugin-for-kubevirt", "version": "v1.2.3", "revision": "c0ffee", "created": "2023-11-14T22:13:20Z",
		"licenses": "Apache-2.0", "source": "https://example.com/repository",
	} {
		for place, labels := range map[string]map[string]string{"index": manifest.Annotations, "image": own.Annotations, "configuration": config.Config.Labels} {
			if got := labels["org.opencontainers.image."+label]; got != want {
				t.Errorf("%s: %s is %q, want %q", place, label, got, want)
			}
		}
	}
}

// testContent looks into the image's one layer: the binary, its SBOM and the licences of all that Go says it is linked with.
func testContent(t *testing.T, dir string) {
	path := filepath.Join(dir, "bin/linux/amd64/velero-plugin-for-kubevirt")
	built, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	info, err := buildinfo.ReadFile(path)
	if err != nil || len(info.Deps) < 50 {
		t.Fatalf("%+v, %v", info, err)
	}
	files, modes := layerOf(t, filepath.Join(dir, "bin/image/velero-plugin-for-kubevirt-linux-amd64.tar"))
	if !bytes.Equal(files["velero-plugin-for-kubevirt"], built) || modes["velero-plugin-for-kubevirt"] != 0o755 {
		t.Errorf("the image does not have the binary: %d bytes, mode %o", len(files["velero-plugin-for-kubevirt"]), modes["velero-plugin-for-kubevirt"])
	}
	var sbom struct {
		SPDXVersion string
		Packages    []struct {
			Name, VersionInfo, LicenseDeclared string
			Checksums                          []struct{ ChecksumValue string }
		}
	}
	if err := json.Unmarshal(files["velero-plugin-for-kubevirt.spdx.json"], &sbom); err != nil {
		t.Fatal(err)
	}
	licences := map[string]string{}
	for _, p := range sbom.Packages {
		licences[p.Name+"@"+p.VersionInfo] = p.LicenseDeclared
	}
	sum := sha256.Sum256(built)
	if first := sbom.Packages[0]; sbom.SPDXVersion != "SPDX-2.3" || len(first.Checksums) != 1 || first.Checksums[0].ChecksumValue != hex.EncodeToString(sum[:]) {
		t.Errorf("%s describes %+v", sbom.SPDXVersion, first)
	}
	for module, want := range map[string]string{
		"velero-plugin-for-kubevirt@v1.2.3": "Apache-2.0", "std@" + strings.TrimPrefix(info.GoVersion, "go"): "BSD-3-Clause", "github.com/spf13/cobra@v1.10.2": "Apache-2.0",
	} {
		if licences[module] != want {
			t.Errorf("the licence of %s is %q, want %q", module, licences[module], want)
		}
	}
	if len(sbom.Packages) != len(info.Deps)+2 {
		t.Errorf("the SBOM has %d packages; the binary %d modules, its own and Go's", len(sbom.Packages), len(info.Deps))
	}
	for _, m := range info.Deps {
		if _, listed := licences[m.Path+"@"+m.Version]; !listed {
			t.Errorf("the SBOM lacks %s %s", m.Path, m.Version)
		}
		if !slices.ContainsFunc(slices.Collect(maps.Keys(files)), func(name string) bool { return strings.HasPrefix(name, "licenses/"+m.Path+"/") }) {
			t.Errorf("the image lacks the licence of %s", m.Path)
		}
	}
}

// layerOf unpacks the one layer of an archive.
func layerOf(t *testing.T, path string) (files map[string][]byte, modes map[string]int64) {
	t.Helper()
	image, err := tarball.ImageFromPath(path, nil)
	if err != nil {
		t.Fatal(err)
	}
	layers, err := image.Layers()
	if err != nil || len(layers) != 1 {
		t.Fatalf("%d layers, %v", len(layers), err)
	}
	content, err := layers[0].Uncompressed()
	if err != nil {
		t.Fatal(err)
	}
	files, modes = map[string][]byte{}, map[string]int64{}
	for r := tar.NewReader(content); ; {
		header, err := r.Next()
		if errors.Is(err, io.EOF) {
			return files, modes
		}
		if err != nil {
			t.Fatal(err)
		}
		if files[header.Name], err = io.ReadAll(r); err != nil {
			t.Fatal(err)
		}
		modes[header.Name] = header.Mode
	}
}

// TestAModuleWithoutALicenceIsRefused: nobody may pass it on.
func TestAModuleWithoutALicenceIsRefused(t *testing.T) {
	dir := t.TempDir()
	p := goPackage{ImportPath: "example.com/m", Dir: dir}
	p.Module = &struct {
		Path, Version, Dir string
		Main               bool
	}{Path: "example.com/m", Version: "v1.0.0", Dir: dir}
	if _, err := modulesOf([]goPackage{p}, "go1.26.0"); err == nil || !strings.Contains(err.Error(), "example.com/m has no licence") {
		t.Errorf("%v", err)
	}
	if err := os.WriteFile(filepath.Join(dir, "LICENSE"), []byte("All mine."), 0o600); err != nil {
		t.Fatal(err)
	}
	modules, err := modulesOf([]goPackage{p}, "go1.26.0")
	if err != nil || len(modules) != 1 || modules[0].licences[0].id != "" {
		t.Errorf("%+v, %v", modules, err)
	}
}
