package rollback

import (
	"fmt"
	"slices"
	"strings"

	"velero-plugin-for-kubevirt/pkg/kubevirt"
	"velero-plugin-for-kubevirt/pkg/object"
)

// BackedUp is the VM as it is in a backup.
type BackedUp struct {
	Backup, Velero string // the Backup, and Velero's namespace
	VM             map[string]any
	Disks          []string // the claims that hold its disks
	Incomplete     []string // why a restore would not bring the whole VM
}

// Facts are what a rollback is decided from.
type Facts struct {
	VM        map[string]any // as it is now, nil when there is none
	BackedUp  BackedUp
	Disks     []Disk
	Revisions []map[string]any // the ControllerRevisions that the VM owns: its instancetype, its preference, its start
}

// A Disk is a claim that holds a disk of the VM, as it is now or as it is in the backup.
type Disk struct {
	Claim                    string
	Live, DataVolume, Volume map[string]any // nil when there is none
	InBackup                 bool
	Others                   []kubevirt.ID // who else names the claim
}

// What becomes of a disk.
const (
	Replaced = "set aside, restored from the backup"
	SetAside = "set aside, not in the backup"
	Restored = "restored from the backup"
	Left     = "left as it is: not in the backup, and not made by the VM"
)

// Fate says what becomes of a disk: the VM's own are set aside, and what the VM was only given is left alone unless the backup brings it.
func (d Disk) Fate(vm map[string]any) string {
	switch {
	case d.Live == nil:
		return Restored
	case d.InBackup:
		return Replaced
	case isOwnedBy(d.Live, vm) || isOwnedBy(d.DataVolume, vm):
		return SetAside
	}
	return Left
}

func isOwnedBy(obj, owner map[string]any) bool {
	ref := object.Owner(obj)
	return ref != nil && string(ref.UID) == object.UID(owner)
}

// Decide returns what a rollback does, as the record from which it is done, or why it must not be done: every reason, for people.
func Decide(f Facts) (*Record, []string) {
	refusals := slices.Concat(aboutVM(f), f.BackedUp.Incomplete)
	id := kubevirt.ID{GroupResource: kubevirt.VirtualMachines, Namespace: object.Namespace(f.VM), Name: object.Name(f.VM)}
	record := &Record{Backup: f.BackedUp.Backup, Velero: f.BackedUp.Velero, Label: object.Label(f.BackedUp.VM, kubevirt.VMLabel), Direction: Back, Restored: f.BackedUp.Disks}
	record.add(id, f.VM)
	for _, revision := range f.Revisions {
		record.add(kubevirt.ID{GroupResource: kubevirt.ControllerRevisions, Namespace: id.Namespace, Name: object.Name(revision)}, revision)
	}
	for _, disk := range f.Disks {
		for _, other := range disk.Others {
			refusals = append(refusals, fmt.Sprintf("PersistentVolumeClaim %s is a disk of %s, too: a rollback would take it away from there", disk.Claim, other))
		}
		if fate := disk.Fate(f.VM); fate != Replaced && fate != SetAside {
			continue
		}
		claim := kubevirt.ID{GroupResource: kubevirt.PersistentVolumeClaims, Namespace: id.Namespace, Name: disk.Claim}
		record.add(kubevirt.ID{GroupResource: kubevirt.DataVolumes, Namespace: id.Namespace, Name: disk.Claim}, disk.DataVolume)
		record.add(claim, disk.Live)
		if disk.Volume != nil {
			policy, err := object.String(disk.Volume, "spec.persistentVolumeReclaimPolicy")
			if err != nil {
				refusals = append(refusals, fmt.Sprintf("PersistentVolume %s: %v", object.Name(disk.Volume), err))
			}
			record.Volumes = append(record.Volumes, Volume{Name: object.Name(disk.Volume), Claim: disk.Claim, ClaimUID: object.UID(disk.Live), ReclaimPolicy: policy})
		}
	}
	if uid := object.UID(f.VM); len(uid) >= 8 {
		// A VM that is rolled back has another UID afterwards, so each rollback has a Restore of its own.
		record.Restore = "rollback-" + id.Name + "-" + uid[:8]
	}
	return record, refusals
}

// aboutVM returns what about the VM itself forbids a rollback.
func aboutVM(f Facts) []string {
	if f.VM == nil {
		return []string{"the VirtualMachine is not there, so there is nothing to roll back: restore it with velero restore create"}
	}
	var refusals []string
	refuse := func(format string, args ...any) { refusals = append(refusals, fmt.Sprintf(format, args...)) }
	metadata, _ := f.VM["metadata"].(map[string]any)
	if metadata["deletionTimestamp"] != nil {
		refuse("the VirtualMachine is being deleted")
	}
	if owner := object.Owner(f.VM); owner != nil {
		refuse("the VirtualMachine belongs to %s %s, which would make it anew", owner.Kind, owner.Name)
	}
	for field, what := range map[string]string{"snapshotInProgress": "snapshot", "restoreInProgress": "restore"} {
		if name, err := object.String(f.VM, "status."+field); err != nil || name != "" {
			refuse("KubeVirt's %s %s of the VirtualMachine is in progress: wait for its end", what, name)
		}
	}
	switch {
	case f.BackedUp.VM == nil:
		refuse("the VirtualMachine is not in backup %s", f.BackedUp.Backup)
	case object.Label(f.BackedUp.VM, kubevirt.VMLabel) == "":
		refuse("the VirtualMachine in backup %s has no label %s, by which it could be restored alone: the backup was made without this plugin, or with an older one",
			f.BackedUp.Backup, kubevirt.VMLabel)
	}
	return refusals
}

// add records an object that is there.
func (r *Record) add(id kubevirt.ID, obj map[string]any) {
	if obj == nil {
		return
	}
	if metadata, is := obj["metadata"].(map[string]any); is {
		delete(metadata, "managedFields") // the bulk of it
	}
	r.Objects = append(r.Objects, Object{ID: id, UID: object.UID(obj), Content: obj})
}

// isDisk tells whether the VM keeps data in a claim that a path names: not in the base of an ephemeral disk, nor in the memory that was dumped.
func isDisk(path string) bool {
	return !strings.Contains(path, ".ephemeral.") && !strings.Contains(path, "memoryDump")
}
