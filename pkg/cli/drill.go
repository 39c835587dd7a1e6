package cli

import (
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"
	velerov1 "github.com/vmware-tanzu/velero/pkg/apis/velero/v1"
	velerolabel "github.com/vmware-tanzu/velero/pkg/label"
	"k8s.io/apimachinery/pkg/util/rand"
	"k8s.io/client-go/rest"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"velero-plugin-for-kubevirt/pkg/cluster"
	"velero-plugin-for-kubevirt/pkg/drill"
	"velero-plugin-for-kubevirt/pkg/graph"
	"velero-plugin-for-kubevirt/pkg/kubevirt"
	"velero-plugin-for-kubevirt/pkg/object"
	"velero-plugin-for-kubevirt/pkg/rollback"
)

type drillOptions struct {
	connection
	drill.Options
	output   *format
	velero   *string
	vms      []string
	schedule string
}

func newDrill() *cobra.Command {
	var o drillOptions
	cmd := &cobra.Command{
		Use:   "drill [BACKUP]",
		Short: "Rehearse a restore: do the VMs of a backup boot",
		Long: `Rehearse a restore. Each VM of the backup is restored into a scratch namespace that must not exist, with another identity, started
there, and waited for: until its guest runs, and until its guest agent answers if one did when it was backed up. In the end
everything that was made is removed: namespace, volumes and Restores. The snapshots are the backup's and stay.

The guests reach nothing: Multus networks are taken away, or --network puts others in their place, and a NetworkPolicy lets nothing
in or out, if the cluster's network enforces it. Services and all that is no VM's are not restored.

The Backup is annotated with velero.kubevirt.io/drill, such as "passed 2026-11-24T02:00:00Z, 12 of 12", and gets an Event.

Exit code: 0 when every VM passed, 1 when one did not, 2 when that could not be found out.`,
		Example: `  velero-plugin-for-kubevirt drill nightly
  velero-plugin-for-kubevirt drill nightly --vm shop/web --exec 'systemctl is-system-running'
  velero-plugin-for-kubevirt drill nightly -n shop --parallel 4 --network lan=sandbox/lan
  velero-plugin-for-kubevirt drill --from-schedule every-night -o json`,
		Args: cobra.MaximumNArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error { return o.run(cmd, args) },
	}
	flags := cmd.Flags()
	flags.DurationVar(&o.Timeout, "timeout", 10*time.Minute, "how long each VM may take")
	o.addTo(flags)
	o.output = formatFlag(flags, "table", "json", "yaml")
	o.velero = veleroNamespaceFlag(flags)
	flags.StringSliceVar(&o.vms, "vm", nil, "only this VM, NAME or NAMESPACE/NAME; may be repeated (default: all, or those of --namespace)")
	flags.StringVar(&o.schedule, "from-schedule", "", "the last backup of this schedule instead of BACKUP")
	flags.StringVar(&o.Prefix, "prefix", "drill-", "what the names of the scratch namespaces begin with, before the VMs' own")
	flags.StringVar(&o.WaitFor, "wait-for", "", "running or agent (default: the agent of those VMs that had one)")
	flags.StringVar(&o.Exec, "exec", "", "a command that must succeed in every guest, run by the guest agent")
	flags.StringToStringVar(&o.Networks, "network", nil, "OLD=NEW: a Multus network by the one that takes its place; others are taken away")
	flags.IntVar(&o.Parallel, "parallel", 1, "how many VMs at a time")
	flags.BoolVar(&o.Keep, "keep", false, "remove nothing, to look into a VM that did not pass")
	return cmd
}

func (o *drillOptions) run(cmd *cobra.Command, args []string) error {
	switch {
	case (len(args) == 1) == (o.schedule != ""):
		return errors.New("want the name of a backup, or a schedule with --from-schedule")
	case !slices.Contains([]string{"", drill.Running, drill.Agent}, o.WaitFor):
		return fmt.Errorf("--wait-for: want %s or %s", drill.Running, drill.Agent)
	}
	ctx := cmd.Context()
	config, err := o.config()
	if err != nil {
		return err
	}
	config.QPS, config.Burst = 50, 300 // kubectl's
	progress := newProgress(cmd.ErrOrStderr())
	defer progress.done()
	progress.say("downloading the backup")
	contents, err := o.contents(ctx, config, args)
	if err != nil {
		return err
	}
	live, err := cluster.NewLive(config)
	if err != nil {
		return err
	}
	vms, err := o.chosen(ctx, contents, live)
	if err != nil {
		return err
	}
	run := &drill.Run{
		Cluster: live, Backup: contents.backup.Name, Velero: *o.velero, ID: rand.String(8), Options: o.Options,
		Namespaces: map[string]map[string]any{}, Launcher: o.launcher,
		Waiting: func(what string) { progress.say("%s …", what) },
	}
	for _, namespace := range contents.contents[kubevirt.Namespaces] {
		run.Namespaces[namespace.GetName()] = namespace.Object
	}
	results, err := run.Do(ctx, vms)
	progress.done()
	if results != nil {
		err = errors.Join(err, o.print(cmd.OutOrStdout(), results))
	}
	if err != nil {
		return err
	}
	now := time.Now()
	if err := run.Tell(ctx, results, now); err != nil {
		return err
	}
	if summary, passed := drill.Summary(results, now); !passed {
		return notGood("the drill of backup " + run.Backup + " " + summary)
	}
	return nil
}

// contents reads the backup, or the last one of a schedule.
func (o *drillOptions) contents(ctx context.Context, config *rest.Config, args []string) (*verification, error) {
	if o.schedule == "" {
		return readBackup(ctx, config, *o.velero, args[0])
	}
	velero, err := newVeleroClient(config, *o.velero)
	if err != nil {
		return nil, err
	}
	var backups velerov1.BackupList
	if err := velero.List(ctx, &backups, client.InNamespace(*o.velero), client.MatchingLabels{velerov1.ScheduleNameLabel: velerolabel.GetValidName(o.schedule)}); err != nil {
		return nil, fmt.Errorf("listing the Backups of schedule %s: %w", o.schedule, err)
	}
	last, found := lastOf(backups.Items)
	if !found {
		return nil, fmt.Errorf("schedule %s/%s has no backup that has ended", *o.velero, o.schedule)
	}
	return readBackup(ctx, config, *o.velero, last)
}

// lastOf returns the name of the backup that began last, of those that can be restored.
func lastOf(backups []velerov1.Backup) (name string, found bool) {
	var began time.Time
	for i := range backups {
		if at := backups[i].Status.StartTimestamp; canBeRead(&backups[i]) == nil && at != nil && at.After(began) {
			name, began, found = backups[i].Name, at.Time, true
		}
	}
	return name, found
}

// chosen returns the VMs that are asked for, each with what the backup lacks of it.
func (o *drillOptions) chosen(ctx context.Context, contents *verification, live *cluster.Live) ([]drill.VM, error) {
	wanted := map[kubevirt.ID]bool{}
	for _, text := range o.vms {
		id, err := nameIn(kubevirt.VirtualMachines, text, o.givenNamespace())
		if err != nil {
			return nil, err
		}
		if id.Namespace == "" {
			if id.Namespace, err = o.namespace(); err != nil {
				return nil, err
			}
		}
		if contents.item(id) == nil {
			return nil, fmt.Errorf("%s is not in backup %s", id, contents.backup.Name)
		}
		wanted[id] = true
	}
	var chosen []drill.VM
	for _, item := range contents.contents[kubevirt.VirtualMachines] {
		id := kubevirt.ID{GroupResource: kubevirt.VirtualMachines, Namespace: item.GetNamespace(), Name: item.GetName()}
		if (len(wanted) > 0 && !wanted[id]) || (o.givenNamespace() != "" && id.Namespace != o.givenNamespace()) {
			continue
		}
		vm, err := o.look(ctx, contents, id, live)
		if err != nil {
			return nil, err
		}
		chosen = append(chosen, vm)
	}
	if len(chosen) == 0 {
		return nil, fmt.Errorf("there is no VirtualMachine to rehearse in backup %s", contents.backup.Name)
	}
	slices.SortFunc(chosen, func(a, b drill.VM) int { return strings.Compare(a.String(), b.String()) })
	return chosen, nil
}

// look finds out what there is to know of a VM before it is restored. What it needs from other namespaces is looked for in the cluster.
func (o *drillOptions) look(ctx context.Context, contents *verification, id kubevirt.ID, live *cluster.Live) (drill.VM, error) {
	obj := contents.item(id)
	vm := drill.VM{ID: id, Label: object.Label(obj, kubevirt.VMLabel)}
	instance := id
	instance.GroupResource = kubevirt.VirtualMachineInstances
	var err error
	if vm.HadAgent, err = drill.HasAgent(contents.item(instance)); err != nil {
		return vm, fmt.Errorf("reading %s in Backup %s: %w", instance, contents.backup.Name, err)
	}
	disks, err := rollback.DisksOf(ctx, obj, contents.contents)
	if err != nil {
		return vm, err
	}
	vm.Incomplete, err = contents.incomplete(ctx, id, disks, func(other kubevirt.ID) (bool, error) {
		if other.Namespace == id.Namespace {
			return false, nil
		}
		found, err := live.Now(ctx, other)
		return found != nil, err
	})
	if vm.Label == "" {
		vm.Incomplete = append(vm.Incomplete, "it has no label "+kubevirt.VMLabel+": the backup was made without this plugin, or with an older one")
	}
	return vm, err
}

// launcher finds the launcher pod of an instance that has just started: with a reader that has read nothing yet.
func (o *drillOptions) launcher(ctx context.Context, namespace, uid string) (kubevirt.ID, error) {
	reader, err := o.reader()
	if err != nil {
		return kubevirt.ID{}, err
	}
	pods, err := graph.PodsOf(ctx, reader, namespace, uid)
	if err == nil && len(pods) == 0 {
		err = fmt.Errorf("the instance in namespace %s has no launcher pod", namespace)
	}
	if err != nil {
		return kubevirt.ID{}, err
	}
	return kubevirt.ID{GroupResource: kubevirt.Pods, Namespace: namespace, Name: pods[0].Name}, nil
}

// print prints what came of each VM.
func (o *drillOptions) print(out io.Writer, results []drill.Result) error {
	if printed, err := printForMachines(out, o.output.value, results, nil); printed || err != nil {
		return err
	}
	var rows [][]string
	for _, r := range results {
		word := "failed"
		if r.Passed {
			word = "passed"
		}
		rows = append(rows, []string{r.VM, word, r.Restored.String(), r.Running.String(), r.Agent.String(), r.Reason})
	}
	return printTable(out, []string{"VM", "RESULT", "RESTORED", "RUNNING", "AGENT", "WHY"}, rows)
}
