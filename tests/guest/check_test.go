//go:build linux && !guest

package guest

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// TestWhatIsMissingIsNamed runs on machines on which nothing can be built: each is told why in one line, with what to do.
func TestWhatIsMissingIsNamed(t *testing.T) {
	none := t.TempDir()
	withoutPackages := func() error {
		t.Setenv("PATH", none)
		return checkPackages()
	}
	for _, c := range []struct {
		without string
		err     error
		want    string
	}{
		{"root", checkRoot(1000), "run it with sudo, or make e2e without"},
		{"Debian", checkSystem(filepath.Join(none, "debian_version")), "make e2e does without"},
		{"packages", withoutPackages(), "type: apt-get install --no-install-recommends debootstrap containerd"},
		{"cgroups", checkCgroups(none), "mount it, or make e2e without"},
		{"memory among the cgroups of version 2", checkCgroups(withControllers(t, "cpuset cpu io pids")), `controller "memory" is not mounted`},
		{"room", checkRoomFor(filepath.Join(none, "later"), 1<<40), "are needed: make room"},
	} {
		if c.err == nil || !strings.Contains(c.err.Error(), c.want) || strings.Contains(c.err.Error(), "\n") {
			t.Errorf("without %s: %v", c.without, c.err)
		}
	}
	for _, err := range []error{
		checkRoot(0), checkSystem(none), checkRoomFor(none, 0), checkCgroups(withControllers(t, "cpuset cpu io memory hugetlb pids")),
	} {
		if err != nil {
			t.Errorf("nothing is missing: %v", err)
		}
	}
}

// withControllers returns a folder like that of cgroups of version 2.
func withControllers(t *testing.T, controllers string) string {
	t.Helper()
	root := t.TempDir()
	if err := os.WriteFile(filepath.Join(root, "cgroup.controllers"), []byte(controllers+"\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	return root
}
