package rules

import (
	"net"
	"strings"

	"github.com/google/uuid"
	"k8s.io/apimachinery/pkg/runtime/schema"

	"velero-plugin-for-kubevirt/pkg/kubevirt"
	"velero-plugin-for-kubevirt/pkg/object"
	"velero-plugin-for-kubevirt/pkg/options"
)

// A Mark is one of the things that a guest is known by, in a form that can be compared.
type Mark struct {
	Part  Part
	Value string
}

// A Part is a kind of mark.
type Part string

// The parts of an identity.
const (
	MACAddress     Part = "MAC address"
	FirmwareSerial Part = "firmware serial"
	FirmwareUUID   Part = "firmware UUID"
)

// The places of the parts below a VMI's spec.
const (
	macAddresses   = ".domain.devices.interfaces[].macAddress"
	firmwareSerial = ".domain.firmware.serial"
	firmwareUUID   = ".domain.firmware.uuid"
)

func mark(part Part, value string) Mark {
	switch part {
	case MACAddress:
		if parsed, err := net.ParseMAC(value); err == nil {
			value = parsed.String()
		}
		return Mark{part, value}
	case FirmwareUUID:
		return Mark{part, strings.ToLower(value)}
	}
	return Mark{part, value}
}

// Marks returns what a guest of the given object is known by: what its spec says, the UUID that KubeVirt derives when a VM
// says none, and the MAC addresses that a running one has been given.
func Marks(resource schema.GroupResource, obj map[string]any) ([]Mark, error) {
	spec := kubevirt.VMISpec[resource]
	var marks []Mark
	for _, place := range []struct {
		part Part
		path string
	}{
		{MACAddress, spec + macAddresses},
		{FirmwareSerial, spec + firmwareSerial},
		{FirmwareUUID, spec + firmwareUUID},
	} {
		texts, err := object.Strings(obj, place.path)
		if err != nil {
			return nil, err
		}
		for _, text := range texts {
			marks = append(marks, mark(place.part, text.Value))
		}
		if place.part == FirmwareUUID && len(texts) == 0 && resource == kubevirt.VirtualMachines {
			marks = append(marks, mark(FirmwareUUID, legacyUUID(object.Name(obj))))
		}
	}
	given, err := givenMACs(obj)
	return append(marks, given...), err
}

// givenMACs returns those of a running VMI's interfaces that have a network's name; the guest agent reports others, such as
// the bridges of containers in the guest.
func givenMACs(obj map[string]any) ([]Mark, error) {
	interfaces, err := object.Find(obj, "status.interfaces[]")
	if err != nil {
		return nil, err
	}
	var marks []Mark
	for _, field := range interfaces {
		nic, _ := field.Value.(map[string]any)
		address, _ := nic["mac"].(string)
		if name, _ := nic["name"].(string); name != "" && address != "" {
			marks = append(marks, mark(MACAddress, address))
		}
	}
	return marks, nil
}

// legacyNamespace is what KubeVirt derives UUIDs in (KubeVirt 1.9.0, pkg/virt-controller/watch/vm/firmware.go).
var legacyNamespace = uuid.MustParse("6a1a24a1-4061-4607-8bf4-a3963d0c5895")

// legacyUUID returns the firmware UUID of a VM that has none in its spec: it is derived from the name alone.
func legacyUUID(name string) string { return uuid.NewSHA1(legacyNamespace, []byte(name)).String() }

// DecidesByHolders tells whether what becomes of an item's identity depends on who else has it.
func DecidesByHolders(resource schema.GroupResource, obj map[string]any, in Input) (bool, error) {
	if kubevirt.VMISpec[resource] == "" {
		return false, nil
	}
	marks, err := Marks(resource, obj)
	if err != nil {
		return false, err
	}
	choice, err := in.identity(obj)
	for _, mark := range marks {
		if choice.of(mark.Part) == options.Auto {
			return true, err
		}
	}
	return false, err
}

type choice options.IdentityChoice

func (c choice) of(part Part) string {
	switch part {
	case MACAddress:
		return c.MAC
	case FirmwareSerial:
		return c.Serial
	}
	return c.UUID
}

// identity returns what is asked for the identity of an item.
func (in Input) identity(obj map[string]any) (choice, error) {
	asked, err := options.IdentityFor(options.OfVM(obj), in.Restore, in.Config)
	return choice(asked), err
}

// fresh tells whether a value of an item must become new and, if that is so because another has it, who.
func (in Input) fresh(choice choice, mark Mark) (bool, []kubevirt.ID) {
	switch choice.of(mark.Part) {
	case options.New:
		return true, nil
	case options.Keep:
		return false, nil
	}
	var others []kubevirt.ID
	for _, holder := range in.Holders[mark] {
		if holder.Namespace != in.Target.Namespace || holder.Name != in.Target.Name { // itself, when it is restored over
			others = append(others, holder)
		}
	}
	return len(others) > 0, others
}

// madeNew is the result of making one value new.
func madeNew(path, what string, holders []kubevirt.ID) Result {
	result := Result{Changes: []Change{{Path: path, What: what}}}
	if len(holders) > 0 {
		result.Warnings = []Warning{{Path: path, What: "another has the same in this cluster, so the restored one gets a new one", Other: holders[0]}}
	}
	return result
}
