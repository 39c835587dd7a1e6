package actions

import (
	"context"
	"maps"
	"slices"
	"strings"

	"github.com/sirupsen/logrus"
	velerov1 "github.com/vmware-tanzu/velero/pkg/apis/velero/v1"
	"github.com/vmware-tanzu/velero/pkg/plugin/velero"
	"github.com/vmware-tanzu/velero/pkg/util/boolptr"
	"golang.org/x/sync/errgroup"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"
	virtv1 "kubevirt.io/api/core/v1"

	"velero-plugin-for-kubevirt/pkg/consistency"
	"velero-plugin-for-kubevirt/pkg/graph"
	"velero-plugin-for-kubevirt/pkg/kubevirt"
)

// machines are the kinds that get a verdict.
var machines = []schema.GroupResource{kubevirt.VirtualMachines, kubevirt.VirtualMachineInstances}

func isMachine(item item) bool { return slices.Contains(machines, item.GroupResource) }

// isPlain tells whether a backup takes no snapshots, copies no files by default and selects nothing by label. No guest has to be frozen for
// it, whatever has a namespace is in it by itself or not at all, and the order of its items does not matter. So one call is enough for
// a running VM, where a backup with snapshots takes nine, each of about 1 ms; instances of their own take one, too.
func isPlain(backup *velerov1.Backup) bool {
	spec := backup.Spec
	return !takesSnapshots(backup) && !boolptr.IsSetToTrue(spec.DefaultVolumesToFsBackup) && spec.LabelSelector == nil && len(spec.OrLabelSelectors) == 0
}

// nothing selects no item: no object has a label and has it not.
var nothing = velero.ResourceSelector{LabelSelector: kubevirt.PodRoleLabel + ",!" + kubevirt.PodRoleLabel}

// A need is what Velero has to call the plugin for in the backups that it runs.
type need int

const (
	everything   need = iota // ItemBlocks and verdicts: not all backups are plain, or it is not known
	machinesOnly             // VMs and VMIs
	vmsOnly                  // VMs, since each VMI belongs to one
)

// needed tells what the plugin is needed for. Velero asks for the selectors of a backup's actions when that backup is InProgress, and may run
// others at the same time (Velero 1.18.1, pkg/controller/backup_controller.go). A call for nothing only takes time.
func (w *Witness) needed(reader Reader, log logrus.FieldLogger) need {
	w.needOnce.Do(func() {
		var err error
		if w.need, err = needOf(context.Background(), reader, log); err != nil {
			log.WithError(err).Info("could not see which backups Velero runs, and of what; the plugin is called whether or not that is needed")
		}
	})
	return w.need
}

// unlessPlain returns a selector, or that of nothing when only VMs and VMIs are needed.
func (w *Witness) unlessPlain(reader Reader, log logrus.FieldLogger, selector velero.ResourceSelector) velero.ResourceSelector {
	if w.needed(reader, log) == everything {
		return selector
	}
	return nothing
}

// needOf looks at the backups that Velero runs and, when all are plain, begins to read what their VMs lead to.
func needOf(ctx context.Context, reader Reader, log logrus.FieldLogger) (need, error) {
	var running []*velerov1.Backup
	err := reader.Each(ctx, kubevirt.VeleroBackups, func(obj map[string]any) error {
		backup, err := as[velerov1.Backup](obj)
		if err == nil && backup.Status.Phase == velerov1.BackupPhaseInProgress {
			running = append(running, backup)
		}
		return err
	})
	if err != nil || len(running) == 0 || slices.ContainsFunc(running, func(backup *velerov1.Backup) bool { return !isPlain(backup) }) {
		return everything, err
	}
	least := vmsOnly
	for _, backup := range running {
		vmis, err := instancesOf(ctx, reader, backup)
		if err != nil {
			return machinesOnly, err
		}
		if slices.ContainsFunc(vmis, func(vmi *metav1.PartialObjectMetadata) bool { return !isVM(metav1.GetControllerOfNoCopy(vmi)) }) {
			least = machinesOnly
		}
		go readAhead(backup, vmis, reader, log)
	}
	return least, nil
}

// readAhead asks for the lists of the namespaces that VMIs are in, one after the other. It has time: Velero collects all items of a backup
// before it calls the plugin for the first VM, seconds later (Velero 1.18.1, pkg/backup/backup.go).
func readAhead(backup *velerov1.Backup, vmis []*metav1.PartialObjectMetadata, reader Reader, log logrus.FieldLogger) {
	namespaces := map[string]bool{}
	for _, vmi := range vmis {
		namespaces[vmi.Namespace] = true
	}
	for _, namespace := range slices.Sorted(maps.Keys(namespaces)) {
		if !admits(backup.Spec, kubevirt.ID{GroupResource: kubevirt.VirtualMachineInstances, Namespace: namespace}) {
			continue
		}
		for _, query := range graph.Usual(namespace) {
			readEarly(query, reader, log)
		}
	}
}

// listsAtOnce are how many lists are asked for at the same time.
const listsAtOnce = 8

// instancesOf lists the VMIs that a backup may have, by namespace or all at once. The lists are those that the verdicts need.
func instancesOf(ctx context.Context, reader Reader, backup *velerov1.Backup) ([]*metav1.PartialObjectMetadata, error) {
	namespaces := backup.Spec.IncludedNamespaces
	if len(namespaces) == 0 || slices.ContainsFunc(namespaces, func(name string) bool { return strings.ContainsAny(name, "*?[]{}") }) {
		namespaces = []string{""} // all
	}
	var group errgroup.Group
	group.SetLimit(listsAtOnce)
	lists := make([]*graph.Objects, len(namespaces))
	for i, namespace := range namespaces {
		group.Go(func() (err error) {
			lists[i], err = reader.List(ctx, graph.Query{GroupResource: kubevirt.VirtualMachineInstances, Namespace: namespace})
			return err
		})
	}
	if err := group.Wait(); err != nil {
		return nil, err
	}
	var vmis []*metav1.PartialObjectMetadata
	for _, list := range lists {
		for i := range list.All {
			vmis = append(vmis, &list.All[i])
		}
	}
	return vmis, nil
}

// plainFacts gathers what matters of a VM in a plain backup, from lists that all VMs share: whether it runs, and of which disks Velero copies
// the files.
func (c *Consistency) plainFacts(ctx context.Context, instance kubevirt.ID, backup *velerov1.Backup) consistency.Facts {
	vmi, err := graph.MetadataOf(ctx, c.reader, instance)
	if err != nil || vmi == nil {
		return consistency.Facts{Unseen: errorsIn(err)}
	}
	copied, err := c.copied(ctx, instance.Namespace, string(vmi.UID), backup)
	return consistency.Facts{After: &virtv1.VirtualMachineInstance{}, Disks: copied, Unseen: errorsIn(err)}
}

// copied returns the disks that Velero copies the files of from the pods of an instance.
func (c *Consistency) copied(ctx context.Context, namespace, uid string, backup *velerov1.Backup) ([]consistency.Disk, error) {
	pods, err := graph.PodsOf(ctx, c.reader, namespace, uid)
	if err != nil {
		return nil, err
	}
	files := map[kubevirt.ID]bool{}
	for _, metadata := range pods {
		if metadata.Annotations[velerov1.VolumesToBackupAnnotation] == "" {
			continue
		}
		obj, err := c.reader.Get(ctx, kubevirt.ID{GroupResource: kubevirt.Pods, Namespace: namespace, Name: metadata.Name})
		if err != nil || obj == nil {
			return nil, err // nil: the pod has gone meanwhile
		}
		pod, err := as[corev1.Pod](obj)
		if err != nil {
			return nil, err
		}
		maps.Copy(files, copiesFiles(pod, backup))
	}
	var disks []consistency.Disk
	for _, claim := range slices.SortedFunc(maps.Keys(files), func(a, b kubevirt.ID) int { return strings.Compare(a.Name, b.Name) }) {
		disks = append(disks, consistency.Disk{Name: claim.Name, Files: files[claim]})
	}
	return disks, nil
}
