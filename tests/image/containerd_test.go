//go:build guest

package main

import (
	_ "embed"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

//go:embed testdata/containerd.sh
var script string

// TestContainerdRunsTheImage imports the archive into a containerd of its own and runs the image as Velero does: as an init container, with
// the plugin folder mounted at /target.
func TestContainerdRunsTheImage(t *testing.T) {
	const reference = "registry.example.com/velero-plugin-for-kubevirt:v1.2.3"
	sources := copyOfSources(t, "a")
	makeTarget(t, sources, "image", reference)
	archive := filepath.Join(sources, "bin/image/velero-plugin-for-kubevirt-linux-amd64.tar")
	run := exec.Command("unshare", "--mount", "--pid", "--fork", "--mount-proc", "--kill-child", "sh", "-c", script, "sh", archive, reference)
	run.Dir = t.TempDir()
	out, err := run.CombinedOutput()
	if err != nil || !strings.HasSuffix(string(out), "\nv1.2.3\n") {
		t.Errorf("%v\n%s", err, out)
	}
}
