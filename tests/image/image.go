package main

import (
	"archive/tar"
	"bytes"
	"fmt"
	"io"
	"maps"
	"os"
	"path"
	"slices"
	"time"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/empty"
	"github.com/google/go-containerregistry/pkg/v1/layout"
	"github.com/google/go-containerregistry/pkg/v1/mutate"
	"github.com/google/go-containerregistry/pkg/v1/tarball"
	"github.com/google/go-containerregistry/pkg/v1/types"
)

// labels says of an image what the OCI has words for (image-spec v1.1.1, annotations.md).
func (r release) labels() map[string]string {
	labels := map[string]string{
		"org.opencontainers.image.title":       program,
		"org.opencontainers.image.description": "Velero plugin that backs up and restores KubeVirt virtual machines",
		"org.opencontainers.image.licenses":    "Apache-2.0",
		"org.opencontainers.image.version":     r.Version,
		"org.opencontainers.image.revision":    r.Revision,
		"org.opencontainers.image.created":     r.Created.Format(time.RFC3339),
	}
	if r.Source != "" {
		labels["org.opencontainers.image.source"] = r.Source
		labels["org.opencontainers.image.documentation"] = r.Source + "#readme"
	}
	return labels
}

// image makes the image of a binary: as the Dockerfile does, with licences and SBOM besides.
func (r release) image(b binary, sbom []byte) (v1.Image, error) {
	files := map[string]file{
		program:                {b.content, 0o755},
		program + ".spdx.json": {sbom, 0o644},
	}
	for _, m := range b.modules {
		for _, l := range m.licences {
			files[path.Join("licenses", m.path, l.path)] = file{l.content, 0o644}
		}
	}
	content, err := archive(files, r.Created)
	if err != nil {
		return nil, err
	}
	layer, err := tarball.LayerFromOpener(func() (io.ReadCloser, error) { return io.NopCloser(bytes.NewReader(content)), nil },
		tarball.WithMediaType(types.OCILayer), tarball.WithCompressedCaching)
	if err != nil {
		return nil, err
	}
	base := mutate.ConfigMediaType(mutate.MediaType(empty.Image, types.OCIManifestSchema1), types.OCIConfigJSON)
	image, err := mutate.Append(base, mutate.Addendum{Layer: layer, History: v1.History{Created: v1.Time{Time: r.Created}, CreatedBy: "make image"}})
	if err != nil {
		return nil, err
	}
	config, err := image.ConfigFile()
	if err != nil {
		return nil, err
	}
	config = config.DeepCopy()
	config.OS, config.Architecture, config.Created = b.os, b.arch, v1.Time{Time: r.Created}
	config.Config = v1.Config{
		User: "65532:65532", Entrypoint: []string{"/" + program}, Cmd: []string{"install", "/target"}, Labels: r.labels(),
	}
	if image, err = mutate.ConfigFile(image, config); err != nil {
		return nil, err
	}
	return mutate.Annotations(image, r.labels()).(v1.Image), nil
}

type file struct {
	content []byte
	mode    int64
}

// archive packs files, and the folders that they are in, in the order of their names.
func archive(files map[string]file, at time.Time) ([]byte, error) {
	var out bytes.Buffer
	w := tar.NewWriter(&out)
	made := map[string]bool{".": true}
	for _, name := range slices.Sorted(maps.Keys(files)) {
		if err := archiveFolder(w, made, path.Dir(name), at); err != nil {
			return nil, err
		}
		f := files[name]
		if err := w.WriteHeader(&tar.Header{Name: name, Mode: f.mode, Size: int64(len(f.content)), ModTime: at, Format: tar.FormatPAX}); err != nil {
			return nil, fmt.Errorf("packing %s: %w", name, err)
		}
		if _, err := w.Write(f.content); err != nil {
			return nil, fmt.Errorf("packing %s: %w", name, err)
		}
	}
	return out.Bytes(), w.Close()
}

func archiveFolder(w *tar.Writer, made map[string]bool, name string, at time.Time) error {
	if made[name] {
		return nil
	}
	made[name] = true
	if err := archiveFolder(w, made, path.Dir(name), at); err != nil {
		return err
	}
	return w.WriteHeader(&tar.Header{Typeflag: tar.TypeDir, Name: name + "/", Mode: 0o755, ModTime: at, Format: tar.FormatPAX})
}

// writePlatform writes what people take of one platform: an archive in the format of "docker save", which containerd, kind and docker load,
// the SBOM, and the binary, which is the command for people, too.
func (r release) writePlatform(base string, b binary, sbom []byte, image v1.Image) error {
	if err := tarball.WriteToFile(base+".tar", r.Name, image); err != nil {
		return fmt.Errorf("writing %s.tar: %w", base, err)
	}
	if err := os.WriteFile(base+".spdx.json", sbom, 0o644); err != nil {
		return err
	}
	return os.WriteFile(base, b.content, 0o755)
}

// writeLayout writes an OCI layout with one index of the images of all platforms, and returns its digest.
func (r release) writeLayout(dir string, images []v1.Image) (v1.Hash, error) {
	index := mutate.IndexMediaType(empty.Index, types.OCIImageIndex)
	for _, image := range images {
		config, err := image.ConfigFile()
		if err != nil {
			return v1.Hash{}, err
		}
		index = mutate.AppendManifests(index, mutate.IndexAddendum{Add: image, Descriptor: v1.Descriptor{Platform: config.Platform()}})
	}
	index = mutate.Annotations(index, r.labels()).(v1.ImageIndex)
	folder, err := layout.Write(dir, empty.Index)
	if err != nil {
		return v1.Hash{}, err
	}
	err = folder.AppendIndex(index, layout.WithAnnotations(map[string]string{"org.opencontainers.image.ref.name": r.Name.TagStr()}))
	if err != nil {
		return v1.Hash{}, err
	}
	return index.Digest()
}
