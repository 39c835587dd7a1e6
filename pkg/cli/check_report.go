package cli

import (
	"fmt"
	"io"
	"slices"
	"strings"

	"velero-plugin-for-kubevirt/pkg/backup"
	"velero-plugin-for-kubevirt/pkg/consistency"
	"velero-plugin-for-kubevirt/pkg/kubevirt"
)

// A checkReport is what the command says, for machines as it is.
type checkReport struct {
	Installation []finding    `json:"installation"`
	VMs          []vmReport   `json:"vms"`
	NotTaken     []string     `json:"notTaken,omitempty"` // VMs that the backup leaves out
	Summary      checkSummary `json:"summary"`
}

// A checkSummary counts the VMs.
type checkSummary struct {
	tally
	badServer  int // of the installation
	lostServer int
}

// A vmReport is what a backup would say of one VM.
type vmReport struct {
	Namespace string             `json:"namespace"`
	Name      string             `json:"name"`
	Kind      string             `json:"kind"`
	Status    string             `json:"status,omitempty"`
	Result    state              `json:"result"`
	WouldBe   consistency.Level  `json:"wouldBe,omitempty"`
	Reason    consistency.Reason `json:"reason,omitempty"`
	Why       []string           `json:"why,omitempty"`
	WhatToDo  []string           `json:"whatToDo,omitempty"`
	Required  bool               `json:"required,omitempty"`
	Disks     []diskReport       `json:"disks,omitempty"`
	id        kubevirt.ID
}

// A diskReport is how a disk would be backed up.
type diskReport struct {
	Claim               string `json:"claim"`
	Driver              string `json:"driver,omitempty"`
	VolumeSnapshotClass string `json:"volumeSnapshotClass,omitempty"`
	OneCut              bool   `json:"oneCut,omitempty"`
	VolumeGroup         string `json:"volumeGroup,omitempty"`
	NoSnapshot          string `json:"noSnapshot,omitempty"`
}

// report decides what to say.
func (c *checked) report() *checkReport {
	r := &checkReport{Installation: c.installation.findings(c.backup), VMs: []vmReport{}}
	for _, vm := range c.vms {
		if !vm.Taken && vm.Err == nil {
			r.NotTaken = append(r.NotTaken, vm.ID.Namespace+"/"+vm.ID.Name)
			continue
		}
		r.VMs = append(r.VMs, vm.report())
	}
	for _, vm := range r.VMs {
		r.Summary.add(vm.Result)
	}
	for _, found := range r.Installation {
		switch found.State {
		case bad:
			r.Summary.badServer++
		case unknown:
			r.Summary.lostServer++
		}
	}
	return r
}

func (vm checkedVM) report() vmReport {
	r := vmReport{
		Namespace: vm.ID.Namespace, Name: vm.ID.Name, Kind: kindOfGuest(vm.ID), Status: vm.status,
		Required: vm.Asked.Required, Result: good, id: vm.ID,
	}
	for _, disk := range vm.Disks {
		r.Disks = append(r.Disks, diskReport{disk.Name, disk.Driver, disk.Class, disk.Cut, disk.Group, disk.LeftOut})
	}
	if vm.Err != nil {
		r.Result, r.Why, r.WhatToDo = unknown, []string{vm.Err.Error()}, []string{"see the message"}
		return r
	}
	r.WouldBe, r.Reason = vm.Verdict.Level, vm.Verdict.Reason()
	for _, found := range vm.Verdict.Findings {
		r.Why = append(r.Why, found.String())
		r.WhatToDo = append(r.WhatToDo, remedies(found, vm.Disks)...)
	}
	if !vm.Verdict.Good() && !vm.Asked.ObjectsOnly {
		r.Result = bad
	}
	if len(vm.missing) > 0 {
		r.Result = bad
		r.Why = append(r.Why, "it needs what is not there: "+strings.Join(vm.missing, ", "))
		r.WhatToDo = append(r.WhatToDo, "make it, or take the reference out of the VM")
	}
	return r
}

// remedies says what to do about a finding: what the list of reasons says, or for a disk without snapshot what is in its way.
func remedies(found consistency.Finding, disks []backup.Disk) []string {
	var ways []string
	for _, disk := range disks {
		if found.Reason == consistency.DiskNotSnapshotted && disk.LeftOut != "" {
			ways = append(ways, disk.Name+": "+disk.LeftOut)
		}
	}
	for _, known := range consistency.Reasons {
		if known.Reason == found.Reason && len(ways) == 0 {
			ways = append(ways, known.Remedy)
		}
	}
	return ways
}

func kindOfGuest(id kubevirt.ID) string {
	if id.GroupResource == kubevirt.VirtualMachines {
		return "VirtualMachine"
	}
	return "VirtualMachineInstance"
}

// err is the command's result.
func (r *checkReport) err() error {
	s := r.Summary
	switch {
	case s.NotGood+s.badServer > 0:
		text := fmt.Sprintf("not good: %d of %d VMs", s.NotGood, s.VMs)
		if s.badServer > 0 {
			text += fmt.Sprintf(", and %d things about Velero", s.badServer)
		}
		return notGood(text)
	case s.Unknown+s.lostServer > 0:
		return fmt.Errorf("could not find out about %d of %d VMs and %d things about Velero, see above", s.Unknown, s.VMs, s.lostServer)
	}
	return nil
}

func (r *checkReport) print(out io.Writer, format string) error {
	var ids []kubevirt.ID
	for _, vm := range r.VMs {
		ids = append(ids, vm.id)
	}
	if printed, err := printForMachines(out, format, r, ids); printed {
		return err
	}
	if err := r.printInstallation(out); err != nil {
		return err
	}
	return r.printVMs(out, format == "wide")
}

func (r *checkReport) printInstallation(out io.Writer) error {
	var rows [][]string
	for _, found := range r.Installation {
		rows = append(rows, []string{found.What, string(found.State), found.Detail, found.Remedy})
	}
	if err := printTable(out, []string{"VELERO", "STATE", "DETAIL", "WHAT TO DO"}, rows); err != nil {
		return err
	}
	_, err := fmt.Fprintln(out)
	return err
}

func (r *checkReport) printVMs(out io.Writer, wide bool) error {
	if len(r.VMs) == 0 {
		_, err := fmt.Fprintln(out, "No VMs found.")
		return err
	}
	several := slices.ContainsFunc(r.VMs, func(vm vmReport) bool { return vm.Namespace != r.VMs[0].Namespace })
	header := []string{"VM", "STATE", "DISKS", "WOULD BE", "WHY", "WHAT TO DO"}
	if wide {
		header = append(header, "SNAPSHOTS")
	}
	if several {
		header = append([]string{"NAMESPACE"}, header...)
	}
	var rows [][]string
	for _, vm := range r.VMs {
		row := []string{vm.Name, vm.Status, fmt.Sprint(len(vm.Disks)), vm.wouldBe(), strings.Join(vm.Why, "; "), strings.Join(vm.WhatToDo, "; ")}
		if wide {
			row = append(row, vm.snapshots())
		}
		if several {
			row = append([]string{vm.Namespace}, row...)
		}
		rows = append(rows, row)
	}
	if err := printTable(out, header, rows); err != nil {
		return err
	}
	if len(r.NotTaken) > 0 {
		if _, err := fmt.Fprintf(out, "\nThe backup leaves out %d other VMs.\n", len(r.NotTaken)); err != nil {
			return err
		}
	}
	_, err := fmt.Fprintf(out, "\n%d VMs: %d good, %d not, %d unknown\n", r.Summary.VMs, r.Summary.Good, r.Summary.NotGood, r.Summary.Unknown)
	return err
}

func (vm vmReport) wouldBe() string {
	switch {
	case vm.Result == unknown:
		return string(unknown)
	case vm.Required && vm.Result == bad:
		return string(vm.WouldBe) + ", an error: consistency is required"
	}
	return string(vm.WouldBe)
}

// snapshots says of each disk how it is snapshotted.
func (vm vmReport) snapshots() string {
	var texts []string
	for _, disk := range vm.Disks {
		how := disk.VolumeSnapshotClass
		switch {
		case disk.NoSnapshot != "":
			how = "none"
		case disk.OneCut:
			how += ", one cut"
		case disk.VolumeGroup != "":
			how += ", group " + disk.VolumeGroup
		}
		texts = append(texts, fmt.Sprintf("%s (%s)", disk.Claim, how))
	}
	return strings.Join(texts, "; ")
}
