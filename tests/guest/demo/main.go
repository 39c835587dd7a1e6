//go:build linux

// Command demo shows to a person what a backup is worth: a virtual machine boots on a real node and writes, is backed up, lost with its
// namespace, restored, boots again and has what it wrote.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"strings"
	"time"

	"velero-plugin-for-kubevirt/tests/guest"
)

func main() {
	image := flag.String("image", "", "the archive of the plugin's image")
	flag.Parse()
	ctx := guest.Enter()
	if err := run(ctx, *image); err != nil {
		fmt.Fprintln(os.Stderr, "demo:", err)
		os.Exit(1)
	}
}

const patience = 10 * time.Minute

func run(ctx context.Context, image string) (err error) {
	w, err := guest.Start(ctx, image, os.Stderr)
	if w != nil && w.Cluster != nil {
		defer func() { err = errors.Join(err, w.Cluster.Stop()) }()
	}
	if err != nil {
		return err
	}
	d := demo{NodeCluster: w, vm: guest.VM{Namespace: "shop", Name: "web"}}
	for _, scene := range []func(context.Context) error{d.boot, d.backUp, d.lose, d.restore, d.compare} {
		if err := scene(ctx); err != nil {
			return err
		}
	}
	return nil
}

type demo struct {
	*guest.NodeCluster
	vm          guest.VM
	backup      string
	inSnapshots guest.Truth // what the snapshots hold
}

func (d *demo) boot(ctx context.Context) error {
	fmt.Printf("\nVirtualMachine %s/%s is created: a Debian with a root disk and a data disk, in QEMU without KVM.\n", d.vm.Namespace, d.vm.Name)
	begin := time.Now()
	if err := d.Make(ctx, d.vm); err != nil {
		return err
	}
	return d.runs(ctx, begin)
}

// runs waits until the guest runs and shows how its console begins and goes on.
func (d *demo) runs(ctx context.Context, begin time.Time) error {
	if err := d.AwaitAgent(ctx, d.vm, patience); err != nil {
		return err
	}
	if err := d.AwaitWrites(ctx, d.vm, 50, patience); err != nil {
		return err
	}
	lines, err := d.Console(ctx, d.vm)
	if err != nil {
		return err
	}
	fmt.Printf("  running    after %.0f s, guest agent connected. Its console:\n", time.Since(begin).Seconds())
	show(lines[:min(len(lines), 5)])
	fmt.Println("             ...")
	show(lines[max(0, len(lines)-3):])
	return nil
}

func show(lines []guest.Line) {
	for _, line := range lines {
		fmt.Printf("             %8.3f  %s\n", line.Up.Seconds(), line.Text)
	}
}

func (d *demo) backUp(ctx context.Context) error {
	d.backup = "demo"
	fmt.Printf("\n$ velero backup create %s --include-namespaces %s --wait\n", d.backup, d.vm.Namespace)
	report, err := d.Backup(ctx, d.backup, "--include-namespaces", d.vm.Namespace)
	if err != nil {
		return err
	}
	fmt.Printf("  %-10s in %.1f s, %d errors, %d warnings\n", strings.ToLower(report.Phase), report.Took.Seconds(), report.Errors, report.Warnings)
	for _, item := range report.Items {
		if item.GetKind() == "VirtualMachine" {
			a := item.GetAnnotations()
			fmt.Printf("  verdict    %s %s\n", a["velero.kubevirt.io/consistency"], a["velero.kubevirt.io/consistency-message"])
		}
	}
	snapshots, err := d.Snapshots(report)
	if err != nil {
		return err
	}
	if d.inSnapshots, err = guest.Inspect(ctx, snapshots[d.vm.Name+"-root"], snapshots[d.vm.Name+"-data"]); err != nil {
		return err
	}
	fmt.Printf("  snapshots  hold %s\n", describe(d.inSnapshots))
	if err := d.AwaitWrites(ctx, d.vm, 5, patience); err != nil {
		return err
	}
	lines, err := d.Console(ctx, d.vm)
	if err != nil {
		return err
	}
	fmt.Printf("  the guest  was frozen for %.1f s. Its console:\n", guest.Pause(lines, d.inSnapshots.Database).Seconds())
	for n, line := range lines {
		if number, ok := line.Wrote(); ok && number == d.inSnapshots.Database {
			show(lines[max(0, n-1):min(len(lines), n+3)])
		}
	}
	if !d.inSnapshots.Consistent() {
		return errors.New("the snapshots are not consistent")
	}
	return nil
}

func describe(t guest.Truth) string {
	return fmt.Sprintf("%d numbers in the journal, %d in the database (integrity check: %s); file systems to be recovered: %t, %t",
		t.Journal, t.Database, t.Integrity, t.RootRecovery, t.DataRecovery)
}

func (d *demo) lose(ctx context.Context) error {
	fmt.Printf("\n$ kubectl delete namespace %s\n", d.vm.Namespace)
	begin := time.Now()
	if err := d.LoseNamespace(ctx, d.vm.Namespace); err != nil {
		return err
	}
	fmt.Printf("  gone       in %.1f s, with the VM and its disks\n", time.Since(begin).Seconds())
	return nil
}

func (d *demo) restore(ctx context.Context) error {
	fmt.Printf("\n$ velero restore create %s --from-backup %s --wait\n", d.backup, d.backup)
	begin := time.Now()
	report, err := d.Restore(ctx, d.backup, d.backup, "--include-namespaces", d.vm.Namespace)
	if err != nil {
		return err
	}
	fmt.Printf("  %-10s in %.1f s, %d errors, %d warnings\n", strings.ToLower(report.Phase), report.Took.Seconds(), report.Errors, report.Warnings)
	return d.runs(ctx, begin)
}

// compare checks what the restored guest found when it booted.
func (d *demo) compare(ctx context.Context) error {
	lines, err := d.Console(ctx, d.vm)
	if err != nil {
		return err
	}
	found, ok := guest.Found(lines)
	if !ok || found != d.inSnapshots {
		return fmt.Errorf("the restored guest found %s, not what was in the snapshots", describe(found))
	}
	fmt.Printf("\nThe restored guest found all %d numbers that were stored before the freeze, and goes on with %d.\n", found.Database, min(found.Journal, found.Database)+1)
	return nil
}
