package cli

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/sirupsen/logrus"
	"github.com/spf13/cobra"
	velerov1 "github.com/vmware-tanzu/velero/pkg/apis/velero/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/runtime/schema"

	"velero-plugin-for-kubevirt/pkg/backup"
	"velero-plugin-for-kubevirt/pkg/cluster"
	"velero-plugin-for-kubevirt/pkg/graph"
	"velero-plugin-for-kubevirt/pkg/kubevirt"
)

type checkOptions struct {
	connection
	output   *format
	all      bool
	selector string
	velero   *string
}

func newCheck() *cobra.Command {
	var o checkOptions
	cmd := &cobra.Command{
		Use:   "check [vm/NAME … | backup NAME | schedule NAME]",
		Short: "Tell how consistent a backup of VMs would be",
		Long: `Tell how consistent a backup of VMs would be that were made now, why, and what to do about it: by the same rules by which a
backup judges them. Velero's installation is checked, too.

Without arguments it is a backup with Velero's defaults, of all VMs of the namespace. "check backup NAME" and "check schedule
NAME" apply the filters, volume policy and options of a Backup or Schedule that exists, to all VMs that it takes. What can only
happen during a backup, such as a hook that fails or a snapshot that is refused, is not foreseen.

Nothing is changed in the cluster. Velero's server is asked for its version and plugins as "velero version" does it: by a
ServerStatusRequest, which Velero removes again.

Exit code: 0 when all is good, 1 when a VM would not be consistent, names something that does not exist, or Velero lacks
something, 2 when that could not be found out.`,
		Example: `  velero-plugin-for-kubevirt check -n shop
  velero-plugin-for-kubevirt check -A -o wide
  velero-plugin-for-kubevirt check vm/web -n shop -o yaml
  velero-plugin-for-kubevirt check schedule nightly`,
		RunE: func(cmd *cobra.Command, args []string) error { return o.run(cmd, args) },
	}
	flags := cmd.Flags()
	o.addTo(flags)
	o.output = formatFlag(flags, "table", "wide", "json", "yaml", "name")
	o.velero = veleroNamespaceFlag(flags)
	flags.BoolVarP(&o.all, "all-namespaces", "A", false, "the VMs of all namespaces")
	cmd.MarkFlagsMutuallyExclusive("all-namespaces", "namespace")
	flags.StringVarP(&o.selector, "selector", "l", "", "only VMs with these labels, such as app=web")
	return cmd
}

func (o *checkOptions) run(cmd *cobra.Command, args []string) error {
	progress := newProgress(cmd.ErrOrStderr())
	c, err := o.gather(cmd.Context(), args, progress)
	progress.done()
	if err == nil {
		err = cmd.Context().Err()
	}
	if err != nil {
		return err
	}
	report := c.report()
	if err := report.print(cmd.OutOrStdout(), o.output.value); err != nil {
		return err
	}
	return report.err()
}

// A checked is what was seen of a cluster: Velero, a backup that would be made, and the VMs.
type checked struct {
	installation *installation
	backup       *velerov1.Backup
	vms          []checkedVM
}

// A checkedVM is a VM, or an instance of its own.
type checkedVM struct {
	backup.Forecast
	status  string   // as KubeVirt prints it
	missing []string // what it leads to and cannot do without
}

// gather reads the cluster.
func (o *checkOptions) gather(ctx context.Context, args []string, progress *progress) (*checked, error) {
	config, err := o.config()
	if err != nil {
		return nil, err
	}
	config.QPS, config.Burst = 50, 300 // kubectl's
	live, err := cluster.NewLive(config)
	if err != nil {
		return nil, err
	}
	velero, err := newVeleroClient(config, *o.velero)
	if err != nil {
		return nil, err
	}
	progress.say("asking Velero")
	installation, err := velero.lookAtVelero(ctx)
	if err != nil {
		return nil, err
	}
	c := &checked{installation: installation}
	wanted, err := o.target(ctx, velero, args, c)
	if err != nil {
		return nil, err
	}
	progress.say("listing VMs")
	items, err := o.items(ctx, live, wanted)
	if err != nil {
		return nil, err
	}
	progress.say("looking at %d VMs", len(items))
	if err := c.forecast(ctx, live, items); err != nil {
		return nil, err
	}
	namespaces := map[string]bool{}
	for _, item := range items {
		namespaces[item.GetNamespace()] = true
	}
	velero.lookAtRights(ctx, installation, slices.Sorted(maps.Keys(namespaces)))
	velero.lookAtNodeAgent(ctx, installation)
	return c, nil
}

// target reads the arguments: the backup that would be made, and the VMs that are asked about, by name or with none all of a namespace.
func (o *checkOptions) target(ctx context.Context, velero *veleroClient, args []string, c *checked) ([]kubevirt.ID, error) {
	c.backup = &velerov1.Backup{ObjectMeta: metav1.ObjectMeta{Namespace: velero.namespace, Name: "check"}}
	defer c.installation.complete(c.backup)
	kind, name, err := veleroArgument(args)
	switch {
	case err != nil:
		return nil, err
	case kind == "backup":
		return []kubevirt.ID{{Namespace: o.givenNamespace()}}, velero.read(ctx, "Backup", name, c.backup)
	case kind == "schedule":
		var schedule velerov1.Schedule
		err := velero.read(ctx, "Schedule", name, &schedule)
		fromSchedule(c.backup, &schedule)
		return []kubevirt.ID{{Namespace: o.givenNamespace()}}, err
	case len(args) == 0 && o.all:
		return []kubevirt.ID{{}}, nil
	case o.all:
		return nil, errors.New("a VM's name and --all-namespaces contradict each other")
	}
	namespace, err := o.namespace()
	if err != nil || len(args) == 0 {
		return []kubevirt.ID{{Namespace: namespace}}, err
	}
	ids, err := namesOf(args, o.givenNamespace())
	for n := range ids {
		if ids[n].Namespace == "" {
			ids[n].Namespace = namespace
		}
		if !slices.Contains(guests, ids[n].GroupResource) && err == nil {
			err = fmt.Errorf("%s is no VM: want vm/NAME, vmi/NAME, backup NAME or schedule NAME", args[n])
		}
	}
	return ids, err
}

// veleroArgument reads backup NAME, backup/NAME and the same of a schedule.
func veleroArgument(args []string) (kind, name string, err error) {
	if len(args) == 0 {
		return "", "", nil
	}
	kind, name, joined := strings.Cut(args[0], "/")
	kind = strings.TrimSuffix(strings.ToLower(kind), "s")
	if kind != "backup" && kind != "schedule" {
		return "", "", nil
	}
	if !joined && len(args) == 2 {
		return kind, args[1], nil
	}
	if name == "" || len(args) > 1 {
		return "", "", fmt.Errorf("want the name of one %s, as in \"check %s nightly\"", kind, kind)
	}
	return kind, name, nil
}

// fromSchedule makes a Backup what a Schedule makes (Velero 1.18.1, pkg/builder/backup_builder.go, FromSchedule, which writes to stdout).
func fromSchedule(b *velerov1.Backup, schedule *velerov1.Schedule) {
	b.Spec, b.Annotations, b.Labels = schedule.Spec.Template, schedule.Annotations, schedule.Labels
	if schedule.Spec.Template.Labels != nil {
		b.Labels = schedule.Spec.Template.Labels
	}
}

// guests are the kinds that a backup judges.
var guests = []schema.GroupResource{kubevirt.VirtualMachines, kubevirt.VirtualMachineInstances}

// items returns the VMs, and the instances that have none, that are asked about.
func (o *checkOptions) items(ctx context.Context, live *cluster.Live, wanted []kubevirt.ID) ([]*unstructured.Unstructured, error) {
	selector, err := labels.Parse(o.selector)
	if err != nil {
		return nil, fmt.Errorf("--selector: %w", err)
	}
	if served, err := live.Serves(kubevirt.VirtualMachines); err != nil {
		return nil, fmt.Errorf("asking the cluster whether it has KubeVirt: %w", err)
	} else if !served {
		return nil, errors.New("this cluster has no KubeVirt, and so no VMs: name another cluster with --context")
	}
	var items []*unstructured.Unstructured
	for _, one := range wanted {
		found, err := itemsOf(ctx, live, one)
		if err != nil {
			return nil, err
		}
		items = append(items, found...)
	}
	return slices.DeleteFunc(items, func(item *unstructured.Unstructured) bool { return !selector.Matches(labels.Set(item.GetLabels())) }), nil
}

// itemsOf returns one VM by its name, or all of a namespace or of the cluster.
func itemsOf(ctx context.Context, live *cluster.Live, wanted kubevirt.ID) ([]*unstructured.Unstructured, error) {
	ids := []kubevirt.ID{wanted}
	if wanted.Name == "" {
		ids = nil
		for _, resource := range guests {
			list, err := live.List(ctx, graph.Query{GroupResource: resource, Namespace: wanted.Namespace})
			if err != nil {
				return nil, err
			}
			for n := range list.All {
				item := &list.All[n]
				owner := metav1.GetControllerOfNoCopy(item)
				if wanted.Resource == "" || wanted.GroupResource == resource {
					if owner == nil || owner.Kind != "VirtualMachine" {
						ids = append(ids, kubevirt.ID{GroupResource: resource, Namespace: item.Namespace, Name: item.Name})
					}
				}
			}
		}
	}
	var items []*unstructured.Unstructured
	for _, id := range ids {
		obj, err := live.Get(ctx, id)
		if err != nil {
			return nil, err
		}
		if obj == nil && wanted.Name != "" {
			return nil, fmt.Errorf("%s: not found", id)
		}
		if obj != nil { // else it is gone meanwhile
			items = append(items, &unstructured.Unstructured{Object: obj})
		}
	}
	return items, nil
}

// forecast has the plugin's own code look at the VMs.
func (c *checked) forecast(ctx context.Context, live *cluster.Live, items []*unstructured.Unstructured) error {
	run := backup.NewRun(live, backup.Discover(live.Discovery), live, silent())
	forecasts, err := run.Forecast(ctx, items, c.backup, c.installation.server())
	if err != nil {
		return err
	}
	for n, forecast := range forecasts {
		vm := checkedVM{Forecast: forecast, status: statusOf(items[n])}
		if forecast.Taken {
			nodes, err := graph.Walk(ctx, forecast.ID, live)
			var notKnown error
			vm.missing, notKnown = missingAmong(nodes)
			vm.Err = errors.Join(vm.Err, err, notKnown)
		}
		c.vms = append(c.vms, vm)
	}
	return nil
}

// missingAmong returns what is missing of what a VM leads to, and why something is not known.
func missingAmong(nodes []graph.Node) (missing []string, err error) {
	for _, node := range nodes {
		if node.State == graph.Missing {
			missing = append(missing, node.String())
		}
		err = errors.Join(err, node.Err)
		for _, question := range node.Questions {
			err = errors.Join(err, question.Err)
		}
	}
	return missing, err
}

// statusOf returns the status of a VM, or of an instance, as "kubectl get" prints it.
func statusOf(item *unstructured.Unstructured) string {
	for _, field := range []string{"printableStatus", "phase"} {
		if status, _, _ := unstructured.NestedString(item.Object, "status", field); status != "" {
			return status
		}
	}
	return ""
}

func silent() logrus.FieldLogger {
	log := logrus.New()
	log.SetLevel(logrus.PanicLevel)
	return log
}
