package consistency

import (
	"encoding/json"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"
	virtv1 "kubevirt.io/api/core/v1"
)

// Facts are what was seen of one VM while it was backed up.
type Facts struct {
	// Snapshots tells whether the backup takes any.
	Snapshots bool
	// Joined tells that the VM was seen to be put into an ItemBlock.
	Joined bool
	// Before is the VM's instance before Velero ran the hooks of its pods: nil when none of them was in an ItemBlock. After is
	// the same after the last snapshot, before the hooks that thaw: nil when the VM is off.
	Before, After *virtv1.VirtualMachineInstance
	// Agent is what the guest's agent said before the hooks; nil when it was not asked.
	Agent *virtv1.VirtualMachineInstanceGuestAgentInfo
	// Machine is the VM after the last snapshot; nil for an instance of its own.
	Machine   *virtv1.VirtualMachine
	Launchers []Launcher
	Disks     []Disk
	// Frozen is what the guest said after the last snapshot; NotAsked is why it was not asked or did not answer.
	Frozen   bool
	NotAsked error
	// MaxFreeze is how long the guest may stay frozen; then the plugin thaws it. 0 when the plugin does not.
	MaxFreeze time.Duration
	// Window is the time from the first snapshot's request to the end of the last, in which the guest had to stay frozen.
	Window time.Duration
	// Group is the group of VMs that the VM is frozen together with, "" without one; Together tells that all disks of the ItemBlock were cut while all of
	// its guests were frozen.
	Group    string
	Together bool
	// Unseen are the reads that failed.
	Unseen []error
}

// A Launcher is a virt-launcher pod that was in the ItemBlock.
type Launcher struct {
	Before, After *corev1.Pod // After is nil when it is gone
}

// A Disk is a PVC of the VM.
type Disk struct {
	Name string
	// Snapshotted tells that the backup has its VolumeSnapshot, or the order to a data mover.
	Snapshotted bool
	// Files tells that Velero copies the disk's files from the launcher pod.
	Files bool
	// Outside tells that the snapshot was or may have been taken before the guest was frozen, or after it was thawed.
	Outside bool
}

// Judge returns the verdict on one VM. "filesystem" needs every one of these to have been seen: the VM's launcher pod was in its
// ItemBlock, with virt-freezer as the hook that Velero runs before the first item; each disk was snapshotted after that; and after
// the last snapshot the guest itself said that it was frozen. A hook that went well is no proof: virt-freezer succeeds without a
// guest agent and for a paused guest (KubeVirt 1.9.0, cmd/virt-freezer/virt-freezer.go); and Velero backs up a pod whose hook failed as
// if it had not, unless the pod says on-error: Fail (Velero 1.18.1, internal/hook/item_hook_handler.go, HandleHooks). Nor is a
// guest that is frozen afterwards one that was frozen all the time, if it was paused, migrated or restarted meanwhile.
func Judge(f Facts) Verdict {
	var v Verdict
	running := f.After != nil && !f.After.IsFinal()
	switch {
	case running:
		v.Level = Crash
	case f.Before != nil && !f.Before.IsFinal():
		v.Level = Crash
		v.add(Stopping, "it ran when its pods were about to be backed up")
	default:
		v.Level = Offline
	}
	for _, err := range f.Unseen {
		v.Level = Crash
		v.add(NotObserved, err.Error())
	}
	v.judgeDisks(f)
	if running && f.Snapshots {
		v.judgeGuest(f)
		v.judgeHooks(f)
		v.judgeFreeze(f)
		if v.Good() {
			v.Level = Filesystem
		}
		if f.Group != "" && !f.Together {
			v.add(NotTogether, f.Group)
		}
	}
	v.sort()
	return v
}

// MayBeFrozen tells whether nothing that is known so far speaks against the guest being frozen, so that it is worth asking.
func (f Facts) MayBeFrozen() bool {
	var v Verdict
	if f.After == nil || f.After.IsFinal() || len(f.Unseen) > 0 {
		return false
	}
	v.judgeGuest(f)
	v.judgeHooks(f)
	return v.Good()
}

func (v *Verdict) judgeFreeze(f Facts) {
	switch {
	case !f.MayBeFrozen():
	case f.NotAsked != nil:
		v.add(NotObserved, f.NotAsked.Error())
	case !f.Frozen && !hasCommand(f.Agent, freezeCommand):
		v.add(FreezeUnsupported, freezeCommand)
	case !f.Frozen:
		v.add(HookFailed, "the guest was not frozen after the last snapshot")
	}
}

func (v *Verdict) add(reason Reason, detail string, disks ...string) {
	v.Findings = append(v.Findings, Finding{Reason: reason, Detail: detail, Disks: disks})
}

func (v *Verdict) judgeDisks(f Facts) {
	var files, missing, outside []string
	for _, disk := range f.Disks {
		switch {
		case disk.Files:
			files = append(files, disk.Name)
		case !f.Snapshots: // then none is missing
		case !disk.Snapshotted:
			missing = append(missing, disk.Name)
		case disk.Outside && v.Level != Offline:
			outside = append(outside, disk.Name)
		}
	}
	for _, found := range []struct {
		reason Reason
		disks  []string
	}{{FileSystemBackup, files}, {DiskNotSnapshotted, missing}, {DiskOutsideWindow, outside}} {
		if len(found.disks) > 0 {
			v.add(found.reason, "", found.disks...)
		}
	}
	if !f.Snapshots {
		v.add(SnapshotDisabled, "")
	}
}

// judgeGuest compares the running guest with what it was before the hooks.
func (v *Verdict) judgeGuest(f Facts) {
	after, before := f.After, f.Before
	if before == nil {
		before = after
	}
	if after.DeletionTimestamp != nil {
		v.add(Stopping, "its instance is being deleted")
	}
	if before.UID != after.UID {
		v.add(Stopping, "it was restarted")
	}
	if before.Status.Phase != virtv1.Running || after.Status.Phase != virtv1.Running {
		v.add(Starting, "its instance was "+string(before.Status.Phase)+", then "+string(after.Status.Phase))
		return
	}
	if migrating(before) || migrating(after) || before.Status.NodeName != after.Status.NodeName {
		v.add(Migrating, "")
	}
	if paused(before) || paused(after) || pausedBetween(f.Launchers) {
		v.add(Paused, "")
	}
	if f.Machine != nil && f.Machine.Status.SnapshotInProgress != nil {
		v.add(SnapshotInProgress, *f.Machine.Status.SnapshotInProgress)
	}
	if f.Before != nil {
		v.judgeAgent(f)
		if limit := longestFreeze(f); f.Window >= limit {
			v.add(WindowTooLong, fmt.Sprintf("%s, the guest stays frozen for %s at most", f.Window.Round(100*time.Millisecond), limit))
		}
	}
}

// judgeAgent rules out that virt-freezer met no agent. It asks the launcher for the agent's version, which the launcher has
// from the agent's first answer on.
func (v *Verdict) judgeAgent(f Facts) {
	before, after := condition(f.Before, virtv1.VirtualMachineInstanceAgentConnected), condition(f.After, virtv1.VirtualMachineInstanceAgentConnected)
	switch {
	case before == nil:
		v.add(NoGuestAgent, "")
	case after == nil || !before.LastProbeTime.Equal(&after.LastProbeTime):
		v.add(NoGuestAgent, "it was disconnected meanwhile")
	case f.Agent == nil:
		// The read failed and is among the unseen.
	case f.Agent.GAVersion == "":
		v.add(NoGuestAgent, "it has not told its version yet")
	default:
		for _, command := range []string{"guest-fsfreeze-status", "guest-fsfreeze-thaw"} {
			if !hasCommand(f.Agent, command) {
				v.add(FreezeUnsupported, command)
			}
		}
	}
}

// freezeCommand is what freezes a guest. That the agent does not offer it tells nothing by itself: a frozen guest never does (QEMU 10.0,
// qga/main.c, ga_freeze_allowlist), and KubeVirt asks for the list only every 5 min (KubeVirt 1.8.4, cmd/virt-launcher/virt-launcher.go), maybe while an
// earlier backup had the guest frozen.
const freezeCommand = "guest-fsfreeze-freeze"

func hasCommand(agent *virtv1.VirtualMachineInstanceGuestAgentInfo, command string) bool {
	return agent != nil && slices.ContainsFunc(agent.SupportedCommands, func(info virtv1.GuestAgentCommandInfo) bool { return info.Name == command && info.Enabled })
}

// whileFrozen are the commands that the agent of a frozen guest offers (QEMU 10.0, qga/main.c, ga_freeze_allowlist).
var whileFrozen = []string{"guest-ping", "guest-info", "guest-sync", "guest-sync-delimited", "guest-fsfreeze-status", "guest-fsfreeze-thaw"}

// OffersFreeze tells whether an agent says that its guest can be frozen. A list of commands that is as short as that of a frozen guest was made
// while the guest was frozen, so that it can be.
func OffersFreeze(agent *virtv1.VirtualMachineInstanceGuestAgentInfo) bool {
	if agent == nil || hasCommand(agent, freezeCommand) {
		return agent != nil
	}
	return !slices.ContainsFunc(agent.SupportedCommands, func(info virtv1.GuestAgentCommandInfo) bool {
		return info.Enabled && !slices.Contains(whileFrozen, info.Name)
	})
}

func (v *Verdict) judgeHooks(f Facts) {
	switch {
	case !f.Joined:
		v.add(NotObserved, "the plugin did not see the VM join an ItemBlock: Velero restarted the plugin, or another item brought the VM into the backup")
	case len(f.Launchers) == 0:
		v.add(PodNotInBackup, "")
	}
	for _, launcher := range f.Launchers {
		name := launcher.Before.Name
		if _, hooked := freezeHook(launcher.Before); !hooked {
			v.add(HooksDisabled, name)
		}
	}
}

// condition returns an instance's condition when it is true. AgentConnected is removed when the agent disconnects and made anew
// when it connects again (KubeVirt 1.9.0, pkg/virt-handler/vm.go, updateGuestAgentConditions), so that its time tells whether it
// was there all along.
func condition(vmi *virtv1.VirtualMachineInstance, kind virtv1.VirtualMachineInstanceConditionType) *virtv1.VirtualMachineInstanceCondition {
	for i := range vmi.Status.Conditions {
		if c := &vmi.Status.Conditions[i]; c.Type == kind && c.Status == corev1.ConditionTrue {
			return c
		}
	}
	return nil
}

// HasAgent tells whether a guest's agent is connected.
func HasAgent(vmi *virtv1.VirtualMachineInstance) bool {
	return condition(vmi, virtv1.VirtualMachineInstanceAgentConnected) != nil
}

func paused(vmi *virtv1.VirtualMachineInstance) bool {
	return condition(vmi, virtv1.VirtualMachineInstancePaused) != nil
}

// pausedBetween tells whether a guest was paused and unpaused again: the instance does not remember, its launcher pod does
// (KubeVirt 1.9.0, pkg/virt-controller/watch/vmi, syncPausedConditionToPod).
func pausedBetween(launchers []Launcher) bool {
	since := func(pod *corev1.Pod) string {
		for i := range pod.Status.Conditions {
			if c := &pod.Status.Conditions[i]; c.Type == virtv1.VirtualMachineUnpaused {
				return string(c.Status) + c.LastTransitionTime.String()
			}
		}
		return ""
	}
	return slices.ContainsFunc(launchers, func(l Launcher) bool { return l.After != nil && since(l.Before) != since(l.After) })
}

func migrating(vmi *virtv1.VirtualMachineInstance) bool {
	state := vmi.Status.MigrationState
	return state != nil && !state.Completed && !state.Failed
}

// IsWindows tells whether a guest runs Windows, as its agent says.
func IsWindows(vmi *virtv1.VirtualMachineInstance) bool {
	return vmi.Status.GuestOSInfo.ID == "mswindows"
}

// windowsFreezeLimit is how long Windows holds its writers in a freeze (VSS).
const windowsFreezeLimit = 10 * time.Second

// longestFreeze returns how long the guest stays frozen at most: then virt-freezer's timer thaws it, or Windows itself.
func longestFreeze(f Facts) time.Duration {
	limit := freezerTimeout
	if IsWindows(f.After) {
		limit = windowsFreezeLimit
	}
	for _, launcher := range f.Launchers {
		command, _ := freezeHook(launcher.Before)
		limit = min(limit, timeoutOf(command))
	}
	if f.MaxFreeze > 0 {
		limit = min(limit, f.MaxFreeze)
	}
	return limit
}

// hookCommand is Velero's annotation of a pod with a hook (Velero 1.18.1, internal/hook/item_hook_handler.go).
const hookCommand = "pre.hook.backup.velero.io/command"

// freezeHook returns the hook of a launcher pod that freezes its guest.
func freezeHook(pod *corev1.Pod) ([]string, bool) {
	var command []string
	if err := json.Unmarshal([]byte(pod.Annotations[hookCommand]), &command); err != nil || len(command) == 0 {
		return nil, false
	}
	return command, strings.HasSuffix(command[0], "virt-freezer") && slices.Contains(command, "--freeze")
}

// ThawHook returns the command by which Velero thaws the guest of a launcher pod after the snapshots, and its container; nothing for a pod without it.
// A hook that is not KubeVirt's is somebody's who may annotate a VM: that is between them and Velero.
func ThawHook(pod *corev1.Pod) (container string, command []string) {
	const prefix = "post.hook.backup.velero.io/"
	if err := json.Unmarshal([]byte(pod.Annotations[prefix+"command"]), &command); err != nil || len(command) == 0 {
		return "", nil
	}
	if !strings.HasSuffix(command[0], "/virt-freezer") || !slices.Contains(command, "--unfreeze") {
		return "", nil
	}
	return pod.Annotations[prefix+"container"], command
}

// freezerTimeout is after how long a guest thaws by itself unless its hook says otherwise (KubeVirt 1.9.0,
// cmd/virt-freezer/virt-freezer.go).
const freezerTimeout = 300 * time.Second

func timeoutOf(command []string) time.Duration {
	const flag = "--unfreezeTimeoutSeconds"
	for n, argument := range command {
		value, joined := strings.CutPrefix(argument, flag+"=")
		if argument == flag && n+1 < len(command) {
			value, joined = command[n+1], true
		}
		if seconds, err := strconv.Atoi(value); joined && err == nil && seconds > 0 {
			return time.Duration(seconds) * time.Second
		}
	}
	return freezerTimeout
}
