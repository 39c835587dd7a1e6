//go:build e2e

package e2e

import (
	"context"
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/shlex"
	velerov1 "github.com/vmware-tanzu/velero/pkg/apis/velero/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"velero-plugin-for-kubevirt/tests/cluster"
	"velero-plugin-for-kubevirt/tests/readme"
	"velero-plugin-for-kubevirt/tests/story"
)

// A verified is what "verify" says of a VM, as far as the stories look.
type verified struct {
	Name, Result, Verdict, Frozen string
	Missing, Lacking, Why         []string
	Disks                         []struct{ Claim, How string }
}

// verify runs "verify" and returns what it says of each VM.
func (w *testCluster) verify(t *testing.T, wantCode int, args ...string) map[string]verified {
	t.Helper()
	code, said, stderr := w.plugin(t, append([]string{"verify", "-o", "json"}, args...)...)
	var report struct{ VMs []verified }
	if err := json.Unmarshal([]byte(said), &report); err != nil || code != wantCode {
		t.Fatalf("verify %q exits with %d, want %d, and says %s: %v: %s", args, code, wantCode, stderr, err, said)
	}
	vms := map[string]verified{}
	for _, vm := range report.VMs {
		vms[vm.Name] = vm
	}
	return vms
}

// refuses checks that a command could not find out, says why in one sentence, and prints nothing else.
func (w *testCluster) refuses(t *testing.T, want string, args ...string) {
	t.Helper()
	code, said, stderr := w.plugin(t, args...)
	if code != 2 || said != "" || !strings.Contains(stderr, want) || strings.Count(stderr, "\n") != 1 {
		t.Errorf("%q exits with %d and says %q on stderr, want %q; and %q", args, code, stderr, want, said)
	}
}

// TestABackupIsVerified verifies good and bad backups of a running VM and of one that asks for a node that is nowhere.
func TestABackupIsVerified(t *testing.T) {
	w := kubevirtCluster(t)
	vm, stopped := &troubleVM{namespace: shop, name: "web", disks: 2}, &troubleVM{namespace: shop, name: "stopped", disks: 1}
	w.troubleRun(t, vm, stopped)
	w.stop(t, stopped)
	w.patch(t, w.find(t, vmAPI, "VirtualMachine", vm.namespace)[stopped.name], map[string]any{
		"spec": map[string]any{"template": map[string]any{"spec": map[string]any{"nodeSelector": map[string]any{"kubernetes.io/hostname": "nowhere"}}}},
	})
	ending := w.endless(t, vm)
	report, err := w.Backup(t.Context(), "nightly", "--include-namespaces", vm.namespace)
	if err != nil {
		t.Fatal(err)
	}
	wentWell(t, report.Report)

	found := w.verify(t, 0, report.Name)
	web, disks := found[vm.name], found[vm.name].Disks
	if web.Result != "ok" || web.Verdict != "filesystem" || web.Frozen == "" || len(disks) != 2 || disks[0].How != "snapshot" || disks[1].How != "snapshot" {
		t.Errorf("of a good backup it says %+v", web)
	}
	if found[stopped.name].Verdict != "offline" {
		t.Errorf("of a stopped VM it says %+v", found[stopped.name])
	}
	against := w.verify(t, 1, report.Name, "--against-cluster")
	if lacking := against[stopped.name].Lacking; len(lacking) != 1 || lacking[0] != "a node with kubernetes.io/hostname=nowhere" || against[vm.name].Lacking != nil {
		t.Errorf("compared with the cluster it says %+v", against)
	}
	w.documented(t, "## check")
	w.documented(t, "## verify")
	w.verifiesFiles(t, report)
	w.verifiesOthers(t, vm)
	ending()
}

// documented types what the reference of a command tells a person to type, who is answered, be it that something is not good.
func (w *testCluster) documented(t *testing.T, heading string) {
	t.Helper()
	commands, err := readme.CommandsUnder("../..", readme.CLI, heading)
	if err != nil || len(commands) == 0 {
		t.Fatalf("%d commands, %v", len(commands), err)
	}
	for _, command := range commands {
		words, err := shlex.Split(command)
		if err != nil {
			t.Fatal(err)
		}
		if code, out, errOut := w.plugin(t, words[1:]...); code > 1 || !strings.Contains(out, "web") {
			t.Errorf("%s: exit code %d\n%s%s", command, code, out, errOut)
		}
	}
}

// endless begins a backup that does not come to its end until the returned function is called, and checks that it is not read.
func (w *testCluster) endless(t *testing.T, vm *troubleVM) func() {
	t.Helper()
	w.failSnapshots(t, "not yet")
	t.Cleanup(func() { w.failSnapshots(t, "") })
	w.velero(t, "backup", "create", "endless", "--include-namespaces", vm.namespace)
	w.await(t, time.Minute, func() string {
		code, said, stderr := w.plugin(t, "verify", "endless")
		if code != 2 || said != "" || !strings.Contains(stderr, string(velerov1.BackupPhaseInProgress)) {
			return stderr
		}
		return ""
	})
	w.failSnapshots(t, "")
	return func() {
		w.await(t, time.Minute, func() string {
			_, _, stderr := w.plugin(t, "verify", "endless")
			if strings.Contains(stderr, "wait until") {
				return stderr
			}
			return ""
		})
	}
}

// verifiesFiles verifies the file of a backup, whole and in part.
func (w *testCluster) verifiesFiles(t *testing.T, report *story.BackupReport) {
	t.Helper()
	file := filepath.Join(t.TempDir(), "data.tar.gz")
	w.velero(t, "backup", "download", report.Name, "--output", file)
	if found := w.verify(t, 0, "-f", file, "-l", "app=web"); len(found) != 1 || found["web"].Verdict != "filesystem" {
		t.Errorf("of the file it says %+v", found)
	}
	content, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(file, content[:len(content)/2], 0o600); err != nil {
		t.Fatal(err)
	}
	w.refuses(t, "reading "+file, "verify", "-f", file)
}

// verifiesOthers verifies backups that are not good, or not there.
func (w *testCluster) verifiesOthers(t *testing.T, vm *troubleVM) {
	t.Helper()
	w.label(t, w.find(t, "v1", "PersistentVolumeClaim", vm.namespace)[vm.disk(1)], "velero.io/exclude-from-backup", "true")
	w.velero(t, "backup", "create", "without-a-claim", "--wait", "--include-namespaces", vm.namespace)
	without := w.verify(t, 1, "without-a-claim")[vm.name]
	if without.Result != "bad" || len(without.Missing) != 1 || without.Missing[0] != "persistentvolumeclaims/shop/web-1" || without.Disks[1].How != "none" {
		t.Errorf("without a claim it says %+v", without)
	}
	w.label(t, w.find(t, "v1", "PersistentVolumeClaim", vm.namespace)[vm.disk(1)], "velero.io/exclude-from-backup", "false")

	w.refuses(t, "not found", "verify", "nobody")
	w.refuses(t, "not found", "check", "backup", "nobody")
	w.refuses(t, "no namespace", "check", "--velero-namespace", "nowhere")
	nowhere := &velerov1.Backup{ObjectMeta: metav1.ObjectMeta{Namespace: cluster.VeleroNamespace, Name: "nowhere"}, Spec: velerov1.BackupSpec{StorageLocation: "nowhere"}}
	if err := w.Create(t.Context(), nowhere); err != nil {
		t.Fatal(err)
	}
	w.await(t, time.Minute, func() string {
		code, said, stderr := w.plugin(t, "verify", "nowhere")
		if code != 2 || said != "" || !strings.Contains(stderr, "FailedValidation") {
			return stderr
		}
		return ""
	})

	if err := w.RemovePlugin(t.Context(), filepath.Base(binary)); err != nil {
		t.Fatal(err)
	}
	w.velero(t, "backup", "create", "without-the-plugin", "--wait", "--include-namespaces", vm.namespace)
	code, said, _ := w.plugin(t, "check", "-n", vm.namespace)
	if err := w.InstallPlugin(context.WithoutCancel(t.Context()), binary); err != nil {
		t.Fatal(err)
	}
	if code != 1 || !strings.Contains(said, "the server does not have it") {
		t.Errorf("check without the plugin in the server exits with %d and says %s", code, said)
	}
	if plain := w.verify(t, 0, "without-the-plugin")[vm.name]; plain.Verdict != "" || len(plain.Disks) != 2 || plain.Disks[0].How != "snapshot" {
		t.Errorf("of a backup without the plugin it says %+v", plain)
	}
}
