//go:build guest && linux

package guest

import (
	"context"
	"fmt"
	"testing"
	"time"

	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
)

// withFirmware lets a VM boot by EFI from a disk of its own, with a TPM, both of which keep their state.
func withFirmware(vm VM) func(obj map[string]any) error {
	return func(obj map[string]any) error {
		spec := []string{"spec", "template", "spec"}
		set := func(value any, fields ...string) error {
			return unstructured.SetNestedField(obj, value, append(spec, fields...)...)
		}
		volumes, _, err := unstructured.NestedSlice(obj, append(spec, "volumes")...)
		if err != nil {
			return err
		}
		disks, _, err := unstructured.NestedSlice(obj, append(spec, "domain", "devices", "disks")...)
		if err != nil {
			return err
		}
		for _, disk := range disks {
			delete(disk.(map[string]any), "bootOrder")
		}
		for _, err := range []error{
			set(append(volumes, map[string]any{"name": "boot", "persistentVolumeClaim": map[string]any{"claimName": vm.Name + "-boot"}}), "volumes"),
			set(append(disks, map[string]any{"name": "boot", "bootOrder": int64(1), "disk": map[string]any{"bus": "sata"}}), "domain", "devices", "disks"),
			set(map[string]any{"persistent": true}, "domain", "devices", "tpm"),
			set(map[string]any{"bootloader": map[string]any{"efi": map[string]any{"persistent": true, "secureBoot": false}}}, "domain", "firmware"),
			set("256Mi", "domain", "memory", "guest"),
		} {
			if err != nil {
				return err
			}
		}
		return nil
	}
}

const (
	efiVariable = "/sys/firmware/efi/efivars/Story-9f3b2a52-4a1c-4d3b-8f0e-5d7d5f6c1a10"
	// mountVariables shows the firmware's variables and names the TPM.
	mountVariables = "mount -t efivarfs efivarfs /sys/firmware/efi/efivars; export TPM2TOOLS_TCTI=device:/dev/tpm0; "
	// A variable begins with four bytes of attributes: kept, for the boot and for the running system.
	writeState = mountVariables + "printf '\\007\\000\\000\\000before' > " + efiVariable +
		"; tpm2_nvdefine 0x1500016 -C o -s 6 -a 'ownerread|ownerwrite'; printf before | tpm2_nvwrite 0x1500016 -C o -i -; "
	tellState = mountVariables + "echo \"guest 0: firmware $(cat " + efiVariable + " | tail -c +5) TPM $(tpm2_nvread 0x1500016 -C o -s 6)\" > /dev/ttyS0"
	told      = "firmware before TPM before"
)

// TestFirmwareAndTPMRemember writes a variable of the firmware and one of the TPM, and reads them in the restored guest.
func TestFirmwareAndTPMRemember(t *testing.T) {
	vm := VM{"sealed", "web"}
	t.Cleanup(func() {
		if err := site.LoseNamespace(context.WithoutCancel(t.Context()), vm.Namespace); err != nil {
			t.Error(err)
		}
	})
	for _, err := range []error{
		site.makeNamespace(t.Context(), vm),
		site.makeDisks(t.Context(), vm),
		site.makeDisk(t.Context(), vm, "boot", site.images.EFIDisk),
		site.apply(t.Context(), fmt.Sprintf(vmYAML, vm.Namespace, vm.Name), withFirmware(vm)),
	} {
		if err != nil {
			t.Fatal(err)
		}
	}
	runs(t, vm)
	tells(t, vm, writeState+tellState)

	report, truth := backup(t, vm, "--include-namespaces", vm.Namespace)
	wentWell(t, report.Report)
	if level, reason, window := verdict(report, vm); level != "filesystem" || !truth.Consistent() {
		t.Errorf("the verdict is %q, %q, and the snapshots hold %+v", level, reason, truth)
	} else {
		t.Logf("four disks, window %s", window)
	}
	comesBack(t, vm, report)
	tells(t, vm, tellState)
}

// tells runs a line of shell in the guest, after which its console must say what firmware and TPM remember.
func tells(t *testing.T, vm VM, line string) {
	t.Helper()
	if err := site.InGuest(t.Context(), vm, line); err != nil {
		t.Fatal(err)
	}
	said := ""
	if err := await(t.Context(), 2*time.Minute, "the guest to tell what firmware and TPM remember", func() (bool, error) {
		lines, err := site.Console(t.Context(), vm)
		for _, line := range lines {
			if line.Up == 0 {
				said = line.Text
			}
		}
		return said == told, err
	}); err != nil {
		t.Fatalf("%v: it says %q", err, said)
	}
}
