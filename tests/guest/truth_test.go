//go:build guest && linux

package guest

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"testing"
	"time"

	"velero-plugin-for-kubevirt/pkg/consistency"
	"velero-plugin-for-kubevirt/tests/cluster"
	"velero-plugin-for-kubevirt/tests/story"
)

// enough is how many backups say something: TestTheVerdictIsTrue writes so many to ResultsFile, from which the README's table is made.
const enough = 50

// A situation is what happens to a guest while it is backed up.
type situation struct {
	name   string
	delay  time.Duration // of each snapshot
	before func(ctx context.Context, vm VM) (undo func() error, err error)
	during func(ctx context.Context, vm VM) error // once the guest is frozen
}

var undisturbed = situation{name: "nothing happens"}

var disturbances = []situation{
	{name: "somebody thaws the guest while its disks are snapshotted", delay: 5 * time.Second, during: func(ctx context.Context, vm VM) error {
		if err := site.AwaitFrozen(ctx, vm, true, patience); err != nil {
			return err
		}
		return site.Thaw(ctx, vm)
	}},
	{name: "the VM has no hooks that freeze it", before: func(ctx context.Context, vm VM) (func() error, error) {
		return func() error { return site.withoutHooks(context.WithoutCancel(ctx), vm, false) }, site.withoutHooks(ctx, vm, true)
	}},
	{name: "the VM is paused", before: func(ctx context.Context, vm VM) (func() error, error) {
		return func() error { return site.Subresource(context.WithoutCancel(ctx), vm, "unpause") }, site.Subresource(ctx, vm, "pause")
	}},
}

// TestTheVerdictIsTrue backs a writing guest up again and again, sometimes disturbed, and compares what the plugin says with what is in
// the snapshots. It must never say "filesystem" of disks that are not.
func TestTheVerdictIsTrue(t *testing.T) {
	backups, err := story.Backups(2 * (len(disturbances) + 1))
	if err != nil {
		t.Fatal(err)
	}
	vm := VM{"truth", "web"}
	boots(t, vm)
	results := Results{Date: time.Now().UTC().Format(time.DateOnly)}
	for n := range backups {
		// Every other one is undisturbed.
		s := undisturbed
		if n%2 == 1 {
			s = disturbances[n/2%len(disturbances)]
		}
		results.Backups = append(results.Backups, observe(t, vm, s, fmt.Sprintf("truth-%d", n)))
	}
	for _, b := range results.Backups {
		if b.Verdict == string(consistency.Filesystem) && !b.Truth.Consistent() {
			t.Errorf("when %s, the verdict was filesystem and the snapshots held %+v", b.Situation, b.Truth)
		}
		if b.Situation == undisturbed.name && b.Verdict != string(consistency.Filesystem) {
			t.Errorf("when %s, the verdict was %s %s", b.Situation, b.Verdict, b.Reason)
		}
	}
	if backups >= enough && !t.Failed() {
		content, err := json.MarshalIndent(results, "", "  ")
		if err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(ResultsFile, append(content, '\n'), 0o644); err != nil {
			t.Fatal(err)
		}
	}
}

// observe makes one backup and looks into it.
func observe(t *testing.T, vm VM, s situation, backupName string) (seen Observation) {
	t.Helper()
	seen.Situation = s.name
	check := func(err error) {
		if err != nil {
			t.Fatal(err)
		}
	}
	check(site.AwaitFrozen(t.Context(), vm, false, patience))
	check(site.AwaitWrites(t.Context(), vm, 20, patience))
	check(site.Cluster.FailCSI(cluster.CSIFaults{SnapshotDelay: s.delay}))
	defer func() { check(site.Cluster.FailCSI(cluster.CSIFaults{})) }()
	if s.before != nil {
		undo, err := s.before(t.Context(), vm)
		check(err)
		defer func() { check(undo()) }()
	}
	disturbed := make(chan error, 1)
	go func() {
		if s.during == nil {
			disturbed <- nil
			return
		}
		disturbed <- s.during(t.Context(), vm)
	}()
	report, err := site.Backup(t.Context(), backupName, "--include-namespaces", vm.Namespace)
	check(err)
	check(<-disturbed)
	seen.describe(t, vm, report)
	_, err = site.Velero(t.Context(), "backup", "delete", backupName, "--confirm") // with its snapshots
	check(err)
	return seen
}

func (o *Observation) describe(t *testing.T, vm VM, report *story.BackupReport) {
	t.Helper()
	level, reason, window := verdict(report, vm)
	o.Verdict, o.Reason, o.Truth = level, reason, truthOf(t, vm, report)
	if level == string(consistency.Filesystem) {
		var err error
		if o.Window, err = time.ParseDuration(window); err != nil {
			t.Fatal(err)
		}
		if o.Asking, err = time.ParseDuration(asking(report, vm)); err != nil {
			t.Fatal(err)
		}
		if err := site.AwaitWrites(t.Context(), vm, 2, patience); err != nil {
			t.Fatal(err)
		}
		lines, err := site.Console(t.Context(), vm)
		if err != nil {
			t.Fatal(err)
		}
		o.Pause = Pause(lines, o.Truth.Database)
		snapshots, err := site.Snapshots(report)
		if err != nil {
			t.Fatal(err)
		}
		for _, snapshot := range snapshots {
			o.Storage += snapshot.Took
		}
	}
	t.Logf("%s: %s %s, window %s, asking %s, pause %s, storage %s, snapshots %+v, consistent: %t", o.Situation, level, reason, window, o.Asking, o.Pause, o.Storage, o.Truth, o.Truth.Consistent())
}
