package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"slices"
	"strings"
	"text/tabwriter"
	"time"

	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"

	"velero-plugin-for-kubevirt/pkg/rules"
	"velero-plugin-for-kubevirt/tests/story"
)

// What the demo's scenario calls its namespace and its VM.
const (
	demoNamespace = "shop"
	demoVM        = "web"
)

// tell backs the VM up, loses it, restores it, and says what happened. It is an error when not everything went well.
func tell(ctx context.Context, out io.Writer, site *story.Site, objects []*unstructured.Unstructured) error {
	id := suffix()
	backupName, restoreName := "demo-"+id, "demo-"+id
	fmt.Fprintf(out, "\nVirtualMachine %s/%s is running. It uses %s.\n", demoNamespace, demoVM, volumesOf(objects))

	fmt.Fprintf(out, "\n$ velero backup create %s --include-namespaces %s --wait\n", backupName, demoNamespace)
	backup, err := site.Backup(ctx, backupName, "--include-namespaces", demoNamespace)
	if err != nil {
		return err
	}
	printResult(out, backup.Report)
	fmt.Fprintf(out, "  hooks      %d attempted, %d failed (freeze and thaw of the guest)\n", backup.HooksAttempted, backup.HooksFailed)
	fmt.Fprintf(out, "  in it      %s\n", kindsOf(backup.Items))
	printChanges(out, backup.Report)

	fmt.Fprintf(out, "\n$ kubectl delete namespace %s\n", demoNamespace)
	lost := time.Now()
	if err := site.LoseNamespace(ctx, demoNamespace); err != nil {
		return err
	}
	fmt.Fprintf(out, "  gone       in %.1f s, with the VM and its disks\n", time.Since(lost).Seconds())

	fmt.Fprintf(out, "\n$ velero restore create %s --from-backup %s --include-namespaces %s --wait\n", restoreName, backupName, demoNamespace)
	restore, err := site.Restore(ctx, restoreName, backupName, "--include-namespaces", demoNamespace)
	if err != nil {
		return err
	}
	printResult(out, *restore)
	printLeftOut(out, restore)
	printChanges(out, *restore)
	missing, err := printBack(ctx, out, site, backup)
	if err != nil {
		return err
	}
	return verdict(backup, restore, missing)
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

// isRuntime tells of what a cluster makes by itself, and a restore leaves out or makes anew.
func isRuntime(item *unstructured.Unstructured) bool {
	switch item.GetKind() {
	case "Pod", "VirtualMachineInstance", "Event":
		return true
	}
	return false
}

// kindsOf counts items by kind: "4 PersistentVolumeClaims, 1 VirtualMachine".
func kindsOf(items []*unstructured.Unstructured) string {
	count := map[string]int{}
	for _, item := range items {
		count[item.GetKind()]++
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
func volumesOf(objects []*unstructured.Unstructured) string {
	for _, obj := range objects {
		if obj.GetKind() != "VirtualMachine" {
			continue
		}
		volumes, _, _ := unstructured.NestedSlice(obj.Object, "spec", "template", "spec", "volumes")
		var names []string
		for _, volume := range volumes {
			for key := range volume.(map[string]any) {
				if key != "name" && !slices.Contains(names, key) {
					names = append(names, key)
				}
			}
		}
		return strings.Join(names, ", ") + ", an instancetype, a preference and a persistent vTPM"
	}
	return "nothing"
}
