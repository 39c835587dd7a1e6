package cli

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"velero-plugin-for-kubevirt/pkg/kubevirt"
	"velero-plugin-for-kubevirt/pkg/object"
	"velero-plugin-for-kubevirt/pkg/rollback"
	"velero-plugin-for-kubevirt/pkg/vm"
)

type rollbackOptions struct {
	connection
	velero            *string
	undo, finish, yes bool
	timeout           time.Duration
}

func newRollback() *cobra.Command {
	var o rollbackOptions
	cmd := &cobra.Command{
		Use:   "rollback [BACKUP] vm/NAME",
		Short: "Put a VM in place of itself as it was backed up, and back again",
		Long: `Put a VM in place of itself as it was backed up. The volumes that it has now are kept, and nothing is lost until you say so.

The VM is stopped, its volumes get the reclaim policy Retain, VirtualMachine, DataVolumes and claims are taken away, and Velero
restores that VM alone, with its MAC addresses and UUID. Objects that the VM only uses – secrets, networks, a disk that is not in
the backup – stay as they are. A VM whose backup is not complete, or that shares a disk with another one, is refused.

  --undo    brings back the VM and the volumes that were there before; what was written since the rollback is lost
  --finish  gives the old volumes up: they get their reclaim policy back, which deletes most

Everything that is needed for going back is kept in the Secret velero-rollback-NAME beside the VM. A command that was
interrupted goes on when it is called again.

Exit code: 0 when it is done, 1 when it is refused or not all came back, 2 when that could not be found out or done.`,
		Example: `  velero-plugin-for-kubevirt rollback nightly vm/web -n shop
  velero-plugin-for-kubevirt rollback vm/web -n shop --undo
  velero-plugin-for-kubevirt rollback vm/web -n shop --finish`,
		Args: cobra.RangeArgs(1, 2),
		RunE: func(cmd *cobra.Command, args []string) error { return o.run(cmd, args) },
	}
	flags := cmd.Flags()
	o.addTo(flags)
	o.velero = veleroNamespaceFlag(flags)
	flags.BoolVar(&o.undo, "undo", false, "bring back what was there before the rollback")
	flags.BoolVar(&o.finish, "finish", false, "give up the volumes that were there before the rollback")
	flags.BoolVarP(&o.yes, "yes", "y", false, "do not ask")
	flags.DurationVar(&o.timeout, "timeout", 4*time.Hour, "how long to wait in all: for the guest, for Velero, for the VM to run")
	cmd.MarkFlagsMutuallyExclusive("undo", "finish")
	return cmd
}

func (o *rollbackOptions) run(cmd *cobra.Command, args []string) error {
	backup, id, err := o.arguments(args)
	if err != nil {
		return err
	}
	live, err := o.reader()
	if err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(cmd.Context(), o.timeout)
	defer cancel()
	record, err := rollback.Load(ctx, live, id)
	if err != nil {
		return err
	}
	progress := newProgress(cmd.ErrOrStderr())
	defer progress.done()
	run := &rollback.Run{
		Cluster: live, VM: id, Record: record,
		Done: func(what string) {
			progress.done()
			fmt.Fprintln(cmd.OutOrStdout(), printable(what))
		},
		Waiting: func(what string) { progress.say("%s …", what) },
	}
	switch {
	case o.undo:
		err = o.back(ctx, cmd, run)
	case o.finish:
		err = o.giveUp(ctx, cmd, run)
	default:
		err = o.forth(ctx, cmd, run, backup)
	}
	var bad vm.NotGood
	switch {
	case errors.As(err, &bad):
		return notGood(err.Error())
	case errors.Is(err, context.Canceled):
		return fmt.Errorf("interrupted; the same command goes on: %w", err)
	}
	return err
}

// arguments reads the backup, which only a rollback has, and the VM.
func (o *rollbackOptions) arguments(args []string) (backup string, id kubevirt.ID, err error) {
	if !o.undo && !o.finish {
		if len(args) != 2 {
			return "", id, errors.New("want BACKUP vm/NAME")
		}
		backup, args = args[0], args[1:]
	}
	ids, err := namesOf(args, o.givenNamespace())
	if err != nil {
		return "", id, err
	}
	if len(ids) != 1 || ids[0].GroupResource != kubevirt.VirtualMachines || ids[0].Name == "" {
		return "", id, errors.New("want one VM: vm/NAME")
	}
	id = ids[0]
	if id.Namespace == "" {
		id.Namespace, err = o.namespace()
	}
	return backup, id, err
}

// forth begins a rollback, or goes on with one.
func (o *rollbackOptions) forth(ctx context.Context, cmd *cobra.Command, run *rollback.Run, backup string) error {
	out, again := cmd.OutOrStdout(), fmt.Sprintf("%s vm/%s -n %s", cmd.CommandPath(), run.VM.Name, run.VM.Namespace)
	switch record := run.Record; {
	case record == nil:
		facts, err := o.facts(ctx, run, backup)
		if err != nil {
			return err
		}
		record, refusals := rollback.Decide(facts)
		if len(refusals) > 0 {
			return notGood(fmt.Sprintf("VirtualMachine %s/%s is not rolled back:\n  %s", run.VM.Namespace, run.VM.Name, strings.Join(refusals, "\n  ")))
		}
		run.Record = record
		if err := printPlan(out, facts, run.VM); err != nil {
			return err
		}
		if err := o.ask(cmd, "Stop the VM and roll it back?"); err != nil {
			return err
		}
		if err := run.Begin(ctx); err != nil {
			return err
		}
	case record.Direction != rollback.Back:
		return notGood(fmt.Sprintf("a rollback of this VM is being taken back or finished: %s --%s goes on with that", again, record.Direction))
	case record.Backup != backup || record.Done:
		return notGood(fmt.Sprintf("this VM has been rolled back to %s: %s --finish, or --undo, comes first", record.Backup, again))
	default:
		fmt.Fprintf(out, "Going on with the rollback of VirtualMachine %s/%s to %s.\n", run.VM.Namespace, run.VM.Name, backup)
	}
	if err := run.Rollback(ctx); err != nil {
		return err
	}
	_, err := fmt.Fprintf(out, "\nTo go back to what was there before: %[1]s --undo\nTo give the old volumes up:          %[1]s --finish\n", again)
	return err
}

// facts gathers what a rollback is decided from.
func (o *rollbackOptions) facts(ctx context.Context, run *rollback.Run, backup string) (rollback.Facts, error) {
	config, err := o.config()
	if err != nil {
		return rollback.Facts{}, err
	}
	contents, err := readBackup(ctx, config, *o.velero, backup)
	if err != nil {
		return rollback.Facts{}, err
	}
	backedUp := rollback.BackedUp{Backup: backup, Velero: *o.velero, VM: contents.item(run.VM)}
	if backedUp.VM != nil {
		if backedUp.Disks, err = rollback.DisksOf(ctx, backedUp.VM, contents.contents); err != nil {
			return rollback.Facts{}, err
		}
		backedUp.Incomplete, err = contents.incomplete(ctx, run.VM, backedUp.Disks, func(id kubevirt.ID) (bool, error) {
			obj, err := run.Cluster.Now(ctx, id)
			return obj != nil, err
		})
		if err != nil {
			return rollback.Facts{}, err
		}
	}
	return rollback.Gather(ctx, run.Cluster, run.VM, backedUp)
}

func printPlan(out io.Writer, facts rollback.Facts, id kubevirt.ID) error {
	fmt.Fprintf(out, "VirtualMachine %s/%s is stopped, and comes back as it is in backup %s.\n\n", id.Namespace, id.Name, facts.BackedUp.Backup)
	var rows [][]string
	for _, disk := range facts.Disks {
		volume := ""
		if disk.Volume != nil {
			volume = object.Name(disk.Volume)
		}
		rows = append(rows, []string{disk.Claim, volume, disk.Fate(facts.VM)})
	}
	if err := printTable(out, []string{"DISK", "VOLUME NOW", "WHAT BECOMES OF IT"}, rows); err != nil {
		return err
	}
	_, err := fmt.Fprintln(out, "\nWhat is set aside is kept: --undo brings it back, --finish gives it up. All other objects stay as they are.")
	return err
}

// back undoes a rollback.
func (o *rollbackOptions) back(ctx context.Context, cmd *cobra.Command, run *rollback.Run) error {
	switch record := run.Record; {
	case record == nil:
		return notGood(fmt.Sprintf("there is no rollback of VirtualMachine %s/%s to undo", run.VM.Namespace, run.VM.Name))
	case record.Direction == rollback.Finish:
		return notGood("the rollback is being finished: the old volumes have been given up")
	case record.Direction == rollback.Back:
		fmt.Fprintf(cmd.OutOrStdout(), "VirtualMachine %s/%s comes back as it was before the rollback to %s. What was written since is lost.\n", run.VM.Namespace, run.VM.Name, record.Backup)
		if err := o.ask(cmd, "Undo the rollback?"); err != nil {
			return err
		}
	}
	return run.Undo(ctx)
}

// giveUp finishes a rollback.
func (o *rollbackOptions) giveUp(ctx context.Context, cmd *cobra.Command, run *rollback.Run) error {
	switch record := run.Record; {
	case record == nil:
		return notGood(fmt.Sprintf("there is no rollback of VirtualMachine %s/%s to finish", run.VM.Namespace, run.VM.Name))
	case record.Direction == rollback.Undo:
		return notGood("the rollback is being undone: --undo goes on with that")
	case !record.Done:
		return notGood(fmt.Sprintf("the rollback to %s is not done: call it again to go on, or --undo", record.Backup))
	case record.Direction == rollback.Back:
		var rows [][]string
		for _, volume := range record.Volumes {
			rows = append(rows, []string{volume.Name, volume.Claim, volume.ReclaimPolicy})
		}
		if err := printTable(cmd.OutOrStdout(), []string{"OLD VOLUME", "WAS", "RECLAIM POLICY"}, rows); err != nil {
			return err
		}
		if err := o.ask(cmd, "Give these volumes up? Those whose policy is Delete are deleted, and there is no way back."); err != nil {
			return err
		}
	}
	return run.Finish(ctx)
}

// ask asks a person, and --yes answers.
func (o *rollbackOptions) ask(cmd *cobra.Command, question string) error {
	if o.yes {
		return nil
	}
	fmt.Fprintf(cmd.OutOrStdout(), "\n%s [y/N] ", question)
	answer, err := bufio.NewReader(cmd.InOrStdin()).ReadString('\n')
	if err != nil && !errors.Is(err, io.EOF) {
		return fmt.Errorf("reading the answer: %w", err)
	}
	if answer = strings.ToLower(strings.TrimSpace(answer)); answer != "y" && answer != "yes" {
		return errors.New("nothing was changed: answer y, or call with --yes")
	}
	return nil
}
