package cluster

import (
	"archive/tar"
	"context"
	"crypto/sha256"
	"embed"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
)

// Images are what a Machine runs, as files in the cache.
type Images struct {
	Launcher  string // an archive with the image of virt-launcher and virt-handler
	GuestDisk string // a disk from which a virtual machine boots, see components/guest
	EFIDisk   string // a disk with which it boots by EFI
}

// imageScripts make the images. Each makes one thing from what its arguments name.
//
//go:embed images/*.sh
var imageScripts embed.FS

// launcherPrograms are KubeVirt's programs in the image of virt-launcher and virt-handler. Two of them call C.
var launcherPrograms = []Program{
	{Name: "virt-freezer", Module: "kubevirt", Package: "kubevirt.io/kubevirt/cmd/virt-freezer", LDFlags: kubeVirtVersion},
	nodeProgram("virt-chroot"), nodeProgram("virt-launcher-monitor"), nodeProgram("virt-probe"), nodeProgram("virt-tail"),
	withC(nodeProgram("virt-launcher")), withC(nodeProgram("virt-handler")),
}

var guestProgram = Program{Name: "guest", Module: "guest", Package: "."}

func nodeProgram(name string) Program {
	return Program{Name: name, Module: "kubevirt-node", Package: "kubevirt.io/kubevirt/cmd/" + name, LDFlags: stamped(kubeVirtVersion, "kubevirt")}
}

func withC(p Program) Program {
	p.C, p.Tags = true, "libvirt_dlopen" // it finds the library when it runs
	return p
}

// launcherImage names an image as virt-controller and KubeVirt's manifests do.
func launcherImage(name string) string {
	return "quay.io/kubevirt/" + name + ":" + releases["kubevirt"][0]
}

// BuildImages makes the images that the cache lacks. It must be root, have the network, and be in namespaces of mounts and processes
// of its own, with which all that it mounts goes.
func BuildImages(ctx context.Context, out io.Writer) (Images, error) {
	b, err := newBuilder(ctx, out)
	if err != nil {
		return Images{}, err
	}
	var programs []Program
	for _, p := range slices.Concat(machine.programs, launcherPrograms, []Program{guestProgram}) {
		programs = append(programs, Options{}.released(p))
	}
	binaries, err := b.build(ctx, programs)
	if err != nil {
		return Images{}, err
	}
	i := imageBuilder{builder: b, binaries: binaries}
	if i.cache, err = cacheDir(imageCache); err != nil {
		return Images{}, err
	}
	if err := os.MkdirAll(i.cache, 0o755); err != nil {
		return Images{}, err
	}
	var images Images
	if images.Launcher, err = i.launcher(ctx); err != nil {
		return Images{}, fmt.Errorf("making the image of virt-launcher: %w", err)
	}
	if images.GuestDisk, images.EFIDisk, err = i.guest(ctx); err != nil {
		return Images{}, fmt.Errorf("making the guest's disks: %w", err)
	}
	return images, nil
}

type imageBuilder struct {
	builder  *builder
	binaries map[string]string
	cache    string
}

func (i imageBuilder) launcher(ctx context.Context) (string, error) {
	root, err := i.make(ctx, "launcher-root.sh", "a Debian with libvirt and QEMU")
	if err != nil {
		return "", err
	}
	module, err := i.builder.moduleDir(ctx, "kubevirt-node", "kubevirt.io/kubevirt")
	if err != nil {
		return "", err
	}
	arguments := []string{root, module, launcherImage("virt-launcher")}
	for _, p := range launcherPrograms {
		arguments = append(arguments, i.binaries[p.Name])
	}
	return i.makeAnd(ctx, packLauncher, "launcher-layer.sh", "the image of virt-launcher", arguments...)
}

func (i imageBuilder) guest(ctx context.Context) (disk, efi string, err error) {
	root, err := i.make(ctx, "guest-root.sh", "a Debian for guests")
	if err != nil {
		return "", "", err
	}
	if disk, err = i.make(ctx, "guest-disk.sh", "the guest's disk", root, i.binaries[guestProgram.Name]); err != nil {
		return "", "", err
	}
	efi, err = i.make(ctx, "guest-efi.sh", "the guest's disk for EFI", root, disk)
	return disk, efi, err
}

func (i imageBuilder) make(ctx context.Context, name, what string, arguments ...string) (string, error) {
	return i.makeAnd(ctx, nil, name, what, arguments...)
}

// makeAnd runs a script, unless the cache has what it made of the same arguments, and returns the path of that. Paths in the cache
// change with what they hold. What the script made is then given to finish, if there is one.
func (i imageBuilder) makeAnd(ctx context.Context, finish func(path string) error, name, what string, arguments ...string) (string, error) {
	script, err := imageScripts.ReadFile("images/" + name)
	if err != nil {
		return "", err
	}
	sum := sha256.Sum256(fmt.Appendf(script, "%q", arguments))
	result := filepath.Join(i.cache, strings.TrimSuffix(name, ".sh")+"-"+hex.EncodeToString(sum[:6]))
	if _, err := os.Stat(result); err == nil {
		return result, nil
	}
	line := i.builder.progress.begin("making " + what)
	defer line.end()
	unlock, err := lockFile(ctx, result+".lock", func() { line.note("another run is making it") })
	if err != nil {
		return "", err
	}
	defer unlock()
	if _, err := os.Stat(result); err == nil {
		return result, nil
	}
	partial := result + ".partial"
	if err := os.RemoveAll(partial); err != nil {
		return "", err
	}
	printed, err := runProgram(ctx, "/bin/sh", append(os.Environ(), "LC_ALL=C"), append([]string{"-c", string(script), name, partial}, arguments...)...)
	if err != nil {
		line.failed()
		return "", errors.Join(fmt.Errorf("%s: %w", name, err), os.WriteFile(result+".log", printed, 0o644))
	}
	if finish != nil {
		if err := finish(partial); err != nil {
			return "", err
		}
	}
	return result, os.Rename(partial, result)
}

// packLauncher makes of a layer the image of virt-launcher, virt-handler and sandboxes.
func packLauncher(layer string) error {
	return packImage(layer, map[string]any{
		"Env": []string{"PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"},
		"Cmd": []string{"sleep", "infinity"},
	}, launcherImage("virt-launcher"), launcherImage("virt-handler"))
}

// packImage makes of a layer an archive of the image with just that, as docker save does.
func packImage(layer string, run map[string]any, names ...string) (err error) {
	id, size, err := digest(layer)
	if err != nil {
		return err
	}
	config, err := json.Marshal(map[string]any{
		"architecture": runtime.GOARCH, "os": "linux", "config": run,
		"rootfs": map[string]any{"type": "layers", "diff_ids": []string{"sha256:" + id}},
	})
	if err != nil {
		return err
	}
	manifest, err := json.Marshal([]any{map[string]any{"Config": "config.json", "RepoTags": names, "Layers": []string{"layer.tar"}}})
	if err != nil {
		return err
	}
	archive := layer + ".image"
	file, err := os.Create(archive)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, file.Close()) }()
	packed := tar.NewWriter(file)
	for name, content := range map[string][]byte{"config.json": config, "manifest.json": manifest} {
		if err := packed.WriteHeader(&tar.Header{Name: name, Mode: 0o644, Size: int64(len(content))}); err != nil {
			return err
		}
		if _, err := packed.Write(content); err != nil {
			return err
		}
	}
	if err := packed.WriteHeader(&tar.Header{Name: "layer.tar", Mode: 0o644, Size: size}); err != nil {
		return err
	}
	content, err := os.Open(layer)
	if err != nil {
		return err
	}
	defer content.Close()
	if _, err := io.Copy(packed, content); err != nil {
		return err
	}
	if err := packed.Close(); err != nil {
		return err
	}
	return os.Rename(archive, layer)
}

func digest(path string) (sum string, size int64, err error) {
	file, err := os.Open(path)
	if err != nil {
		return "", 0, err
	}
	defer file.Close()
	hash := sha256.New()
	size, err = io.Copy(hash, file)
	return hex.EncodeToString(hash.Sum(nil)), size, err
}
