package actions

import (
	"context"
	"slices"

	"github.com/sirupsen/logrus"
	velerov1 "github.com/vmware-tanzu/velero/pkg/apis/velero/v1"
	"github.com/vmware-tanzu/velero/pkg/plugin/velero"
	"k8s.io/apimachinery/pkg/runtime/schema"

	"velero-plugin-for-kubevirt/pkg/kubevirt"
)

// machines are the kinds that get a verdict.
var machines = []schema.GroupResource{kubevirt.VirtualMachines, kubevirt.VirtualMachineInstances}

func isMachine(item item) bool { return slices.Contains(machines, item.GroupResource) }

// isPlain tells whether a backup takes no snapshots and selects nothing by label. No guest has to be frozen for it, whatever has a namespace
// is in it by itself or not at all, and the order of its items does not matter. So three calls are enough for a running VM – its pod, its
// instance and itself – where a backup with snapshots takes three times as many, each of about 1 ms.
func isPlain(backup *velerov1.Backup) bool {
	return !takesSnapshots(backup) && backup.Spec.LabelSelector == nil && len(backup.Spec.OrLabelSelectors) == 0
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
