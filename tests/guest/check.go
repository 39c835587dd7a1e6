//go:build linux

package guest

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"

	"golang.org/x/sys/unix"
)

// needed are the programs and files that the machine is made with, and Debian's and Ubuntu's packages that have them.
var needed = []struct{ file, pkg string }{
	{"debootstrap", "debootstrap"}, {"containerd", "containerd"}, {"ctr", "containerd"}, {"runc", "runc"},
	{"/usr/lib/cni/bridge", "containernetworking-plugins"}, {"gcc", "build-essential"}, {"mkfs.ext4", "e2fsprogs"}, {"losetup", "mount"}, {"ip", "iproute2"},
	{"tar", "tar"}, {"/usr/share/keyrings/debian-archive-keyring.gpg", "debian-archive-keyring"},
}

// room is how much space is needed, in GiB: in the cache the first time, and in the temporary folder while it runs.
const room = 6

// check tells the first thing that is missing, before anything is built.
func check() error {
	cache, err := os.UserCacheDir()
	if err != nil {
		return err
	}
	for _, check := range []func() error{
		func() error { return checkRoot(os.Geteuid()) },
		func() error { return checkSystem("/etc/debian_version") },
		checkPackages,
		func() error { return checkCgroups("/sys/fs/cgroup") },
		func() error { return checkRoomFor(cache, room) },
		func() error { return checkRoomFor(os.TempDir(), room) },
	} {
		if err := check(); err != nil {
			return err
		}
	}
	return nil
}

func checkRoot(user int) error {
	if user != 0 {
		return errors.New("a real node needs root: run it with sudo, or make e2e without")
	}
	return nil
}

func checkSystem(versionFile string) error {
	if _, err := os.Stat(versionFile); err != nil {
		return errors.New("a real node is built from the packages of Debian or Ubuntu, and this is neither: make e2e does without")
	}
	return nil
}

func checkPackages() error {
	var missing []string
	for _, n := range needed {
		_, err := exec.LookPath(n.file)
		if filepath.IsAbs(n.file) {
			_, err = os.Stat(n.file)
		}
		if err != nil && !slices.Contains(missing, n.pkg) {
			missing = append(missing, n.pkg)
		}
	}
	if len(missing) > 0 {
		return fmt.Errorf("packages are missing, type: apt-get install --no-install-recommends %s", strings.Join(missing, " "))
	}
	return nil
}

// checkCgroups looks for the controllers that containers need, of either version.
func checkCgroups(root string) error {
	content, err := os.ReadFile(filepath.Join(root, "cgroup.controllers"))
	for _, controller := range []string{"cpu", "memory", "pids"} {
		_, v1 := os.Stat(filepath.Join(root, controller, "cgroup.procs"))
		if v2 := err == nil && slices.Contains(strings.Fields(string(content)), controller); !v2 && v1 != nil {
			return fmt.Errorf("the cgroup controller %q is not mounted below %s, and containers need it: mount it, or make e2e without", controller, root)
		}
	}
	return nil
}

// checkRoomFor looks whether there are so many GiB left where a folder is, or is going to be.
func checkRoomFor(folder string, room uint64) error {
	var stat unix.Statfs_t
	for unix.Statfs(folder, &stat) != nil && folder != "/" {
		folder = filepath.Dir(folder)
	}
	if free := stat.Bavail * uint64(stat.Bsize) >> 30; free < room {
		return fmt.Errorf("%s has %d GiB left, %d are needed: make room, or name another place with XDG_CACHE_HOME or TMPDIR", folder, free, room)
	}
	return nil
}
