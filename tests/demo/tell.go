package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"text/tabwriter"
	"time"

	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"sigs.k8s.io/yaml"

	"velero-plugin-for-kubevirt/pkg/rules"
	"velero-plugin-for-kubevirt/tests/story"
)

// What the demo's scenario calls its namespace and its VM.
const (
	demoNamespace = "shop"
	demoVM        = "web"
)

// A stage is where the story happens.
type stage struct {
	site   *story.Site
	disks  disks  // nil on a cluster whose disks nobody can look into from outside
	plugin string // the binary that prints the volume policy; empty on a cluster whose Velero may be too old for it
}

// disks are read and written past the guest.
type disks interface {
	WriteText(ctx context.Context, namespace, claim, text string) error
	ReadText(ctx context.Context, namespace, claim string) (string, error)
}

// The disk that is written to, and what is written.
const (
	dataDisk = "web-data"
	dataText = "written before the backup"
)

// make creates the VM as a person would, and waits until KubeVirt runs it.
func (s stage) make(ctx context.Context, objects []*unstructured.Unstructured) error {
	for _, obj := range objects {
		if err := s.site.Create(ctx, obj); err != nil {
			return fmt.Errorf("creating %s %s/%s: %w", obj.GetKind(), obj.GetNamespace(), obj.GetName(), err)
		}
	}
	fmt.Fprintln(os.Stderr, "waiting for the VM to run")
	if err := s.site.AwaitReady(ctx, demoNamespace, demoVM, 5*time.Minute); err != nil {
		return err
	}
	if s.disks == nil {
		return nil
	}
	return s.disks.WriteText(ctx, demoNamespace, dataDisk, dataText)
}

// tell backs the VM up, loses it, restores it, and says what happened. It is an error when not everything went well.
func (s stage) tell(ctx context.Context, out io.Writer) error {
	id := suffix()
	backupName, restoreName := "demo-"+id, "demo-"+id
	first, err := s.instance(ctx)
	if err != nil {
		return err
	}
	fmt.Fprintf(out, "\nVirtualMachine %s/%s is running. It uses %s.\n", demoNamespace, demoVM, volumesOf(first))

	flags := []string{"--include-namespaces", demoNamespace}
	if s.plugin != "" {
		if err := s.makePolicy(ctx, out); err != nil {
			return err
		}
		flags = append(flags, "--resource-policies-configmap", "one-cut")
	}
	fmt.Fprintf(out, "\n$ velero backup create %s %s --wait\n", backupName, strings.Join(flags, " "))
	backup, err := s.site.Backup(ctx, backupName, flags...)
	if err != nil {
		return err
	}
	printResult(out, backup.Report)
	fmt.Fprintf(out, "  hooks      %d attempted, %d failed (freeze and thaw of the guest)\n", backup.HooksAttempted, backup.HooksFailed)
	printConsistency(out, backup.Report)
	fmt.Fprintf(out, "  in it      %s\n", kindsOf(backup.Items))
	printChanges(out, backup.Report)

	fmt.Fprintf(out, "\n$ kubectl delete namespace %s\n", demoNamespace)
	lost := time.Now()
	if err := s.site.LoseNamespace(ctx, demoNamespace); err != nil {
		return err
	}
	fmt.Fprintf(out, "  gone       in %.1f s, with the VM and its disks\n", time.Since(lost).Seconds())

	fmt.Fprintf(out, "\n$ velero restore create %s --from-backup %s --include-namespaces %s --wait\n", restoreName, backupName, demoNamespace)
	restore, err := s.site.Restore(ctx, restoreName, backupName, "--include-namespaces", demoNamespace)
	if err != nil {
		return err
	}
	printResult(out, *restore)
	printLeftOut(out, restore)
	printChanges(out, *restore)
	missing, err := printBack(ctx, out, s.site, backup)
	if err != nil {
		return err
	}
	return errors.Join(verdict(backup, restore, missing), s.runsAgain(ctx, out, first))
}

// makePolicy makes the volume policy that the plugin prints, by which it snapshots all disks of a VM at once.
func (s stage) makePolicy(ctx context.Context, out io.Writer) error {
	fmt.Fprintf(out, "\n$ %s policy | kubectl apply -f -\n", filepath.Base(s.plugin))
	printed, err := exec.CommandContext(ctx, s.plugin, "policy").Output()
	if err != nil {
		return fmt.Errorf("printing the volume policy: %w", err)
	}
	policy := &unstructured.Unstructured{}
	if err := yaml.Unmarshal(printed, policy); err != nil {
		return fmt.Errorf("reading the volume policy: %w", err)
	}
	return s.site.Create(ctx, policy)
}

// instance returns the VirtualMachineInstance of the demo's VM.
func (s stage) instance(ctx context.Context) (*unstructured.Unstructured, error) {
	found, err := s.site.Find(ctx, "kubevirt.io/v1", "VirtualMachineInstance", demoNamespace)
	if err == nil && found[demoVM] == nil {
		err = fmt.Errorf("VirtualMachineInstance %s/%s is not there", demoNamespace, demoVM)
	}
	return found[demoVM], err
}

// runsAgain waits until KubeVirt runs the restored VM, as another instance than the first and on the same disks.
func (s stage) runsAgain(ctx context.Context, out io.Writer, first *unstructured.Unstructured) error {
	if err := s.site.AwaitReady(ctx, demoNamespace, demoVM, 5*time.Minute); err != nil {
		return err
	}
	second, err := s.instance(ctx)
	if err != nil {
		return err
	}
	if second.GetUID() == first.GetUID() {
		return errors.New("the VirtualMachineInstance is the one that was lost")
	}
	fmt.Fprintf(out, "  running    VirtualMachine %s/%s, as a new VirtualMachineInstance\n", demoNamespace, demoVM)
	if s.disks == nil {
		return nil
	}
	text, err := s.disks.ReadText(ctx, demoNamespace, dataDisk)
	if err != nil {
		return err
	}
	fmt.Fprintf(out, "  disk       %s holds %q\n", dataDisk, text)
	if text != dataText {
		return fmt.Errorf("disk %s held %q before the backup", dataDisk, dataText)
	}
	return nil
}

// verdict is an error for everything that a person would not want to see in the report.
func verdict(backup *story.BackupReport, restore *story.Report, missing []string) error {
	var problems []error
	for _, report := range []story.Report{backup.Report, *restore} {
		if report.Phase != "Completed" || report.Errors+report.Warnings > 0 {
			problems = append(problems, fmt.Errorf("%s: %s, %d errors, %d warnings: %s",
				report.Name, report.Phase, report.Errors, report.Warnings, strings.Join(report.Trouble(), "; ")))
		}
	}
	if backup.HooksAttempted != 2 || backup.HooksFailed != 0 {
		problems = append(problems, fmt.Errorf("want 2 hooks, had %d and %d failed", backup.HooksAttempted, backup.HooksFailed))
	}
	if len(missing) > 0 {
		problems = append(problems, fmt.Errorf("did not come back: %s", strings.Join(missing, ", ")))
	}
	return errors.Join(problems...)
}

func printResult(out io.Writer, report story.Report) {
	fmt.Fprintf(out, "  %-10s in %.1f s, %d errors, %d warnings\n", strings.ToLower(report.Phase), report.Took.Seconds(), report.Errors, report.Warnings)
	if report.Errors+report.Warnings == 0 {
		return // Velero writes warnings into its log that it does not count
	}
	for _, line := range report.Trouble() {
		fmt.Fprintf(out, "             %s\n", line)
	}
}

// why gives the reason behind a rule, from the rules themselves.
func why(id string) string {
	for _, rule := range rules.All {
		if rule.ID == id {
			return rule.Why
		}
	}
	return ""
}

// printConsistency says how consistent the disks of each VM are.
func printConsistency(out io.Writer, report story.Report) {
	for _, line := range report.Log {
		if level := line["consistency"]; level != "" {
			if window := line["window"]; window != "" {
				level += ", the guest was frozen for " + window
			}
			fmt.Fprintln(out, strings.TrimRight(fmt.Sprintf("  disks      of %s: %s %s", line.Item(), level, line["error"]), " "))
		}
	}
}

func printLeftOut(out io.Writer, report *story.Report) {
	fmt.Fprintf(out, "  left out\n")
	table := tabwriter.NewWriter(out, 0, 0, 2, ' ', 0)
	for _, line := range report.LeftOut() {
		fmt.Fprintf(table, "    %s\t%s\n", line.Item(), line["reason"])
	}
	table.Flush()
}

// printChanges lists the edits by rule, each rule with its reason.
func printChanges(out io.Writer, report story.Report) {
	byRule := map[string][]story.Line{}
	for _, line := range report.Decisions() {
		if line["path"] != "" {
			byRule[line.Rule()] = append(byRule[line.Rule()], line)
		}
	}
	if len(byRule) == 0 {
		return
	}
	fmt.Fprintf(out, "  changed\n")
	for _, rule := range slices.Sorted(maps.Keys(byRule)) {
		fmt.Fprintf(out, "    %s\n", why(rule))
		table := tabwriter.NewWriter(out, 0, 0, 2, ' ', 0)
		for _, line := range byRule[rule] {
			fmt.Fprintf(table, "      %s\t%s\n", line.Item(), line["path"])
		}
		table.Flush()
	}
}

// printBack compares the namespace with the backup and returns what is missing of what people and controllers had made.
func printBack(ctx context.Context, out io.Writer, site *story.Site, backup *story.BackupReport) ([]string, error) {
	var missing []string
	var back []*unstructured.Unstructured
	for _, item := range backup.Items {
		if item.GetNamespace() != demoNamespace || isRuntime(item) {
			continue
		}
		live, err := site.Find(ctx, item.GetAPIVersion(), item.GetKind(), demoNamespace)
		if err != nil {
			return nil, err
		}
		if live[item.GetName()] == nil {
			missing = append(missing, item.GetKind()+" "+item.GetName())
			continue
		}
		back = append(back, item)
	}
	fmt.Fprintf(out, "  back       %s\n", kindsOf(back))
	return missing, nil
}

// isRuntime tells of what a cluster makes by itself, and a restore leaves out or makes anew under another name.
func isRuntime(item *unstructured.Unstructured) bool {
	switch item.GetKind() {
	case "ControllerRevision":
		return strings.HasPrefix(item.GetName(), "revision-start-vm-") // what a VM was started with
	case "Pod", "VirtualMachineInstance", "Event", "VolumeSnapshot":
		return true
	}
	return false
}

// kindsOf counts items by kind: "4 PersistentVolumeClaims, 1 VirtualMachine".
func kindsOf(items []*unstructured.Unstructured) string {
	count := map[string]int{}
	for _, item := range items {
		if item.GetKind() != "Event" {
			count[item.GetKind()]++
		}
	}
	kinds := slices.SortedFunc(maps.Keys(count), func(a, b string) int {
		return cmp.Or(cmp.Compare(count[b], count[a]), cmp.Compare(a, b))
	})
	var parts []string
	for _, kind := range kinds {
		plural := ""
		if count[kind] > 1 {
			plural = "s"
		}
		parts = append(parts, fmt.Sprintf("%d %s%s", count[kind], kind, plural))
	}
	return strings.Join(parts, ", ")
}

// volumesOf names what the demo's VM uses.
func volumesOf(vmi *unstructured.Unstructured) string {
	volumes, _, _ := unstructured.NestedSlice(vmi.Object, "spec", "volumes")
	var names []string
	for _, volume := range volumes {
		for key := range volume.(map[string]any) {
			if key != "name" && !slices.Contains(names, key) {
				names = append(names, key)
			}
		}
	}
	slices.Sort(names)
	return strings.Join(names, ", ") + ", an instancetype, a preference and a persistent vTPM"
}
