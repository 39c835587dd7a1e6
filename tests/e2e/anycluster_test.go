//go:build e2e

package e2e

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/client-go/rest"

	"velero-plugin-for-kubevirt/tests/cluster"
	"velero-plugin-for-kubevirt/tests/story"
)

// anyCluster is what a story finds in every cluster: the API, KubeVirt, CDI, and Velero with this plugin. Stories that need
// no more than that run also on the cluster of KUBECONFIG.
type anyCluster struct {
	*story.Site
	config *rest.Config
	// What only our cluster has: nil in others, where a story goes on without looking.
	disks disks
	guest cluster.Guest
	// patience is how much longer than in our cluster, whose VMs boot at once, something may take.
	patience time.Duration
	// made are the namespaces that stories made. They touch no other.
	made map[string]bool
}

// disks are read and written past the guest.
type disks interface {
	WriteText(ctx context.Context, namespace, claim, text string) error
	ReadText(ctx context.Context, namespace, claim string) (string, error)
}

// foreign says whether the stories run on a cluster that is not ours. Then run makes the names of their backups unique.
var (
	foreign = os.Getenv("KUBECONFIG") != ""
	run     = runSuffix()
)

func runSuffix() string {
	if !foreign {
		return ""
	}
	return time.Now().Format("-0102-150405")
}

// anywhere returns the cluster of KUBECONFIG, or else one that the tests started, without what plays its parts.
func anywhere(t *testing.T) *anyCluster {
	t.Helper()
	if !foreign {
		return kubevirtCluster(t).anyCluster
	}
	w, err := theForeign()
	if err = errors.Join(err, interrupted.Err()); err != nil {
		t.Fatal(err)
	}
	return w
}

var theForeign = sync.OnceValues(func() (*anyCluster, error) {
	site, config, err := story.Existing(interrupted)
	if err != nil {
		return nil, err
	}
	config.QPS = -1 // stories poll
	return &anyCluster{Site: site, config: config, patience: 10, made: map[string]bool{}}, nil
})

// TestStoriesRunOnAnyCluster runs stories in a program that knows of a cluster only what a person knows of his own: a
// kubeconfig and a velero command.
func TestStoriesRunOnAnyCluster(t *testing.T) {
	w := kubevirtCluster(t)
	program := exec.CommandContext(t.Context(), os.Args[0], "-test.v", "-test.run", "^(TestARunningVMComesBackWithItsClaim|TestTroubleAMigratingVMComesBack)$")
	program.Env = append(os.Environ(), "KUBECONFIG="+w.Kubeconfig,
		"PATH="+filepath.Dir(w.Program("velero"))+string(filepath.ListSeparator)+os.Getenv("PATH"))
	said, err := program.CombinedOutput()
	if err != nil {
		t.Error(err)
	}
	for _, want := range []string{
		"--- PASS: TestARunningVMComesBackWithItsClaim", "--- SKIP: TestTroubleAMigratingVMComesBack",
		"not here: bytes", "not on the cluster of KUBECONFIG: needs our own cluster",
	} {
		if !strings.Contains(string(said), want) {
			t.Errorf("%q is missing in\n%s", want, said)
		}
	}
}

// createAll creates objects as kubectl does, and the namespaces they are in. A namespace that somebody else made is refused: at
// its end, a story deletes its namespaces.
func (w *anyCluster) createAll(t *testing.T, objects []*unstructured.Unstructured) {
	t.Helper()
	for _, obj := range objects {
		w.ensureNamespace(t, obj.GetNamespace())
		if err := w.Create(t.Context(), obj.DeepCopy()); err != nil {
			t.Fatalf("creating %s %s/%s: %v", obj.GetKind(), obj.GetNamespace(), obj.GetName(), err)
		}
	}
}

func (w *anyCluster) ensureNamespace(t *testing.T, name string) {
	t.Helper()
	namespace := &corev1.Namespace{}
	namespace.Name = name
	err := w.Create(t.Context(), namespace)
	switch {
	case err == nil:
		w.made[name] = true
		t.Cleanup(func() { w.lose(t, name) }) // at last, whatever else fails
	case !apierrors.IsAlreadyExists(err):
		t.Fatalf("creating namespace %s: %v", name, err)
	case foreign && !w.made[name]:
		t.Fatalf("namespace %s exists; the story would delete it", name)
	}
}

// writeDisks writes to every disk in a namespace.
func (w *anyCluster) writeDisks(t *testing.T, namespace string) {
	t.Helper()
	for claim := range w.find(t, "v1", "PersistentVolumeClaim", namespace) {
		w.writeDisk(t, namespace, claim, "written to "+claim)
	}
}

// writeDisk writes to a disk, where that can be done from outside of the guest.
func (w *anyCluster) writeDisk(t *testing.T, namespace, claim, text string) {
	t.Helper()
	if w.disks == nil {
		t.Logf("not here: bytes that are written to %s before the backup, and read after the restore", claim)
	} else if err := w.disks.WriteText(t.Context(), namespace, claim, text); err != nil {
		t.Fatal(err)
	}
}

// readDisk checks that a disk has what writeDisk wrote.
func (w *anyCluster) readDisk(t *testing.T, namespace, claim, want string) {
	t.Helper()
	if w.disks == nil {
		return
	}
	if got, err := w.disks.ReadText(t.Context(), namespace, claim); err != nil || got != want {
		t.Errorf("disk %s of namespace %s has %q, %v", claim, namespace, got, err)
	}
}

// readDisks checks that every claim in a namespace was restored from a snapshot, and that its disk has what writeDisks wrote.
func (w *anyCluster) readDisks(t *testing.T, namespace string) {
	t.Helper()
	for name, claim := range w.find(t, "v1", "PersistentVolumeClaim", namespace) {
		if got := text(claim, "spec", "dataSource", "kind"); got != "VolumeSnapshot" {
			t.Errorf("%s was restored from %q", name, got)
		}
		w.readDisk(t, namespace, name, "written to "+name)
	}
}

// guestEvents returns how often so far something happened to a guest.
func (w *anyCluster) guestEvents() int {
	if w.guest == nil {
		return 0
	}
	return len(w.guest.Events())
}

// goldenSource is where the disks of testdata come from: an image that our importer serves, or nothing.
func goldenSource(manifest string) string {
	if !foreign {
		return manifest
	}
	return strings.ReplaceAll(manifest, fmt.Sprintf("source: {http: {url: %q}}", goldenURL), "source: {blank: {}}")
}

// needsGate skips a story where KubeVirt's feature is off.
func (w *anyCluster) needsGate(t *testing.T, gate string) {
	t.Helper()
	for _, kubevirt := range w.find(t, vmAPI, "KubeVirt", "") {
		gates, _, _ := unstructured.NestedStringSlice(kubevirt.Object, "spec", "configuration", "developerConfiguration", "featureGates")
		for _, on := range gates {
			if on == gate {
				return
			}
		}
	}
	t.Skipf("KubeVirt's feature gate %s is off", gate)
}

// removeBackup removes a story's backup from a cluster that goes on after the stories.
func (w *anyCluster) removeBackup(t *testing.T, name string) {
	if !foreign {
		return
	}
	t.Cleanup(func() {
		if _, err := w.Velero(context.WithoutCancel(t.Context()), "backup", "delete", name, "--confirm"); err != nil {
			t.Error(err)
		}
	})
}
