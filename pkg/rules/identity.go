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

// An Identifier is a value that tells one guest from another, in a form that can be compared.
type Identifier struct {
	Kind  IdentifierKind
	Value string
}

// An IdentifierKind says what a value identifies.
type IdentifierKind string

// The kinds of identifiers.
const (
	MACAddress     IdentifierKind = "MAC address"
	FirmwareSerial IdentifierKind = "firmware serial"
	FirmwareUUID   IdentifierKind = "firmware UUID"
)

// Where the identifiers are below a VMI's spec.
const (
	macAddresses   = ".domain.devices.interfaces[].macAddress"
	firmwareSerial = ".domain.firmware.serial"
	firmwareUUID   = ".domain.firmware.uuid"
)

func newIdentifier(kind IdentifierKind, value string) Identifier {
	switch kind {
	case MACAddress:
		if parsed, err := net.ParseMAC(value); err == nil {
			value = parsed.String()
		}
		return Identifier{kind, value}
	case FirmwareUUID:
		return Identifier{kind, strings.ToLower(value)}
	}
	return Identifier{kind, value}
}

// Identifiers returns what a guest of the given object is known by: what its spec says, the UUID that KubeVirt derives when a VM
// says none, and the MAC addresses that a running one has been given.
func Identifiers(resource schema.GroupResource, obj map[string]any) ([]Identifier, error) {
	spec := kubevirt.VMISpec[resource]
	var identifiers []Identifier
	for _, place := range []struct {
		kind IdentifierKind
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
			identifiers = append(identifiers, newIdentifier(place.kind, text.Value))
		}
		if place.kind == FirmwareUUID && len(texts) == 0 && resource == kubevirt.VirtualMachines {
			identifiers = append(identifiers, newIdentifier(FirmwareUUID, legacyUUID(object.Name(obj))))
		}
	}
	given, err := givenMACs(obj)
	return append(identifiers, given...), err
}

// givenMACs returns those of a running VMI's interfaces that have a network's name; the guest agent reports others, such as
// the bridges of containers in the guest.
func givenMACs(obj map[string]any) ([]Identifier, error) {
	interfaces, err := object.Find(obj, "status.interfaces[]")
	if err != nil {
		return nil, err
	}
	var identifiers []Identifier
	for _, field := range interfaces {
		nic, _ := field.Value.(map[string]any)
		address, _ := nic["mac"].(string)
		if name, _ := nic["name"].(string); name != "" && address != "" {
			identifiers = append(identifiers, newIdentifier(MACAddress, address))
		}
	}
	return identifiers, nil
}

// legacyNamespace is what KubeVirt derives UUIDs in (KubeVirt 1.9.0, pkg/virt-controller/watch/vm/firmware.go).
var legacyNamespace = uuid.MustParse("6a1a24a1-4061-4607-8bf4-a3963d0c5895")

// legacyUUID returns the firmware UUID of a VM that has none in its spec: it is derived from the name alone.
func legacyUUID(name string) string { return uuid.NewSHA1(legacyNamespace, []byte(name)).String() }

// DecidesByIdentityOwners tells whether what becomes of an item's identity depends on who else has it.
func DecidesByIdentityOwners(resource schema.GroupResource, obj map[string]any, in Input) (bool, error) {
	if kubevirt.VMISpec[resource] == "" {
		return false, nil
	}
	identifiers, err := Identifiers(resource, obj)
	if err != nil {
		return false, err
	}
	choice, err := in.identity(obj)
	for _, identifier := range identifiers {
		if choice.of(identifier.Kind) == options.Auto {
			return true, err
		}
	}
	return false, err
}

type choice options.IdentityChoice

func (c choice) of(kind IdentifierKind) string {
	switch kind {
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
func (in Input) fresh(choice choice, identifier Identifier) (bool, []kubevirt.ID) {
	switch choice.of(identifier.Kind) {
	case options.New:
		return true, nil
	case options.Keep:
		return false, nil
	}
	var others []kubevirt.ID
	for _, owner := range in.IdentityOwners[identifier] {
		if owner.Namespace != in.Target.Namespace || owner.Name != in.Target.Name { // itself, when it is restored over
			others = append(others, owner)
		}
	}
	return len(others) > 0, others
}

// madeNew is the result of making one value new.
func madeNew(path, what string, owners []kubevirt.ID) Result {
	result := Result{Changes: []Change{{Path: path, What: what}}}
	if len(owners) > 0 {
		result.Warnings = []Warning{{Path: path, What: "another has the same in this cluster, so the restored one gets a new one", Other: owners[0]}}
	}
	return result
}
