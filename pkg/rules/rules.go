// Package rules holds what KubeVirt and CDI need done to an item when it is backed up or restored: one file, one rule.
// A rule decides from what it is given; it touches no cluster, clock or logger.
package rules

import (
	"fmt"
	"slices"

	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"

	"velero-plugin-for-kubevirt/pkg/kubevirt"
	"velero-plugin-for-kubevirt/pkg/options"
)

// A Phase is when a rule applies.
type Phase string

// The phases, named after Velero's commands.
const (
	Backup  Phase = "backup"
	Restore Phase = "restore"
)

// A Rule is one thing KubeVirt needs done to one kind of item.
type Rule struct {
	ID     string                 // "vm-revision-pin": in logs and README
	Kinds  []schema.GroupResource // the items it is for
	Phases []Phase
	Why    string // one sentence, for people
	// Routine is a rule that decides nothing: what it does is nothing to tell a person about.
	Routine bool
	// Apply edits obj in place and returns what it did. It must leave alone every field that it does not know.
	Apply func(obj map[string]any, in Input) (Result, error)
}

// Input is what a rule may know besides the item.
type Input struct {
	Phase    Phase
	Resource schema.GroupResource // the item's; Run sets it
	// Original is the item as it was in the cluster when it was backed up, with its status and owners. On restore the item
	// itself has lost them: Velero has removed them before it calls a plugin (Velero 1.18.1, pkg/restore/restore.go,
	// resetMetadataAndStatus).
	Original map[string]any
	// AdditionalItems are the objects the item refers to that will be in the backup (backup phase only).
	AdditionalItems []kubevirt.ID
	// Instance returns the running VirtualMachineInstance of a VM, nil when there is none (backup phase only). It may ask the API server.
	Instance func() (map[string]any, error)
	// DataSource is the one that a DataVolume names: when it is backed up, unless it is sure to come along; when it is restored,
	// that of the cluster. It is nil when there is none.
	DataSource map[string]any
	// ClaimUID is the UID of the claim that a VolumeSnapshot is of (backup phase only).
	ClaimUID string

	// VolumeSnapshots are those of a VirtualMachineSnapshotContent that is ready: by the name of each the spec of a
	// VolumeSnapshotContent for the snapshot that the storage has (backup phase only). It is nil when one has none.
	VolumeSnapshots map[string]map[string]any

	// The rest is for the restore phase.

	// Restore and Config are what is asked on the Restore and in the plugin's ConfigMap.
	Restore, Config options.Source
	// Target is what the restored item will be called.
	Target kubevirt.ID
	// NamespaceMapping is that of the Restore.
	NamespaceMapping map[string]string
	// StorageClasses are the new names of storage classes, by the old.
	StorageClasses map[string]string
	// Existing are the kinds of which an object of the target's name is in the cluster, the item's and VMIs. They are
	// gathered only when Velero would change the object, and for VirtualMachineSnapshots and their contents.
	Existing []schema.GroupResource
	// Data is where the data of a claim is, or that of a DataVolume's claim.
	Data Data
	// Disks are those of a VM, or of a VirtualMachineInstance of its own.
	Disks []Disk
	// There tells whether an object is in the cluster. It may ask the API server.
	There func(kubevirt.ID) (bool, error)
	// Nodes are the labels of the cluster's nodes. They are gathered only for an item that has NodePins.
	Nodes []map[string]string
	// IdentityOwners are the VMs and VMIs of the cluster that were not made by this restore, by what they are known by. They are
	// gathered only for an item of which DecidesByIdentityOwners says so.
	IdentityOwners map[Identifier][]kubevirt.ID
	// NewUUID makes a random UUID.
	NewUUID func() string
	// WithoutVolumes says that the Restore asks for no volumes.
	WithoutVolumes bool
	// SnapshotContent is that of a VirtualMachineSnapshot in the cluster, nil when there is none.
	SnapshotContent map[string]any
	// Pool is the VirtualMachinePool in the cluster that owned the item when it was backed up, nil when there is none.
	Pool map[string]any
}

// Result is what a rule did to an item.
type Result struct {
	Changes  []Change
	Warnings []Warning
	LeaveOut string // why the item must not be restored; empty to restore it
}

// A Change is one edit.
type Change struct {
	Path string // the field
	What string // what was done to it, for people: a sentence without variable parts
}

// A Warning is something that a person should know about the restored item.
type Warning struct {
	Path  string      // the field
	What  string      // for people: a sentence without variable parts
	Other kubevirt.ID // the object that it has to do with
	// Reason says why, if that differs from item to item.
	Reason string
}

func (r *Result) add(more Result) {
	r.Changes = append(r.Changes, more.Changes...)
	r.Warnings = append(r.Warnings, more.Warnings...)
}

// All lists the rules in the order in which they apply.
var All = []Rule{
	operation,
	vmSnapshotContent,
	vmSnapshot,
	vmSnapshotVolume,
	launcherPod,
	worker,
	disruptionBudget,
	pool,
	poolVM,
	revisionOwned,
	revisionVersion,
	vmiOwned,
	vmiRuntimeLabels,
	vmRevisionPin,
	existing,
	vmDisks,
	populatorSource,
	dvSourceRef,
	namespaceMapping,
	storageClass,
	vmNodePin,
	vmRunStrategy,
	vmHold,
	vmFirmwareUUID,
	vmMACAddress,
	vmFirmwareIdentity,
	vmMemoryDump,
	dvPopulated,
	pvcOfWorker,
	pvcPopulated,
	pvcSnapshot,
	pvcDataSource,
	cloneToken,
	finalizer,
	selectionLabel,
	additionalItems,
}

// LeftOut tells whether a restore leaves an item out whatever has become of its disks: then nothing needs to come with it. It does not change the item.
func LeftOut(resource schema.GroupResource, obj map[string]any, in Input) (bool, error) {
	beforeDisks := All[:slices.IndexFunc(All, func(rule Rule) bool { return rule.ID == vmDisks.ID })]
	applied, err := run(beforeDisks, resource, runtime.DeepCopyJSON(obj), in)
	return len(applied) > 0 && applied[len(applied)-1].LeaveOut != "", err
}

// Applied is one rule's result.
type Applied struct {
	Rule    string
	Routine bool // as of the rule
	Result
}

// Run applies the rules for items of the given resource in in.Phase to obj, and returns the results of those that did
// something. It stops at the first rule that leaves the item out. An error names the rule.
func Run(resource schema.GroupResource, obj map[string]any, in Input) ([]Applied, error) {
	return run(All, resource, obj, in)
}

func run(list []Rule, resource schema.GroupResource, obj map[string]any, in Input) ([]Applied, error) {
	in.Resource = resource
	var applied []Applied
	for _, rule := range list {
		if !slices.Contains(rule.Kinds, resource) || !slices.Contains(rule.Phases, in.Phase) {
			continue
		}
		result, err := rule.Apply(obj, in)
		if err != nil {
			return nil, fmt.Errorf("rule %s: %w", rule.ID, err)
		}
		if len(result.Changes) > 0 || len(result.Warnings) > 0 || result.LeaveOut != "" {
			applied = append(applied, Applied{Rule: rule.ID, Routine: rule.Routine, Result: result})
		}
		if result.LeaveOut != "" {
			break
		}
	}
	return applied, nil
}
