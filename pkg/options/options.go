// Package options lists everything a person can ask of the plugin, each option once: its key, where it may be set, its
// valid values, its default and what it does. It reads them from labels and annotations, or fails saying what is wrong where.
package options

import (
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	virtv1 "kubevirt.io/api/core/v1"

	"velero-plugin-for-kubevirt/pkg/object"
)

// Prefix is what all keys begin with. The keys of a ConfigMap are the same without it: they cannot contain a slash.
const Prefix = "velero.kubevirt.io/"

// A Place is a kind of object that options are set on.
type Place string

// The places. On the first three an option is a label or an annotation; the ConfigMap is the one that Velero keeps for the
// plugin, with defaults for the whole cluster.
const (
	OnBackup  Place = "Backup"
	OnRestore Place = "Restore"
	OnVM      Place = "VirtualMachine"
	InConfig  Place = "ConfigMap"
)

// An Option is one thing that a person can ask for.
type Option struct {
	Key     string // with the prefix
	Places  []Place
	Values  []string // the valid ones; nil when every duration is
	Default string   // "" when the item is left as it is
	What    string   // one sentence, for people
}

// The values of options that have their own.
const (
	BestEffort = "best-effort"
	Required   = "required"

	Auto = "auto"
	Keep = "keep"
	New  = "new"

	AsPool = "pool"
	AsVMs  = "vms"

	Hold  = "hold"
	Allow = "allow"
)

var booleans = []string{"true", "false"}

// The options. Those that came with earlier plugins for KubeVirt keep their keys.
var (
	Consistency = Option{
		Key: Prefix + "consistency", Places: []Place{OnBackup, OnVM}, Values: []string{BestEffort, Required}, Default: BestEffort,
		What: "Whether the backup of a VM whose guest could not be frozen fails, or only says so.",
	}
	MetadataBackup = Option{
		Key: Prefix + "metadataBackup", Places: []Place{OnBackup}, Values: booleans, Default: "false",
		What: "The backup is of the objects alone, somebody else takes care of the disks: nothing is said about disks that are not in it.",
	}
	MaxFreeze = Option{
		Key: Prefix + "max-freeze", Places: []Place{OnBackup, OnVM, InConfig},
		What: "How long a guest may stay frozen, 60 s or, with Windows, 8 s unless set: then the plugin thaws it, whatever its storage does, and its disks are only `crash`-consistent.",
	}
	Identity = Option{
		Key: Prefix + "identity", Places: []Place{OnRestore, OnVM, InConfig}, Values: []string{Auto, Keep, New}, Default: Auto,
		What: "MAC addresses, firmware serial and UUID of a restored VM: as backed up, new, or (auto) new where another VM of the cluster has them.",
	}
	ClearMACAddress = Option{
		Key: Prefix + "clear-mac-address", Places: []Place{OnRestore}, Values: booleans, Default: "false",
		What: "All MAC addresses of a restored VM are new.",
	}
	NewFirmwareUUID = Option{
		Key: Prefix + "generate-new-firmware-uuid", Places: []Place{OnRestore}, Values: booleans, Default: "false",
		What: "The firmware UUID of a restored VM is new.",
	}
	RunStrategy = Option{
		Key: Prefix + "restore-run-strategy", Places: []Place{OnRestore}, Values: runStrategies, Default: "",
		What: "The run strategy of restored VMs, instead of the one they were backed up with.",
	}
	EmptyDisks = Option{
		Key: Prefix + "empty-disks", Places: []Place{OnRestore, OnVM, InConfig}, Values: []string{Hold, Allow}, Default: Hold,
		What: "Whether a restored VM waits for a person when nothing can fill one of its disks, or starts all the same.",
	}
	Pools = Option{
		Key: Prefix + "pools", Places: []Place{OnRestore}, Values: []string{AsPool, AsVMs}, Default: AsPool,
		What: "A VirtualMachinePool is restored as a pool, which makes its VMs anew, or as the VMs that it had, without the pool.",
	}
)

// All lists the options in the order of the README.
var All = []Option{Consistency, MetadataBackup, MaxFreeze, Identity, ClearMACAddress, NewFirmwareUUID, RunStrategy, EmptyDisks, Pools}

var runStrategies = []string{
	string(virtv1.RunStrategyAlways), string(virtv1.RunStrategyHalted), string(virtv1.RunStrategyManual),
	string(virtv1.RunStrategyRerunOnFailure), string(virtv1.RunStrategyOnce), string(virtv1.RunStrategyWaitAsReceiver),
}

// A Source is one object that options are read from.
type Source struct {
	Place Place
	Name  string // for errors: namespace/name
	// Either labels and annotations, or the data of a ConfigMap.
	Labels, Annotations, Data map[string]string
}

// OfVM returns what is set on a VirtualMachine or another object that stands for VMs.
func OfVM(obj map[string]any) Source {
	return Source{
		Place: OnVM, Name: object.Namespace(obj) + "/" + object.Name(obj),
		Labels: object.Labels(obj), Annotations: object.Annotations(obj),
	}
}

// Value returns what the first source that sets the option says, or its default when none does. Sources of a kind that the
// option cannot be set on are passed over. An error names the object, the key and the valid values.
func (o Option) Value(sources ...Source) (string, error) {
	for _, source := range sources {
		value, set, err := o.set(source)
		if err != nil || set {
			return value, err
		}
	}
	return o.Default, nil
}

// IsTrue is Value for an option whose values are true and false.
func (o Option) IsTrue(sources ...Source) (bool, error) {
	value, err := o.Value(sources...)
	return value == "true", err
}

// Duration is Value for an option whose values are durations, and byDefault when no source sets it.
func (o Option) Duration(byDefault time.Duration, sources ...Source) (time.Duration, error) {
	value, err := o.Value(sources...)
	if err != nil || value == "" {
		return byDefault, err
	}
	return time.ParseDuration(value)
}

// set returns what one source says, and whether it says anything.
func (o Option) set(source Source) (string, bool, error) {
	if !slices.Contains(o.Places, source.Place) {
		return "", false, nil
	}
	var found []string // the value of each place that has one
	var where []string
	for _, at := range []struct {
		what, key string
		values    map[string]string
	}{
		{"label", o.Key, source.Labels},
		{"annotation", o.Key, source.Annotations},
		{"key", strings.TrimPrefix(o.Key, Prefix), source.Data},
	} {
		raw, set := at.values[at.key]
		if !set {
			continue
		}
		value, valid := o.valid(raw)
		place := fmt.Sprintf("%s %s: %s %s: %q", source.Place, source.Name, at.what, at.key, raw)
		if !valid {
			return "", false, fmt.Errorf("%s is not valid, set %s", place, o.ValidValues())
		}
		found, where = append(found, value), append(where, place)
	}
	if len(found) == 2 && found[0] != found[1] {
		return "", false, fmt.Errorf("%s contradicts %s, remove one", where[0], where[1])
	}
	if len(found) == 0 {
		return "", false, nil
	}
	return found[0], true, nil
}

// ValidValues says for people what may be set.
func (o Option) ValidValues() string {
	if o.Values == nil {
		return "a duration above 0 such as 30s"
	}
	return "one of " + strings.Join(o.Values, ", ")
}

// valid returns the value as it is in Values. Of true and false every spelling counts that KubeVirt takes for its own.
func (o Option) valid(raw string) (string, bool) {
	if o.Values == nil {
		duration, err := time.ParseDuration(raw)
		return raw, err == nil && duration > 0
	}
	if slices.Equal(o.Values, booleans) {
		value, err := strconv.ParseBool(raw)
		return strconv.FormatBool(value), err == nil
	}
	return raw, slices.Contains(o.Values, raw)
}
