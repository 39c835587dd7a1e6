package cli

import (
	"context"
	"fmt"
	"slices"
	"time"

	velerov1 "github.com/vmware-tanzu/velero/pkg/apis/velero/v1"
	"k8s.io/client-go/rest"

	"velero-plugin-for-kubevirt/pkg/cluster"
	"velero-plugin-for-kubevirt/pkg/kubevirt"
)

// readBackup reads a backup through Velero, for commands that restore from it.
func readBackup(ctx context.Context, config *rest.Config, veleroNamespace, name string) (*verification, error) {
	velero, err := newVeleroClient(config, veleroNamespace)
	if err != nil {
		return nil, err
	}
	var o verifyOptions
	o.download.timeout = time.Minute // the default of verify
	v := &verification{backup: &velerov1.Backup{}}
	if err := o.fetch(ctx, velero, name, v); err != nil {
		return nil, err
	}
	v.reader, err = cluster.NewCached(v.contents)
	return v, err
}

// incomplete tells what a restore of a VM would not bring: by what verify finds about it. What the VM needs besides its disks may be known elsewhere.
func (v *verification) incomplete(ctx context.Context, id kubevirt.ID, disks []string, elsewhere func(kubevirt.ID) (bool, error)) ([]string, error) {
	vm := v.verify(ctx, id, v.item(id))
	if vm.err != nil {
		return nil, fmt.Errorf("reading %s in Backup %s: %w", id, v.backup.Name, vm.err)
	}
	var lacks []string
	for _, name := range vm.missing {
		missing, err := kubevirt.ParseID(name)
		if err != nil {
			return nil, err
		}
		if missing.GroupResource == kubevirt.PersistentVolumeClaims {
			continue // among the disks, if it is one
		}
		known, err := elsewhere(missing)
		if err != nil {
			return nil, err
		}
		if !known {
			lacks = append(lacks, fmt.Sprintf("%s is not in backup %s", missing, v.backup.Name))
		}
	}
	for _, disk := range vm.disks {
		if slices.Contains(disks, disk.claim) && (disk.how == asNone || disk.how == asFiles) {
			// Files are restored into a pod, and the launcher is not restored.
			why := disk.why
			if disk.how == asFiles {
				why = "it was backed up as files, which Velero cannot bring back without the launcher pod"
			}
			lacks = append(lacks, fmt.Sprintf("the data of disk %s is not in backup %s: %s", disk.claim, v.backup.Name, why))
		}
	}
	return lacks, nil
}
