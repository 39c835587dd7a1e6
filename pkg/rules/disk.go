package rules

import (
	"fmt"
	"strings"

	cdiv1 "kubevirt.io/containerized-data-importer-api/pkg/apis/core/v1beta1"

	"velero-plugin-for-kubevirt/pkg/kubevirt"
	"velero-plugin-for-kubevirt/pkg/object"
)

// A Disk is what a restore knows of one disk of a VM when everything that the VM needs has been restored.
type Disk struct {
	Claim  kubevirt.ID // as it is called in the cluster
	Path   string      // where the VM names it; empty for its backend storage
	Listed bool        // whether the backup has it, as far as the backup says so
	Data   Data
	Refill Refill
}

// Data is where the data of a restored claim is.
type Data string

// Where data is.
const (
	NoData       Data = ""         // the claim is not there, or there without its data
	FromSnapshot Data = "snapshot" // the claim is made of a VolumeSnapshot, or has what the data mover has brought
	Coming       Data = "coming"   // the data mover brings it
	There        Data = "there"    // the claim, or its volume, was there before this restore
)

// Refill is what fills a disk whose data does not come.
type Refill string

// What fills a disk.
const (
	NoRefill Refill = ""
	BySource Refill = "source" // CDI fetches what its DataVolume names
	Blank    Refill = "blank"  // CDI makes it empty, as it was on its first day, or KubeVirt does, if it is backend storage
)

// A Fate is what becomes of a disk.
type Fate struct {
	Name  string // in the log
	When  string // for people
	Warns bool   // whether a person should know
	Holds bool   // whether the VM is not started
}

// The fates of a disk.
var (
	Restored     = Fate{Name: "restored from snapshot", When: "its snapshot, or what the data mover has brought, is in its claim"}
	OnItsWay     = Fate{Name: "on its way", When: "the data mover is to bring its data; the VM is started when it is there", Holds: true}
	AlreadyThere = Fate{Name: "already there", When: "its claim, or its volume, was in the cluster before"}
	FetchedAgain = Fate{Name: "fetched again from its source", When: "its data does not come; its DataVolume names an image, a registry or a disk that can be cloned, and CDI fetches that", Warns: true}
	MadeEmpty    = Fate{Name: "made empty", When: "its data does not come; its DataVolume is blank, or it is backend storage (vTPM, EFI variables)", Warns: true}
	Missing      = Fate{Name: "missing", When: "its data does not come, and nothing can fill it", Warns: true, Holds: true}
)

// Fates lists them for people.
var Fates = []Fate{Restored, OnItsWay, AlreadyThere, FetchedAgain, MadeEmpty, Missing}

// Fate decides what becomes of the disk.
func (d Disk) Fate() Fate {
	switch {
	case d.Data == FromSnapshot:
		return Restored
	case d.Data == Coming:
		return OnItsWay
	case d.Data == There:
		return AlreadyThere
	case d.Refill == BySource:
		return FetchedAgain
	case d.Refill == Blank:
		return MadeEmpty
	}
	return Missing
}

// DisksOf says in one line what becomes of disks.
func DisksOf(disks []Disk) string {
	var parts []string
	for _, disk := range disks {
		parts = append(parts, disk.Claim.Name+": "+disk.Fate().Name)
	}
	return strings.Join(parts, ", ")
}

// names returns the names of the disks that have a fate.
func names(disks []Disk, fate Fate) []string {
	var found []string
	for _, disk := range disks {
		if disk.Fate() == fate {
			found = append(found, disk.Claim.Name)
		}
	}
	return found
}

// fetched are the sources that CDI fetches from outside of the cluster (CDI 1.65.0, staging/src/kubevirt.io/containerized-data-importer-api,
// core/v1beta1/types.go, DataVolumeSource). Into an upload somebody else has to write.
var fetched = []string{"http", "s3", "gcs", "registry", "imageio", "vddk"}

// clones are the sources that are objects of the cluster.
var clones = map[string]kubevirt.ID{
	"pvc":      {GroupResource: kubevirt.PersistentVolumeClaims},
	"snapshot": {GroupResource: kubevirt.VolumeSnapshots},
}

// RefillOf tells how CDI would fill a DataVolume with this spec in a namespace. Whether what it would clone is there it has to ask.
func RefillOf(spec map[string]any, namespace string, there func(kubevirt.ID) (bool, error)) (Refill, error) {
	source, err := object.Map(spec, "source")
	if err != nil {
		return NoRefill, err
	}
	for _, kind := range fetched {
		if source[kind] != nil {
			return BySource, nil
		}
	}
	if source["blank"] != nil {
		return Blank, nil
	}
	for kind, id := range clones {
		place, err := object.Map(source, kind)
		if err != nil {
			return NoRefill, fmt.Errorf("source.%s: %w", kind, err)
		}
		if place != nil {
			return ifThere(id, place, namespace, there)
		}
	}
	ref, err := object.Map(spec, "sourceRef")
	if err != nil {
		return NoRefill, err
	}
	if ref != nil {
		return ifThere(kubevirt.ID{GroupResource: kubevirt.DataSources}, ref, namespace, there)
	}
	for _, path := range []string{"pvc.dataSourceRef", "pvc.dataSource", "storage.dataSourceRef", "storage.dataSource"} {
		if ref, err := object.Map(spec, path); err != nil || ref != nil {
			return BySource, err
		}
	}
	return NoRefill, nil
}

// ifThere is a refill from an object that a place names.
func ifThere(id kubevirt.ID, place map[string]any, namespace string, there func(kubevirt.ID) (bool, error)) (Refill, error) {
	id.Name, _ = place["name"].(string)
	if id.Namespace, _ = place["namespace"].(string); id.Namespace == "" {
		id.Namespace = namespace
	}
	if found, err := there(id); err != nil || !found {
		return NoRefill, err
	}
	return BySource, nil
}

// isFinished tells whether a DataVolume had its data when it was backed up.
func isFinished(original map[string]any) (bool, error) {
	phase, err := object.String(original, "status.phase")
	return phase == string(cdiv1.Succeeded), err
}
