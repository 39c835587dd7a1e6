package backup

import (
	"maps"
	"slices"
	"time"

	"velero-plugin-for-kubevirt/pkg/consistency"
	"velero-plugin-for-kubevirt/pkg/kubevirt"
)

// A forecastBlock are the VMs of one ItemBlock: those that share a disk, directly or through others, or are frozen together.
type forecastBlock struct{ vms []*forecastVM }

// chooses has a backup take all VMs of an ItemBlock, or none.
func (b *forecastBlock) chooses() {
	chosen := slices.ContainsFunc(b.vms, func(vm *forecastVM) bool { return vm.selected })
	for _, vm := range b.vms {
		vm.Taken = vm.Taken && chosen || vm.Err != nil
	}
}

// freezes finds how long guests would have to stay frozen, until the last snapshot of their ItemBlock, and whether all of them would be frozen then.
func (b *forecastBlock) freezes(server Server) {
	window := b.window(server)
	for _, vm := range b.vms {
		vm.Facts.Window = window
	}
	together := b.isTogether()
	for _, vm := range b.vms {
		vm.Facts.Together = together
	}
}

// window is from the first snapshot to the last. Velero snapshots one disk after the other, or one group, and waits before it looks again whether a snapshot is
// cut: for the last one it need not wait.
func (b *forecastBlock) window(server Server) time.Duration {
	snapshots := map[string]bool{}
	for _, vm := range b.vms {
		for _, disk := range vm.Disks {
			switch {
			case !vm.Taken || disk.LeftOut != "" || disk.Cut:
			case disk.Group != "":
				snapshots["group "+disk.Group] = true
			default:
				snapshots[disk.String()] = true
			}
		}
	}
	return time.Duration(max(len(snapshots)-1, 0)) * server.Poll
}

// isTogether tells whether there is something to cut, and all guests would be frozen meanwhile. The window must be known.
func (b *forecastBlock) isTogether() bool {
	return slices.ContainsFunc(b.vms, (*forecastVM).hasSnapshot) &&
		!slices.ContainsFunc(b.vms, func(vm *forecastVM) bool { return vm.Taken && !vm.isOfOneMoment() })
}

// hasSnapshot tells whether a disk of a VM would be snapshotted, by the plugin or by Velero.
func (vm *forecastVM) hasSnapshot() bool {
	return vm.Taken && slices.ContainsFunc(vm.Disks, func(disk Disk) bool { return disk.LeftOut == "" })
}

// isOfOneMoment tells whether a VM, if it runs, is frozen until all disks are cut that are to be.
func (vm *forecastVM) isOfOneMoment() bool {
	guest := vm.Facts
	guest.Disks, guest.Group = nil, ""
	return vm.Err == nil && consistency.Judge(guest).Good() && !slices.ContainsFunc(vm.Disks, func(disk Disk) bool { return !disk.isCut() }) &&
		!slices.ContainsFunc(vm.Facts.Disks, func(disk consistency.Disk) bool { return disk.Files })
}

// blocksOf returns the ItemBlocks of VMs.
func blocksOf(vms []*forecastVM) []*forecastBlock {
	blocks, byMember := map[*forecastBlock]bool{}, map[kubevirt.ID]*forecastBlock{}
	for _, vm := range vms {
		block := &forecastBlock{[]*forecastVM{vm}}
		for _, id := range vm.inBlock() {
			if other := byMember[id]; other != nil && other != block {
				block.vms = append(block.vms, other.vms...)
				delete(blocks, other)
				for _, member := range other.vms {
					for _, shared := range member.inBlock() {
						byMember[shared] = block
					}
				}
			}
			byMember[id] = block
		}
		blocks[block] = true
	}
	return slices.Collect(maps.Keys(blocks))
}
