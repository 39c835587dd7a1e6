package cluster

import (
	"archive/tar"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path"
	"slices"
)

// A programImage is an image whose one layer is a few static programs and what they need.
type programImage struct {
	name     string            // with its tag
	programs map[string]string // by path in the image: that on this machine
	config   map[string]any    // how it is run (OCI image specification, config.md)
}

const (
	veleroID        = 1002
	veleroGroupID   = 1000
	storePluginID   = 65532
	storePluginCopy = "cp-plugin"
)

// veleroImages are those of Velero and its S3 plugin, each made as its Dockerfile makes it.
func (c *Cluster) veleroImages() []programImage {
	return []programImage{
		{
			name: veleroImage, programs: map[string]string{"velero": c.binaries["velero"]},
			config: map[string]any{"User": fmt.Sprintf("%d:%d", veleroID, veleroGroupID), "Env": []string{"PATH=/", "HOME=/tmp"}},
		},
		{
			name: storePluginImage,
			programs: map[string]string{
				"plugins/" + objectStorePlugin: c.binaries[objectStorePlugin], "bin/" + storePluginCopy: c.binaries[storePluginCopy],
			},
			config: map[string]any{
				"User": fmt.Sprintf("%d:%d", storePluginID, storePluginID), "Env": []string{"PATH=/bin"},
				"Entrypoint": []string{storePluginCopy, "/plugins/" + objectStorePlugin, "/target/" + objectStorePlugin},
			},
		},
	}
}

// loadProgramImage makes an image and makes it known to containerd.
func (c *Cluster) loadProgramImage(ctx context.Context, image programImage) error {
	archive := c.path("machine", path.Base(image.name)+".tar")
	if err := writeLayer(archive, image.programs); err != nil {
		return fmt.Errorf("making the image %s: %w", image.name, err)
	}
	if err := packImage(archive, image.config, image.name); err != nil {
		return fmt.Errorf("making the image %s: %w", image.name, err)
	}
	return errors.Join(c.loadImage(ctx, archive), os.Remove(archive))
}

// writeLayer writes a layer with programs, the folders that they are in, and a folder for temporary files.
func writeLayer(layer string, programs map[string]string) (err error) {
	file, err := os.Create(layer)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, file.Close()) }()
	packed := tar.NewWriter(file)
	folders := []string{"tmp"}
	for target := range programs {
		if folder := path.Dir(target); folder != "." && !slices.Contains(folders, folder) {
			folders = append(folders, folder)
		}
	}
	for _, folder := range folders {
		if err := packed.WriteHeader(&tar.Header{Typeflag: tar.TypeDir, Name: folder + "/", Mode: 0o1777}); err != nil {
			return err
		}
	}
	for target, source := range programs {
		if err := addProgram(packed, target, source); err != nil {
			return err
		}
	}
	return packed.Close()
}

func addProgram(packed *tar.Writer, target, source string) error {
	content, err := os.Open(source)
	if err != nil {
		return err
	}
	defer content.Close()
	info, err := content.Stat()
	if err != nil {
		return err
	}
	if err := packed.WriteHeader(&tar.Header{Name: target, Mode: 0o755, Size: info.Size()}); err != nil {
		return err
	}
	_, err = io.Copy(packed, content)
	return err
}
