//go:build e2e

package e2e

import (
	"context"
	"fmt"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"

	"velero-plugin-for-kubevirt/tests/story"
)

// A filterCase is a section of testdata/filters.md: what a backup and a restore are told, and what comes of it.
type filterCase struct {
	title           string
	backup, restore []string
	rows            []filterRow
}

// A filterRow is what becomes of one subject: a VM, an instance or a disk, which all have its name.
type filterRow struct {
	subject string
	filterOutcome
}

type filterOutcome struct{ vm, volume, claim, disk, warnings, verdict string }

// filtered is the namespace that is backed up, filteredOwn what is written to its disks.
const (
	filtered    = "harbour"
	filteredOwn = "WRITTEN-BY-THE-GUEST"
)

// readFilters reads the table.
func readFilters(t *testing.T) []filterCase {
	t.Helper()
	content, err := os.ReadFile("testdata/filters.md")
	if err != nil {
		t.Fatal(err)
	}
	var cases []filterCase
	for line := range strings.Lines(string(content)) {
		line = strings.TrimSpace(line)
		if title, is := strings.CutPrefix(line, "## "); is {
			backup, restore, _ := strings.Cut(title, ", restore")
			cases = append(cases, filterCase{title: title, backup: quoted(backup), restore: quoted(restore)})
			continue
		}
		if len(cases) == 0 || !strings.HasPrefix(line, "| ") || strings.HasPrefix(line, "| |") {
			continue
		}
		cells := strings.Split(strings.Trim(line, "|"), "|")
		if len(cells) != 7 {
			t.Fatalf("testdata/filters.md: %q has %d cells, want 7", line, len(cells))
		}
		for n := range cells {
			cells[n] = strings.TrimSpace(cells[n])
		}
		last := &cases[len(cases)-1]
		last.rows = append(last.rows, filterRow{cells[0], filterOutcome{cells[1], cells[2], cells[3], cells[4], cells[5], cells[6]}})
	}
	return cases
}

// quoted returns the words between the back quotes of a text.
func quoted(text string) []string {
	parts := strings.Split(text, "`")
	if len(parts) < 2 {
		return nil
	}
	return strings.Fields(parts[1])
}

// TestWhateverIsFiltered tells the first sections of the table, or with FILTERS=all all of them, in clusters side by side.
func TestWhateverIsFiltered(t *testing.T) {
	skipIfForeign(t, "looks into disks, and plays imports")
	cases, shares := readFilters(t), 3
	rows := 0
	for _, c := range cases {
		rows += len(c.rows)
	}
	if rows < 60 {
		t.Fatalf("the table has %d rows", rows)
	}
	if os.Getenv("FILTERS") != "all" {
		cases, shares = cases[:4], 1
	}
	for share := range shares {
		t.Run(fmt.Sprint("Share", share), func(t *testing.T) {
			w := kubevirtCluster(t)
			w.makeFiltered(t)
			backups := map[string]*story.BackupReport{}
			for n, c := range cases {
				if n%shares == share {
					t.Run(c.title, func(t *testing.T) { w.tellFilter(t, c, n, backups) })
				}
			}
		})
	}
}

// makeFiltered makes the namespace that is backed up, with something on every disk.
func (w *testCluster) makeFiltered(t *testing.T) {
	t.Helper()
	w.Importer.Upload(filtered, "upload", []byte(golden))
	w.create(t, filtered, "filters.yaml")
	for claim := range w.find(t, "v1", "PersistentVolumeClaim", filtered) {
		w.writeDisk(t, filtered, claim, filteredOwn)
	}
	paused := &troubleVM{namespace: filtered, name: "paused"}
	w.troubleAsk(t, paused, "pause")
	w.troubleStatus(t, paused, "Paused")
}

// tellFilter backs up as a section says, or takes the backup that was made so, restores it, and looks at each subject.
func (w *testCluster) tellFilter(t *testing.T, c filterCase, number int, backups map[string]*story.BackupReport) {
	key := strings.Join(c.backup, " ")
	backup := backups[key]
	if backup == nil {
		var err error
		if backup, err = w.Backup(t.Context(), fmt.Sprintf("filtered-%d", number), append([]string{"--include-namespaces", filtered}, c.backup...)...); err != nil {
			t.Fatal(err)
		}
		backups[key] = backup
	}
	namespace := fmt.Sprintf("%s-%d", filtered, number)
	t.Cleanup(func() { w.loseLater(t, namespace) })
	restored, err := w.Restore(t.Context(), namespace, backup.Name, append([]string{"--include-namespaces", filtered, "--namespace-mappings", filtered + ":" + namespace}, c.restore...)...)
	if err != nil {
		t.Fatal(err)
	}
	held := 0
	for _, row := range c.rows {
		if row.vm == "held" {
			held++
		}
		t.Run(row.subject, func(t *testing.T) { w.becomes(t, namespace, row, backup, restored) })
	}
	if phase := map[bool]string{true: "PartiallyFailed", false: "Completed"}[held > 0]; restored.Phase != phase || restored.Errors != held {
		t.Errorf("the restore is %s with %d errors, want %s and %d: %s", restored.Phase, restored.Errors, phase, held, restored.Trouble())
	}
	for _, line := range restored.Log {
		// Velero's own actions name the claims of each pod and the volume of each claim, and are called before the plugin's (Velero 1.18.1,
		// pkg/restore/actions/add_pvc_from_pod_action.go and add_pv_from_pvc_action.go).
		veleros := line["groupResource"] == "pods" || line["groupResource"] == "persistentvolumeclaims" && line["additionalResource"] == "persistentvolumes"
		if strings.Contains(line.Message(), "unable to restore additional item") && !veleros {
			t.Errorf("Velero was told of what the backup does not have: %v", line)
		}
	}
}

// becomes waits until a subject is what its row says.
func (w *testCluster) becomes(t *testing.T, namespace string, row filterRow, backup *story.BackupReport, restored *story.Report) {
	t.Helper()
	var got filterOutcome
	for deadline := time.Now().Add(20 * time.Second); time.Now().Before(deadline); time.Sleep(200 * time.Millisecond) {
		got = w.outcome(t, namespace, row.subject)
		got.disk, got.warnings = toldOf(restored, row.subject)
		got.verdict = verdictOf(backup, row.subject)
		if got == row.filterOutcome {
			return
		}
	}
	t.Errorf("it is %+v, want %+v", got, row.filterOutcome)
}

// outcome looks at a subject in the cluster.
func (w *testCluster) outcome(t *testing.T, namespace, subject string) filterOutcome {
	t.Helper()
	found := filterOutcome{vm: "-", volume: "-", claim: "-"}
	if vm := w.find(t, vmAPI, "VirtualMachine", namespace)[subject]; vm != nil {
		found.vm = text(vm, "status", "printableStatus")
		if vm.GetAnnotations()["velero.kubevirt.io/held-because"] != "" && text(vm, "spec", "runStrategy") == "Halted" {
			found.vm = "held"
		}
	} else if vmi := w.find(t, vmAPI, "VirtualMachineInstance", namespace)[subject]; vmi != nil {
		found.vm = text(vmi, "status", "phase")
	}
	if volume := w.find(t, "cdi.kubevirt.io/v1beta1", "DataVolume", namespace)[subject]; volume != nil {
		found.volume = text(volume, "status", "phase")
	}
	if claim := w.find(t, "v1", "PersistentVolumeClaim", namespace)[subject]; claim != nil {
		found.claim = text(claim, "status", "phase")
		if found.claim == "Bound" {
			switch content := w.diskContent(t, namespace, subject); content {
			case filteredOwn:
				found.claim = "own"
			case golden:
				found.claim = "image"
			case "":
				found.claim = "empty"
			default:
				found.claim = content
			}
		}
	}
	return found
}

func (w *testCluster) diskContent(t *testing.T, namespace, claim string) string {
	t.Helper()
	content, err := w.ReadText(t.Context(), namespace, claim)
	if err != nil {
		t.Fatal(err)
	}
	return content
}

// toldOf returns what the restore's log says of a subject's disk, and how many of its lines warn about it.
func toldOf(restored *story.Report, subject string) (disk, warnings string) {
	count := 0
	disk = "-"
	for _, line := range restored.Log {
		if !strings.HasSuffix(line.Item(), "/"+subject) {
			continue
		}
		if told := line["disks"]; told != "" {
			disk = strings.TrimPrefix(told, subject+": ")
		}
		if line.Level() == "warning" && slices.Contains([]string{"vm-disks", "dv-populated", "pvc-snapshot"}, line.Rule()) {
			count++
		}
	}
	if count == 0 {
		return disk, "-"
	}
	return disk, fmt.Sprint(count)
}

// verdictOf returns how consistent a backup says a VM is, or an instance of its own.
func verdictOf(backup *story.BackupReport, subject string) string {
	for _, item := range backup.Items {
		if level := item.GetAnnotations()["velero.kubevirt.io/consistency"]; level != "" && item.GetName() == subject {
			return level
		}
	}
	return "-"
}

// loseLater deletes a namespace and its VMs, and does not wait for their end.
func (w *testCluster) loseLater(t *testing.T, namespace string) {
	ctx := context.WithoutCancel(t.Context())
	doomed := &corev1.Namespace{}
	doomed.Name = namespace
	if err := w.Delete(ctx, doomed); err != nil {
		t.Error(err)
	}
}
