//go:build guest && linux

package guest

import (
	"context"
	"fmt"
	"testing"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/types"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"velero-plugin-for-kubevirt/pkg/consistency"
)

// hotplug adds a disk to a running VM's spec: KubeVirt attaches it. On the other bus there is no slot left.
const hotplug = `[
  {"op": "add", "path": "/spec/template/spec/domain/devices/disks/-", "value": {"name": "hot", "disk": {"bus": "scsi"}}},
  {"op": "add", "path": "/spec/template/spec/volumes/-", "value": {"name": "hot", "persistentVolumeClaim": {"claimName": "%s", "hotpluggable": true}}}
]`

// TestAHotpluggedDiskIsFrozenToo attaches a third disk to a running guest, which writes to it.
func TestAHotpluggedDiskIsFrozenToo(t *testing.T) {
	vm := VM{"hotplug", "web"}
	boots(t, vm)
	claim := vm.Name + "-hot"
	if err := site.apply(t.Context(), fmt.Sprintf(claimYAML, vm.Namespace, claim, corev1.PersistentVolumeFilesystem, 64<<20)); err != nil {
		t.Fatal(err)
	}
	machine := vm.object("VirtualMachine")
	if err := site.Patch(t.Context(), machine, client.RawPatch(types.JSONPatchType, fmt.Appendf(nil, hotplug, claim))); err != nil {
		t.Fatal(err)
	}
	awaitHotplugged(t, vm)
	if err := site.InGuest(t.Context(), vm, "mkfs.ext4 -q /dev/sda && mkdir /run/hot && mount /dev/sda /run/hot && while :; do date >> /run/hot/dates; sync /run/hot/dates; done"); err != nil {
		t.Fatal(err)
	}
	disk, err := site.Cluster.Bytes(t.Context(), vm.Namespace, claim)
	if err != nil {
		t.Fatal(err)
	}
	if err := await(t.Context(), patience, "the guest to write to the hotplugged disk", func() (bool, error) {
		mounted, err := needsRecovery(disk)
		return err == nil && mounted, nil //nolint:nilerr // no file system yet
	}); err != nil {
		t.Fatal(err)
	}

	report, truth := backup(t, vm, "--include-namespaces", vm.Namespace)
	wentWell(t, report.Report)
	if level, reason, window := verdict(report, vm); level != string(consistency.Filesystem) || !truth.Consistent() {
		t.Errorf("the verdict is %q, %q, and the snapshots hold %+v", level, reason, truth)
	} else {
		t.Logf("three disks, window %s", window)
	}
	snapshots, err := site.Snapshots(report)
	if err != nil {
		t.Fatal(err)
	}
	if recovery, err := needsRecovery(snapshots[claim].Path); err != nil || recovery {
		t.Errorf("the hotplugged disk was not frozen: %t, %v", recovery, err)
	}
	if out, err := run(t.Context(), "e2fsck", "-f", "-n", snapshots[claim].Path); err != nil {
		t.Errorf("%v: %s", err, out)
	}

	comesBack(t, vm, report)
	awaitHotplugged(t, vm)
}

// awaitHotplugged waits until KubeVirt has attached the third disk.
func awaitHotplugged(t *testing.T, vm VM) {
	t.Helper()
	instance := vm.object("VirtualMachineInstance")
	phase := ""
	if err := await(t.Context(), patience, "the disk to be attached", func() (bool, error) {
		err := site.Get(context.WithoutCancel(t.Context()), client.ObjectKeyFromObject(instance), instance)
		volumes, _, _ := unstructured.NestedSlice(instance.Object, "status", "volumeStatus")
		for _, item := range volumes {
			if volume, _ := item.(map[string]any); volume["name"] == "hot" {
				phase, _ = volume["phase"].(string)
			}
		}
		return phase == "Ready", client.IgnoreNotFound(err)
	}); err != nil {
		t.Fatalf("%v: it is %q", err, phase)
	}
}
