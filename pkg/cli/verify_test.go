package cli

import (
	"bytes"
	"encoding/json"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	velerov1 "github.com/vmware-tanzu/velero/pkg/apis/velero/v1"

	"velero-plugin-for-kubevirt/pkg/cluster"
	"velero-plugin-for-kubevirt/pkg/kubevirt"
)

// A backup with a VM for each way in which one may be in it.
const verifiedYAML = `
{apiVersion: kubevirt.io/v1, kind: VirtualMachine, metadata: {namespace: shop, name: web, labels: {app: web}, annotations: {velero.kubevirt.io/consistency: filesystem, velero.kubevirt.io/freeze-window: 1.5s}}, spec: {runStrategy: Always, template: {spec: {domain: {devices: {}}, volumes: [{name: root, persistentVolumeClaim: {claimName: web-root}}, {name: data, persistentVolumeClaim: {claimName: web-data}}]}}}}
---
{apiVersion: v1, kind: PersistentVolumeClaim, metadata: {namespace: shop, name: web-root, annotations: {velero.io/volume-snapshot-name: snap-root}}, spec: {}}
---
{apiVersion: snapshot.storage.k8s.io/v1, kind: VolumeSnapshot, metadata: {namespace: shop, name: snap-root}, status: {boundVolumeSnapshotContentName: content-root}}
---
{apiVersion: snapshot.storage.k8s.io/v1, kind: VolumeSnapshotContent, metadata: {name: content-root}, status: {snapshotHandle: handle}}
---
{apiVersion: v1, kind: PersistentVolumeClaim, metadata: {namespace: shop, name: web-data, annotations: {velero.io/data-upload-name: velero/upload-1}}, spec: {}}
---
{apiVersion: velero.io/v2alpha1, kind: DataUpload, metadata: {namespace: velero, name: upload-1}, status: {phase: Completed}}
---
{apiVersion: kubevirt.io/v1, kind: VirtualMachine, metadata: {namespace: shop, name: db, annotations: {velero.kubevirt.io/consistency: crash, velero.kubevirt.io/consistency-reason: Paused, velero.kubevirt.io/consistency-message: Paused}}, spec: {runStrategy: Always, template: {spec: {domain: {devices: {}}, volumes: [{name: root, persistentVolumeClaim: {claimName: db-root}}]}}}}
---
{apiVersion: v1, kind: PersistentVolumeClaim, metadata: {namespace: shop, name: db-root, annotations: {velero.io/volume-snapshot-name: snap-db}}, spec: {}}
---
{apiVersion: kubevirt.io/v1, kind: VirtualMachine, metadata: {namespace: office, name: old}, spec: {runStrategy: Halted, template: {spec: {domain: {devices: {}}, volumes: [{name: root, persistentVolumeClaim: {claimName: old-root}}, {name: init, cloudInitNoCloud: {secretRef: {name: old-init}}}]}}}}
---
{apiVersion: v1, kind: PersistentVolumeClaim, metadata: {namespace: office, name: old-root}, spec: {}}
---
{apiVersion: v1, kind: PersistentVolumeClaim, metadata: {namespace: office, name: moving, annotations: {velero.io/data-upload-name: velero/upload-2}}, spec: {}}
---
{apiVersion: velero.io/v2alpha1, kind: DataUpload, metadata: {namespace: velero, name: upload-2}, status: {phase: Failed, message: disk full}}
---
{apiVersion: kubevirt.io/v1, kind: VirtualMachine, metadata: {namespace: office, name: moving, annotations: {velero.kubevirt.io/consistency: offline}}, spec: {runStrategy: Halted, template: {spec: {domain: {devices: {}}, volumes: [{name: root, persistentVolumeClaim: {claimName: moving}}]}}}}
---
{apiVersion: kubevirt.io/v1, kind: VirtualMachineInstance, metadata: {namespace: shop, name: web, ownerReferences: [{apiVersion: kubevirt.io/v1, kind: VirtualMachine, name: web, uid: u, controller: true}]}, spec: {domain: {devices: {}}}}
`

func TestVerifyTellsOfEveryVM(t *testing.T) {
	code, out, errOut := run("verify", "-f", backupFile(t, verifiedYAML))
	want := `NAMESPACE   VM       VERDICT      REASON    FROZEN    DISKS                    AT RESTORE             WHY
office      moving   offline      <none>    <none>    1 none                   1 changed, 1 warnings     moving: its DataUpload upload-2 is Failed disk full
office      old      <none>       <none>    <none>    1 none                   1 changed, 1 warnings     the backup does not say how consistent its disks are: it was made without this plugin; old-root: it has no snapshot; not in the backup: secrets/office/old-init
shop        db       crash        Paused    <none>    1 none                   4 changed, 1 warnings  Paused; db-root: its VolumeSnapshot snap-db is not in the backup
shop        web      filesystem   <none>    1.5s      1 snapshot; 1 moved      4 changed, 1 left out, 2 warnings  <none>

4 VMs: 1 good, 3 not, 0 unknown; 5 disks, 3 without data
`
	if code != 1 || errOut != "not good: 3 of 4 VMs\n" {
		t.Errorf("exit code %d, errors %q", code, errOut)
	}
	if diff := cmp.Diff(squeeze(want), squeeze(out)); diff != "" {
		t.Error(diff)
	}
}

// squeeze leaves one space of those that make columns.
func squeeze(text string) string {
	var lines []string
	for line := range strings.Lines(text) {
		lines = append(lines, strings.Join(strings.Fields(line), " "))
	}
	return strings.Join(lines, "\n")
}

func TestVerifyLooksAtWhatIsAskedFor(t *testing.T) {
	file := backupFile(t, verifiedYAML)
	for _, c := range []struct {
		args []string
		code int
		want string
	}{
		{[]string{"-n", "shop", "-o", "name"}, 1, "virtualmachine.kubevirt.io/db\nvirtualmachine.kubevirt.io/web\n"},
		{[]string{"-l", "app=web", "-o", "name"}, 0, "virtualmachine.kubevirt.io/web\n"},
		{[]string{"-n", "nowhere"}, 0, "No VMs found.\n"},
	} {
		if code, out, errOut := run(append([]string{"verify", "-f", file}, c.args...)...); code != c.code || out != c.want {
			t.Errorf("%q: exit code %d, errors %q, output:\n%s", c.args, code, errOut, out)
		}
	}
}

func TestVerifyListsWhatARestoreWouldDo(t *testing.T) {
	code, out, _ := run("verify", "-f", backupFile(t, verifiedYAML), "-l", "app=web", "--changes", "-o", "json")
	var report verifyReport
	if err := json.Unmarshal([]byte(out), &report); err != nil || code != 0 {
		t.Fatalf("exit code %d, %v: %s", code, err, out)
	}
	var leftOut []string
	for _, change := range report.Changes {
		if change.LeftOut {
			leftOut = append(leftOut, change.Object+" "+change.Rule)
		}
	}
	if diff := cmp.Diff([]string{"virtualmachineinstances.kubevirt.io/shop/web vmi-owned"}, leftOut); diff != "" {
		t.Error(diff)
	}
	if web := report.VMs[0]; web.Verdict != "filesystem" || len(web.Disks) != 2 || report.Summary.Good != 1 {
		t.Errorf("got %+v", report)
	}
	_, out, _ = run("verify", "-f", backupFile(t, verifiedYAML), "-l", "app=web", "--changes")
	if !strings.Contains(out, "\nAT RESTORE") || !strings.Contains(out, "vmi-owned") {
		t.Errorf("got:\n%s", out)
	}
}

// TestVerifySaysInOneSentenceWhatItCannotRead and prints nothing as if it were whole.
func TestVerifySaysInOneSentenceWhatItCannotRead(t *testing.T) {
	whole := backupFile(t, verifiedYAML)
	content, err := os.ReadFile(whole)
	if err != nil {
		t.Fatal(err)
	}
	broken := func(name string, content []byte) string {
		path := filepath.Join(t.TempDir(), name)
		if err := os.WriteFile(path, content, 0o600); err != nil {
			t.Fatal(err)
		}
		return path
	}
	malformed := backupFile(t, `{apiVersion: kubevirt.io/v1, kind: VirtualMachine, metadata: {namespace: shop, name: "\e[2Jbad"}, spec: {template: 5}}`)
	for name, c := range map[string]struct {
		args []string
		want string
	}{
		"nothing":            {nil, "want the name of a backup"},
		"both":               {[]string{"nightly", "-f", whole}, "want the name of a backup"},
		"no file":            {[]string{"-f", "no-such-file"}, "no-such-file"},
		"a truncated one":    {[]string{"-f", broken("truncated", content[:len(content)/2])}, "the file ends in the middle"},
		"no archive":         {[]string{"-f", broken("text", []byte("hello"))}, "reading "},
		"another archive":    {[]string{"-f", backupFile(t, "")}, "no backup: it has no items"},
		"a broken selector":  {[]string{"-f", whole, "-l", "in in in"}, "--selector"},
		"no cluster":         {[]string{"nightly", "--kubeconfig", "no-such-file"}, "finding the cluster"},
		"a malformed object": {[]string{"-f", malformed}, "could not find out about 1 of 1 VMs"},
	} {
		t.Run(name, func(t *testing.T) {
			code, out, errOut := run(append([]string{"verify"}, c.args...)...)
			if code != 2 || !strings.Contains(errOut, c.want) || strings.Count(errOut, "\n") != 1 {
				t.Errorf("exit code %d, errors %q", code, errOut)
			}
			if out != "" && name != "a malformed object" || strings.Contains(out+errOut, "\x1b") {
				t.Errorf("printed %q", out)
			}
		})
	}
}

func TestVerifyBelievesVeleroAboutDisksThatAreNoCSISnapshots(t *testing.T) {
	contents := mustReadBackup(t, verifiedYAML)
	v := &verification{contents: contents, reader: contents}
	for name, c := range map[string]struct {
		infos string
		want  backedUpDisk
	}{
		"nothing": {`[]`, backedUpDisk{"old-root", asNone, "it has no snapshot"}},
		"files":   {`[{"pvcName": "old-root", "pvcNamespace": "office", "backupMethod": "PodVolumeBackup", "result": "succeeded"}]`, backedUpDisk{"old-root", asFiles, ""}},
		"failed":  {`[{"pvcName": "old-root", "pvcNamespace": "office", "backupMethod": "PodVolumeBackup", "result": "failed"}]`, backedUpDisk{"old-root", asNone, "Velero says that it failed"}},
		"native":  {`[{"pvcName": "old-root", "pvcNamespace": "office", "backupMethod": "NativeSnapshot"}]`, backedUpDisk{"old-root", asSnapshot, ""}},
		"skipped": {`[{"pvcName": "old-root", "pvcNamespace": "office", "skipped": true, "skippedReason": "policy"}]`, backedUpDisk{"old-root", asNone, "Velero skipped it: policy"}},
		"another": {`[{"pvcName": "old-root", "pvcNamespace": "shop", "backupMethod": "NativeSnapshot"}]`, backedUpDisk{"old-root", asNone, "it has no snapshot"}},
		"twice":   {`[{"pvcName": "old-root", "pvcNamespace": "office", "skipped": true}, {"pvcName": "old-root", "pvcNamespace": "office", "backupMethod": "NativeSnapshot"}]`, backedUpDisk{"old-root", asSnapshot, ""}},
	} {
		v.volumes = nil
		if err := json.Unmarshal([]byte(c.infos), &v.volumes); err != nil {
			t.Fatal(err)
		}
		if got := v.disk(claimID("office", "old-root")); got != c.want {
			t.Errorf("%s: %+v", name, got)
		}
	}
}

func TestASnapshotWithoutItsHandleIsNone(t *testing.T) {
	for text, want := range map[string]backedUpDisk{
		verifiedYAML: {"web-root", asSnapshot, ""},
		strings.Replace(verifiedYAML, "snapshotHandle: handle", "", 1):                          {"web-root", asNone, "its VolumeSnapshot snap-root has no handle"},
		strings.Replace(verifiedYAML, "{name: content-root}", "{name: other}", 1):               {"web-root", asNone, "the content of its VolumeSnapshot snap-root is not in the backup"},
		strings.Replace(verifiedYAML, "name: web-root, annotations", "name: a, annotations", 1): {"web-root", asNone, "the claim is not in the backup"},
	} {
		contents := mustReadBackup(t, text)
		if got := (&verification{contents: contents, reader: contents}).disk(claimID("shop", "web-root")); got != want {
			t.Errorf("got %+v, want %+v", got, want)
		}
	}
}

func TestOnlyABackupThatHasEndedIsRead(t *testing.T) {
	for phase, want := range map[velerov1.BackupPhase]string{
		velerov1.BackupPhaseCompleted: "", velerov1.BackupPhasePartiallyFailed: "",
		"": "wait until it is Completed", velerov1.BackupPhaseInProgress: "wait until it is Completed", velerov1.BackupPhaseFinalizing: "wait until it is Completed",
		velerov1.BackupPhaseFailed: "nothing to restore: no space", velerov1.BackupPhaseFailedValidation: "no such location", velerov1.BackupPhaseDeleting: "Deleting",
	} {
		b := &velerov1.Backup{Status: velerov1.BackupStatus{Phase: phase, FailureReason: "no space", ValidationErrors: []string{"no such location"}}}
		err := canBeRead(b)
		if (err == nil) != (want == "") || err != nil && !strings.Contains(err.Error(), want) {
			t.Errorf("%q: %v", phase, err)
		}
	}
	partially := verifyReport{Backup: "nightly", Phase: velerov1.BackupPhasePartiallyFailed, Errors: 2}
	var found notGood
	if err := partially.err(); !errors.As(err, &found) || !strings.Contains(err.Error(), "2 errors") {
		t.Errorf("PartiallyFailed: %v", err)
	}
}

func TestALongListIsCutForPeople(t *testing.T) {
	if got := few([]string{"a", "b", "c", "d", "e"}); got != "a, b, c and 2 more" {
		t.Error(got)
	}
	if got := few([]string{"a", "b"}); got != "a, b" {
		t.Error(got)
	}
}

func TestReportsAreTheSameForMachines(t *testing.T) {
	var asJSON, asYAML bytes.Buffer
	report := &verifyReport{Backup: "nightly", VMs: []verifiedReport{{Name: "web", Result: good}}}
	for format, out := range map[string]*bytes.Buffer{"json": &asJSON, "yaml": &asYAML} {
		if err := report.print(out, format, false); err != nil {
			t.Fatal(err)
		}
	}
	if !strings.Contains(asJSON.String(), `"result": "ok"`) || !strings.Contains(asYAML.String(), "result: ok") {
		t.Errorf("got %s and %s", &asJSON, &asYAML)
	}
}

func claimID(namespace, name string) kubevirt.ID {
	return kubevirt.ID{GroupResource: kubevirt.PersistentVolumeClaims, Namespace: namespace, Name: name}
}

func mustReadBackup(t *testing.T, text string) cluster.Memory {
	t.Helper()
	memory, err := readBackupFile(backupFile(t, text), nil)
	if err != nil {
		t.Fatal(err)
	}
	return memory
}
