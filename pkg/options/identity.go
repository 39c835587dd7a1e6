package options

import "fmt"

// IdentityChoice is what becomes of each part of what a guest is known by: Auto, Keep or New.
type IdentityChoice struct {
	MAC, Serial, UUID string
}

// IdentityFor reads what is asked for the identity of one VM. What its own annotation says counts first, then the Restore –
// the option and the two older ones for the MAC addresses and the UUID – then the ConfigMap. Two of them on the same
// Restore that contradict each other are an error that names both.
func IdentityFor(vm, restore, config Source) (IdentityChoice, error) {
	if value, set, err := Identity.set(vm); err != nil || set {
		return IdentityChoice{value, value, value}, err
	}
	asked, onRestore, err := Identity.set(restore)
	if err != nil {
		return IdentityChoice{}, err
	}
	all, err := Identity.Value(restore, config)
	if err != nil {
		return IdentityChoice{}, err
	}
	choice := IdentityChoice{all, all, all}
	for _, part := range []struct {
		option Option
		choice *string
	}{{ClearMACAddress, &choice.MAC}, {NewFirmwareUUID, &choice.UUID}} {
		value, set, err := part.option.set(restore)
		if err != nil {
			return IdentityChoice{}, err
		}
		if (onRestore && asked == Keep && value == "true") || (onRestore && asked == New && set && value == "false") {
			return IdentityChoice{}, fmt.Errorf("%s %s: %s: %q contradicts %s: %q, remove one", restore.Place, restore.Name, Identity.Key, asked, part.option.Key, value)
		}
		if value == "true" {
			*part.choice = New
		}
	}
	return choice, nil
}
