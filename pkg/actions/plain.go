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
	corev1 "k8s.io/api/core/v1"
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
// it, whatever has a namespace is in it by itself or not at all, and the order of its items does not matter. So two calls are enough for
// a running VM, one for its instance and one for itself, where a backup with snapshots takes nine, each of about 1 ms.
func isPlain(backup *velerov1.Backup) bool {
	spec := backup.Spec
	return !takesSnapshots(backup) && !boolptr.IsSetToTrue(spec.DefaultVolumesToFsBackup) && spec.LabelSelector == nil && len(spec.OrLabelSelectors) == 0
}

// nothing selects no item: no object has a label and has it not.
var nothing = velero.ResourceSelector{LabelSelector: kubevirt.PodRoleLabel + ",!" + kubevirt.PodRoleLabel}

// unlessPlain returns the first selector, or the second when no more calls are needed, since all backups that Velero runs are plain. Velero
// asks for the selectors of a backup's actions when that backup is InProgress, and may run others at the same time (Velero 1.18.1,
// pkg/controller/backup_controller.go). Without an answer it is the first: a call for nothing only takes time.
func (w *Witness) unlessPlain(reader Reader, log logrus.FieldLogger, selector, plain velero.ResourceSelector) velero.ResourceSelector {
	w.plainOnce.Do(func() {
		var err error
		if w.plain, err = onlyPlain(context.Background(), reader); err != nil {
			log.WithError(err).Info("could not see which backups Velero runs; it is to ask for ItemBlocks and verdicts whether or not they are needed")
		}
	})
	if w.plain {
		return plain
	}
	return selector
}

// onlyPlain tells whether Velero runs backups, and only plain ones.
func onlyPlain(ctx context.Context, reader Reader) (bool, error) {
	running, plain := 0, 0
	err := reader.Each(ctx, kubevirt.VeleroBackups, func(obj map[string]any) error {
		backup, err := as[velerov1.Backup](obj)
		if err != nil || backup.Status.Phase != velerov1.BackupPhaseInProgress {
			return err
		}
		running++
		if isPlain(backup) {
			plain++
		}
		return nil
	})
	return running > 0 && running == plain && err == nil, err
}

// plainFacts gathers what matters of a VM in a plain backup, from lists that all VMs share: whether it runs, and of which disks Velero copies
// the files.
func (c *Consistency) plainFacts(ctx context.Context, instance kubevirt.ID, backup *velerov1.Backup) consistency.Facts {
	vmis, err := c.reader.List(ctx, graph.Query{GroupResource: instance.GroupResource, Namespace: instance.Namespace})
	vmi := vmis.Named(instance.Name)
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
