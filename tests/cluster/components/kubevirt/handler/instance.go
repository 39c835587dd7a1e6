package main

import (
	"context"
	"fmt"
	"slices"
	"time"

	k8sv1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	v1 "kubevirt.io/api/core/v1"
)

// Annotations on an instance by which a test says how its guest behaves.
const (
	freezeErrorAnnotation = "fake.guest/freeze-error" // freezing fails with this text
	agentAnnotation       = "fake.guest/agent"        // "false": no guest agent runs; or one of the next two
	noFreeze              = "no-fsfreeze"             // an agent that cannot freeze
	windows               = "windows"                 // an agent of Windows
	holdAnnotation        = "fake.guest/hold"         // "true": the guest does not boot
	crashAnnotation       = "fake.guest/crash"        // "true": the launcher gives up before the guest runs
	migrationAnnotation   = "fake.guest/migration"    // "fail" or "hold"
)

// play changes an instance as virt-handler would, and says when to look again.
func (h *handler) play(ctx context.Context, vmi *v1.VirtualMachineInstance, g *guest) (again time.Duration, err error) {
	booted := vmi.Status.Phase == v1.Running
	switch {
	case vmi.DeletionTimestamp != nil && (booted || vmi.Status.Phase == v1.Scheduled):
		enterPhase(vmi, v1.Succeeded) // the guest shut down
		dropCondition(vmi, v1.VirtualMachineInstanceAgentConnected)
		return 0, nil
	case vmi.Status.Phase == v1.Scheduled:
		return h.boot(vmi), nil
	case booted:
		attachVolumes(vmi)
		showAgent(vmi)
		return showGuest(vmi, g), h.migrate(ctx, vmi)
	}
	return 0, nil
}

// boot lets a guest boot, or fail to, when its time has come.
func (h *handler) boot(vmi *v1.VirtualMachineInstance) (again time.Duration) {
	if vmi.Annotations[holdAnnotation] == "true" {
		return 0
	}
	for _, transition := range vmi.Status.PhaseTransitionTimestamps {
		if transition.Phase != v1.Scheduled {
			continue
		}
		// The timestamp has no fractions of a second.
		if left := h.bootDelay - time.Since(transition.PhaseTransitionTimestamp.Time); left > 0 {
			return left
		}
	}
	if vmi.Annotations[crashAnnotation] == "true" {
		// What virt-handler makes of a launcher that is gone (KubeVirt v1.8.4, pkg/virt-handler/vm.go,
		// calculateVmPhaseForStatusReason). An instance that ends without ever having been Running counts as a failed start, and
		// its VM as crash-looping (pkg/virt-controller/watch/vm/vm.go, vmiFailedEarly).
		enterPhase(vmi, v1.Failed)
		return 0
	}
	enterPhase(vmi, v1.Running)
	setCondition(vmi, migratable(vmi))
	setCondition(vmi, v1.VirtualMachineInstanceCondition{Type: v1.VirtualMachineInstanceIsStorageLiveMigratable, Status: k8sv1.ConditionTrue})
	// Without it, virt-controller silently makes neither pods for hotplugged volumes nor targets of migrations
	// (KubeVirt v1.8.4, pkg/virt-controller/services/template.go and watch/migration/migration.go).
	vmi.Status.SelinuxContext = "none"
	vmi.Status.Machine = &v1.Machine{Type: "pc-q35-rhel9.6.0"}
	showAgent(vmi)
	attachVolumes(vmi)
	return 0
}

// migratable looks at the volumes only, as KubeVirt v1.8.4 does in pkg/virt-handler/vm.go, checkVolumesForMigration.
func migratable(vmi *v1.VirtualMachineInstance) v1.VirtualMachineInstanceCondition {
	shared := map[string]bool{}
	for _, status := range vmi.Status.VolumeStatus {
		info := status.PersistentVolumeClaimInfo
		shared[status.Name] = info != nil && slices.Contains(info.AccessModes, k8sv1.ReadWriteMany)
	}
	for _, volume := range vmi.Spec.Volumes {
		if (volume.PersistentVolumeClaim != nil || volume.DataVolume != nil) && !shared[volume.Name] {
			return v1.VirtualMachineInstanceCondition{
				Type: v1.VirtualMachineInstanceIsMigratable, Status: k8sv1.ConditionFalse,
				Reason:  v1.VirtualMachineInstanceReasonDisksNotMigratable,
				Message: fmt.Sprintf("cannot migrate VMI: volume %s is not shared, live migration requires that all PVCs must be shared (using ReadWriteMany access mode)", volume.Name),
			}
		}
	}
	return v1.VirtualMachineInstanceCondition{Type: v1.VirtualMachineInstanceIsMigratable, Status: k8sv1.ConditionTrue}
}

func hasAgent(vmi *v1.VirtualMachineInstance) bool {
	return vmi.Annotations[agentAnnotation] != "false"
}

// showAgent shows whether the guest's agent answers, and what it says about the guest.
func showAgent(vmi *v1.VirtualMachineInstance) {
	if !hasAgent(vmi) {
		dropCondition(vmi, v1.VirtualMachineInstanceAgentConnected)
		vmi.Status.GuestOSInfo = v1.VirtualMachineInstanceGuestOSInfo{}
		return
	}
	setCondition(vmi, v1.VirtualMachineInstanceCondition{Type: v1.VirtualMachineInstanceAgentConnected, Status: k8sv1.ConditionTrue})
	vmi.Status.GuestOSInfo = guestOS
	if vmi.Annotations[agentAnnotation] == windows {
		vmi.Status.GuestOSInfo = v1.VirtualMachineInstanceGuestOSInfo{Name: "Microsoft Windows", ID: "mswindows", PrettyName: "Windows Server (played)"}
	}
}

var guestOS = v1.VirtualMachineInstanceGuestOSInfo{
	Name: "Fedora Linux", ID: "fedora", PrettyName: "Fedora Linux 42 (played)", Version: "42", VersionID: "42", KernelRelease: "6.14.0",
}

// showGuest shows whether the guest is paused and frozen, the second with a lag.
func showGuest(vmi *v1.VirtualMachineInstance, g *guest) (again time.Duration) {
	frozen, paused, again := g.shown()
	vmi.Status.FSFreezeStatus = ""
	if frozen {
		vmi.Status.FSFreezeStatus = "frozen"
	}
	if paused {
		setCondition(vmi, v1.VirtualMachineInstanceCondition{
			Type: v1.VirtualMachineInstancePaused, Status: k8sv1.ConditionTrue, Reason: "PausedByUser", Message: "VMI was paused by user",
		})
	} else {
		dropCondition(vmi, v1.VirtualMachineInstancePaused)
	}
	return again
}

func enterPhase(vmi *v1.VirtualMachineInstance, phase v1.VirtualMachineInstancePhase) {
	vmi.Status.Phase = phase
	vmi.Status.PhaseTransitionTimestamps = append(vmi.Status.PhaseTransitionTimestamps,
		v1.VirtualMachineInstancePhaseTransitionTimestamp{Phase: phase, PhaseTransitionTimestamp: metav1.Now()})
}

// setCondition adds a condition, or replaces the one of its type if it says something else.
func setCondition(vmi *v1.VirtualMachineInstance, condition v1.VirtualMachineInstanceCondition) {
	condition.LastTransitionTime = metav1.Now()
	for i, present := range vmi.Status.Conditions {
		if present.Type == condition.Type {
			if present.Status != condition.Status || present.Reason != condition.Reason {
				vmi.Status.Conditions[i] = condition
			}
			return
		}
	}
	vmi.Status.Conditions = append(vmi.Status.Conditions, condition)
}

func dropCondition(vmi *v1.VirtualMachineInstance, kind v1.VirtualMachineInstanceConditionType) {
	vmi.Status.Conditions = slices.DeleteFunc(vmi.Status.Conditions, func(c v1.VirtualMachineInstanceCondition) bool { return c.Type == kind })
}
