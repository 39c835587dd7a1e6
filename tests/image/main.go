// Command image makes the plugin's container image from its binaries, without a container engine: the same binaries give the same bytes.
// "make image" runs it. It writes an OCI layout with an image for each platform, and for each platform an archive, an SBOM and the binary.
package main

import (
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"time"

	"github.com/google/go-containerregistry/pkg/name"
	v1 "github.com/google/go-containerregistry/pkg/v1"
)

// top is the folder of the module that the binaries are built from.
const top = "../.."

// A release is what is said of all images of one commit.
type release struct {
	Name     name.Tag
	Version  string
	Revision string
	Created  time.Time // of the commit: what is built later is not newer
	Source   string    // the address of the repository, if it is known
}

func main() {
	reference := flag.String("name", "", "the image's name and tag")
	version := flag.String("version", "", "the plugin's version")
	revision := flag.String("revision", "", "the commit")
	created := flag.Int64("created", 0, "when the commit was made, in seconds since 1970")
	source := flag.String("source", "", "the address of the repository")
	out := flag.String("o", "", "folder to write to, emptied before")
	flag.Parse()
	tag, err := name.NewTag(*reference)
	if err == nil {
		r := release{Name: tag, Version: *version, Revision: *revision, Created: time.Unix(*created, 0).UTC(), Source: *source}
		err = r.write(*out, flag.Args())
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "Error:", err)
		os.Exit(1)
	}
}

// write makes an image of each binary and writes all of them below the folder out.
func (r release) write(out string, binaries []string) error {
	if err := os.RemoveAll(out); err != nil {
		return err
	}
	if err := os.MkdirAll(out, 0o755); err != nil {
		return err
	}
	var images []v1.Image
	for _, path := range binaries {
		b, err := readBinary(path, top)
		if err != nil {
			return fmt.Errorf("reading %s: %w", path, err)
		}
		sbom, err := r.sbom(b)
		if err != nil {
			return fmt.Errorf("writing the SBOM of %s: %w", path, err)
		}
		image, err := r.image(b, sbom)
		if err != nil {
			return fmt.Errorf("making the image of %s: %w", path, err)
		}
		if err := r.writePlatform(filepath.Join(out, program+"-"+b.os+"-"+b.arch), b, sbom, image); err != nil {
			return err
		}
		images = append(images, image)
	}
	digest, err := r.writeLayout(filepath.Join(out, "oci"), images)
	if err != nil {
		return fmt.Errorf("writing the OCI layout: %w", err)
	}
	fmt.Printf("%s@%s\n", r.Name, digest)
	return nil
}
