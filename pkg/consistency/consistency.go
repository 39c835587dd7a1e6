// Package consistency judges how consistent the disks of a backed-up VM are with each other, from what was seen while they
// were being snapshotted. It claims nothing that was not seen.
package consistency

import (
	"slices"
	"strings"
)

// A Level is how consistent the disks of a VM are with each other.
type Level string

// The levels, best first.
const (
	Offline    Level = "offline"    // the VM was stopped: nothing wrote to its disks
	Filesystem Level = "filesystem" // the guest was frozen while every disk was snapshotted
	Crash      Level = "crash"      // the VM ran and was not seen to be frozen: as after a power failure, and each disk at its own moment
)

// A Reason is why a VM is not at the best level, or that a disk has no snapshot.
type Reason string

// The reasons. The list is closed; README documents it.
const (
	FileSystemBackup   Reason = "FileSystemBackup"
	SnapshotDisabled   Reason = "SnapshotDisabled"
	DiskNotSnapshotted Reason = "DiskNotSnapshotted"
	DiskOutsideWindow  Reason = "DiskOutsideWindow"
	Starting           Reason = "Starting"
	Stopping           Reason = "Stopping"
	PodNotInBackup     Reason = "PodNotInBackup"
	Migrating          Reason = "Migrating"
	Paused             Reason = "Paused"
	HooksDisabled      Reason = "HooksDisabled"
	NoGuestAgent       Reason = "NoGuestAgent"
	FreezeUnsupported  Reason = "FreezeUnsupported"
	HookFailed         Reason = "HookFailed"
	SnapshotInProgress Reason = "SnapshotInProgress"
	WindowTooLong      Reason = "WindowTooLong"
	NotTogether        Reason = "NotTogether"
	NotObserved        Reason = "NotObserved"
)

// Reasons explains each reason and what to do about it. When there are several, the first of this list is the one that the
// backup names; all of them are in its message.
var Reasons = []struct {
	Reason Reason
	Means  string
	Remedy string
}{
	{FileSystemBackup, "Velero copies files of the launcher pod's disk, which is not restored: the disk cannot come back", "use CSI snapshots, with or without data mover"},
	{SnapshotDisabled, "the backup takes no snapshots", "leave out --snapshot-volumes=false"},
	{DiskNotSnapshotted, "the backup has no CSI snapshot of a disk: its class has no VolumeSnapshotClass, a policy or filter leaves it out, or the snapshot failed", "see Velero's own lines about the PVC"},
	{Migrating, "the VM was migrating: KubeVirt freezes no guest then", "back up again afterwards"},
	{Paused, "the VM was paused: what its guest holds in memory was not flushed", "unpause it"},
	{Starting, "the guest had not booted yet", "back up again afterwards"},
	{Stopping, "the VM was stopped or restarted while it was backed up", "back up again afterwards"},
	{PodNotInBackup, "the backup leaves out the virt-launcher pod, whose hooks freeze the guest", "include pods"},
	{HooksDisabled, "the virt-launcher pod has no hook that freezes the guest", "remove the annotation kubevirt.io/skip-backup-hooks"},
	{NoGuestAgent, "no guest agent was connected all the time", "install qemu-guest-agent in the guest"},
	{FreezeUnsupported, "the guest agent does not offer the fsfreeze commands", "allow guest-fsfreeze-* in the agent's configuration"},
	{HookFailed, "the hook that freezes the guest failed", "see Velero's error about the hook"},
	{SnapshotInProgress, "a VirtualMachineSnapshot of the VM was being taken, which thaws the guest when it is done", "do not snapshot a VM while it is backed up"},
	{WindowTooLong, "the snapshots took longer than the guest stays frozen", "let a volume policy give the disks to this plugin, or set velero.kubevirt.io/max-freeze"},
	{DiskOutsideWindow, "a disk was snapshotted before the guest was frozen, or may have been, or after it was thawed", "back up what shares the disk together with the VM; see Velero's own lines about the PVC"},
	{NotTogether, "not all VMs of the group were frozen while the disks of all were snapshotted", "see what the other VMs of the group say; let a volume policy give the disks to this plugin"},
	{NotObserved, "the plugin could not see what happened", "see the message; a restarted plugin forgets"},
}

// A Finding is one thing that speaks against consistency.
type Finding struct {
	Reason Reason
	Detail string   // what was seen; may be empty
	Disks  []string // the PVCs concerned; empty for all
}

// String says the finding in one line.
func (f Finding) String() string {
	text := string(f.Reason)
	if f.Detail != "" {
		text += ": " + f.Detail
	}
	if len(f.Disks) > 0 {
		text += " (" + strings.Join(f.Disks, ", ") + ")"
	}
	return text
}

// A Verdict is how consistent a VM's disks are.
type Verdict struct {
	Level    Level
	Findings []Finding // in the order of Reasons
}

// Reason returns the first finding's reason, "" without any.
func (v Verdict) Reason() Reason {
	if len(v.Findings) == 0 {
		return ""
	}
	return v.Findings[0].Reason
}

// Good tells whether the VM is at the best level and every disk has a snapshot.
func (v Verdict) Good() bool { return len(v.Findings) == 0 }

// Message says all findings in one line.
func (v Verdict) Message() string {
	var findings []string
	for _, finding := range v.Findings {
		findings = append(findings, finding.String())
	}
	return strings.Join(findings, "; ")
}

func (v *Verdict) sort() {
	rank := func(reason Reason) int {
		for n := range Reasons {
			if Reasons[n].Reason == reason {
				return n
			}
		}
		return len(Reasons)
	}
	slices.SortStableFunc(v.Findings, func(a, b Finding) int { return rank(a.Reason) - rank(b.Reason) })
}
