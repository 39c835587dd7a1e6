package main

import (
	"fmt"

	v1 "kubevirt.io/api/core/v1"
)

// attachVolumes gives every volume its place in the guest, and takes hotplugged ones away that left the instance's spec.
func attachVolumes(vmi *v1.VirtualMachineInstance) {
	wanted := map[string]bool{}
	for _, volume := range vmi.Spec.Volumes {
		wanted[volume.Name] = true
	}
	taken := map[string]bool{}
	for _, status := range vmi.Status.VolumeStatus {
		taken[status.Target] = true
	}
	for i := range vmi.Status.VolumeStatus {
		status := &vmi.Status.VolumeStatus[i]
		switch {
		case status.HotplugVolume == nil:
			if status.Target == "" {
				status.Target = freeTarget("vd", taken)
			}
		case wanted[status.Name] && status.Phase == v1.HotplugVolumeAttachedToNode:
			status.Target = freeTarget("sd", taken)
			status.Phase, status.Reason = v1.VolumeReady, "VolumeReady"
			status.Message = fmt.Sprintf("Successfully attach hotplugged volume %s to VM", status.Name)
		case !wanted[status.Name] && isAttached(status.Phase):
			status.Target = ""
			status.Phase, status.Reason = v1.HotplugVolumeUnMounted, "VolumeUnMountedFromPod"
			status.Message = fmt.Sprintf("Volume %s has been unmounted from virt-launcher pod", status.Name)
		}
	}
}

func isAttached(phase v1.VolumePhase) bool {
	switch phase {
	case v1.VolumeReady, v1.HotplugVolumeMounted, v1.HotplugVolumeAttachedToNode, v1.HotplugVolumeDetaching:
		return true
	}
	return false
}

// freeTarget takes the next device name.
func freeTarget(prefix string, taken map[string]bool) string {
	for letter := 'a'; ; letter++ {
		if name := prefix + string(letter); !taken[name] {
			taken[name] = true
			return name
		}
	}
}
