package cli

import (
	"fmt"
	"io"
	"slices"
	"strings"

	velerov1 "github.com/vmware-tanzu/velero/pkg/apis/velero/v1"

	"velero-plugin-for-kubevirt/pkg/consistency"
	"velero-plugin-for-kubevirt/pkg/kubevirt"
	"velero-plugin-for-kubevirt/pkg/rules"
)

// A verifyReport is what the command says, for machines as it is.
type verifyReport struct {
	Backup     string               `json:"backup,omitempty"`
	Phase      velerov1.BackupPhase `json:"phase,omitempty"`
	Errors     int                  `json:"errors,omitempty"` // that Velero counted
	VMs        []verifiedReport     `json:"vms"`
	Changes    []change             `json:"changes,omitempty"`    // what a restore does to the backup's objects
	Unreadable []string             `json:"unreadable,omitempty"` // objects that the restore rules cannot read, and why
	Summary    verifySummary        `json:"summary"`
}

// A verifySummary counts the VMs, and their disks.
type verifySummary struct {
	tally
	Disks           int `json:"disks"`
	DisksWithNoData int `json:"disksWithNoData"`
}

// A verifiedReport is what is said of one VM.
type verifiedReport struct {
	Namespace string            `json:"namespace"`
	Name      string            `json:"name"`
	Kind      string            `json:"kind"`
	Result    state             `json:"result"`
	Verdict   consistency.Level `json:"verdict,omitempty"` // empty when the backup does not say
	Reason    string            `json:"reason,omitempty"`
	Frozen    string            `json:"frozen,omitempty"`
	Disks     []backedUpReport  `json:"disks,omitempty"`
	Missing   []string          `json:"missing,omitempty"` // in the backup
	Lacking   []string          `json:"lacking,omitempty"` // in the cluster
	Changes   int               `json:"changes"`           // that a restore makes to it and to what it is restored with
	LeftOut   int               `json:"leftOut"`           // objects of it that a restore leaves out
	Warnings  int               `json:"warnings"`
	Why       []string          `json:"why,omitempty"`
	id        kubevirt.ID
}

// A backedUpReport is how a disk is in the backup.
type backedUpReport struct {
	Claim string `json:"claim"`
	How   string `json:"how"`
	Why   string `json:"why,omitempty"`
}

// A change is one thing that a rule does when an object is restored.
type change struct {
	Object  string `json:"object"`
	Rule    string `json:"rule"`
	Field   string `json:"field,omitempty"`
	What    string `json:"what"`
	Warning bool   `json:"warning,omitempty"`
	LeftOut bool   `json:"leftOut,omitempty"`
}

// report decides what to say.
func (v *verification) report() *verifyReport {
	r := &verifyReport{Backup: v.backup.Name, Phase: v.backup.Status.Phase, Errors: v.backup.Status.Errors, VMs: []verifiedReport{}, Changes: v.listChanges()}
	for id, err := range v.broken {
		r.Unreadable = append(r.Unreadable, id.String()+": "+err.Error())
	}
	slices.Sort(r.Unreadable)
	for _, vm := range v.vms {
		one := vm.report()
		for _, id := range vm.leadsTo {
			one.count(v.changes[id])
		}
		r.VMs = append(r.VMs, one)
	}
	for _, vm := range r.VMs {
		r.Summary.add(vm.Result)
		for _, disk := range vm.Disks {
			r.Summary.Disks++
			if disk.How == asNone {
				r.Summary.DisksWithNoData++
			}
		}
	}
	return r
}

func (vm verifiedVM) report() verifiedReport {
	r := verifiedReport{
		Namespace: vm.Namespace, Name: vm.Name, Kind: kindOfGuest(vm.ID), Result: good, Verdict: vm.level, Reason: vm.reason, Frozen: vm.window,
		Missing: vm.missing, Lacking: vm.lacks, id: vm.ID,
	}
	if vm.level == "" {
		r.Why = append(r.Why, "the backup does not say how consistent its disks are: it was made without this plugin")
	}
	if vm.message != "" {
		r.Result, r.Why = bad, append(r.Why, vm.message)
	}
	for _, disk := range vm.disks {
		r.Disks = append(r.Disks, backedUpReport{disk.claim, disk.how, disk.why})
		switch disk.how {
		case asNone:
			r.Result, r.Why = bad, append(r.Why, disk.claim+": "+disk.why)
		case asFiles:
			r.Result, r.Why = bad, append(r.Why, disk.claim+": its files are in the backup of a pod that is not restored")
		}
	}
	if len(vm.missing) > 0 {
		r.Result, r.Why = bad, append(r.Why, "not in the backup: "+few(vm.missing))
	}
	if len(vm.lacks) > 0 {
		r.Result, r.Why = bad, append(r.Why, "not in the cluster: "+few(vm.lacks))
	}
	if vm.err != nil {
		r.Result, r.Why = unknown, append(r.Why, vm.err.Error())
	}
	return r
}

// few says what is in a list, for a line that people read.
func few(list []string) string {
	const enough = 3
	if len(list) > enough {
		return fmt.Sprintf("%s and %d more", strings.Join(list[:enough], ", "), len(list)-enough)
	}
	return strings.Join(list, ", ")
}

func (r *verifiedReport) count(applied []rules.Applied) {
	for _, a := range applied {
		if !a.Routine {
			r.Changes += len(a.Changes)
		}
		r.Warnings += len(a.Warnings)
		if a.LeaveOut != "" {
			r.LeftOut++
		}
	}
}

// listChanges lists what the rules do, object by object.
func (v *verification) listChanges() []change {
	var ids []kubevirt.ID
	for id := range v.changes {
		if v.namespace == "" || id.Namespace == v.namespace {
			ids = append(ids, id)
		}
	}
	slices.SortFunc(ids, func(a, b kubevirt.ID) int { return strings.Compare(a.String(), b.String()) })
	var changes []change
	for _, id := range ids {
		for _, a := range v.changes[id] {
			for _, edit := range a.Changes {
				changes = append(changes, change{Object: id.String(), Rule: a.Rule, Field: edit.Path, What: edit.What})
			}
			for _, warning := range a.Warnings {
				changes = append(changes, change{Object: id.String(), Rule: a.Rule, Field: warning.Path, What: warning.What + ": " + warning.Other.String(), Warning: true})
			}
			if a.LeaveOut != "" {
				changes = append(changes, change{Object: id.String(), Rule: a.Rule, What: "left out: " + a.LeaveOut, LeftOut: true})
			}
		}
	}
	return changes
}

// err is the command's result.
func (r *verifyReport) err() error {
	s := r.Summary
	switch {
	case s.NotGood > 0:
		return notGood(fmt.Sprintf("not good: %d of %d VMs", s.NotGood, s.VMs))
	case s.Unknown > 0 || len(r.Unreadable) > 0:
		return fmt.Errorf("could not find out about %d of %d VMs, and could not read %d objects: %s", s.Unknown, s.VMs, len(r.Unreadable), few(r.Unreadable))
	case r.Phase == velerov1.BackupPhasePartiallyFailed:
		return notGood(fmt.Sprintf("backup %s is PartiallyFailed, with %d errors: see \"velero backup logs %s\"", r.Backup, r.Errors, r.Backup))
	}
	return nil
}

func (r *verifyReport) print(out io.Writer, format string, changes bool) error {
	var ids []kubevirt.ID
	for _, vm := range r.VMs {
		ids = append(ids, vm.id)
	}
	listed := r.Changes
	if !changes {
		r.Changes = nil
	}
	if printed, err := printForMachines(out, format, r, ids); printed {
		return err
	}
	if len(r.VMs) == 0 {
		if _, err := fmt.Fprintln(out, "No VMs found."); err != nil {
			return err
		}
	} else if err := r.printVMs(out, format == "wide"); err != nil {
		return err
	}
	if !changes {
		return nil
	}
	var rows [][]string
	for _, c := range listed {
		rows = append(rows, []string{c.Object, c.Rule, c.Field, c.What})
	}
	if _, err := fmt.Fprintln(out); err != nil {
		return err
	}
	return printTable(out, []string{"AT RESTORE", "RULE", "FIELD", "WHAT"}, rows)
}

func (r *verifyReport) printVMs(out io.Writer, wide bool) error {
	header := []string{"NAMESPACE", "VM", "VERDICT", "REASON", "FROZEN", "DISKS", "AT RESTORE", "WHY"}
	var rows [][]string
	for _, vm := range r.VMs {
		rows = append(rows, []string{
			vm.Namespace, vm.Name, string(vm.Verdict), vm.Reason, vm.Frozen, vm.disksText(wide), vm.restoreText(), strings.Join(vm.Why, "; "),
		})
	}
	if err := printTable(out, header, rows); err != nil {
		return err
	}
	s := r.Summary
	_, err := fmt.Fprintf(out, "\n%d VMs: %d good, %d not, %d unknown; %d disks, %d without data\n", s.VMs, s.Good, s.NotGood, s.Unknown, s.Disks, s.DisksWithNoData)
	return err
}

// disksText counts the disks by how they are in the backup, or names them.
func (vm verifiedReport) disksText(wide bool) string {
	var texts []string
	for _, how := range []string{asSnapshot, asMoved, asFiles, asNone} {
		var claims []string
		for _, disk := range vm.Disks {
			if disk.How == how {
				claims = append(claims, disk.Claim)
			}
		}
		switch {
		case len(claims) == 0:
		case wide:
			texts = append(texts, how+" "+strings.Join(claims, ", "))
		default:
			texts = append(texts, fmt.Sprintf("%d %s", len(claims), how))
		}
	}
	return strings.Join(texts, "; ")
}

func (vm verifiedReport) restoreText() string {
	var texts []string
	for _, counted := range []struct {
		n    int
		what string
	}{{vm.Changes, "changed"}, {vm.LeftOut, "left out"}, {vm.Warnings, "warnings"}} {
		if counted.n > 0 {
			texts = append(texts, fmt.Sprintf("%d %s", counted.n, counted.what))
		}
	}
	return strings.Join(texts, ", ")
}
