package rules

import (
	"crypto/sha256"
	"encoding/hex"

	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/util/validation"

	"velero-plugin-for-kubevirt/pkg/kubevirt"
	"velero-plugin-for-kubevirt/pkg/object"
)

// Velero selects by label, and by label only: a VM of a backup of many that nobody has given a label of its own could not be
// restored alone. What an item that is selected needs comes with it, whatever labels that has, so the VM alone needs one
// (Velero 1.18.1, pkg/restore/restore.go, restoreItem; the selector is asked in getSelectedRestoreableItems).
var selectionLabel = Rule{
	ID:      "selection-label",
	Kinds:   []schema.GroupResource{kubevirt.VirtualMachines, kubevirt.PersistentVolumeClaims, kubevirt.VolumeSnapshots},
	Phases:  []Phase{Backup, Restore},
	Routine: true,
	Why:     "In a backup a VM carries its name as a label, a PVC and its VolumeSnapshot the PVC's UID, so that a restore can ask for one of them.",
	Apply: func(obj map[string]any, in Input) (Result, error) {
		if in.Phase == Restore {
			return removeSelectionLabel(obj, in)
		}
		label, own := selectionLabelOf(in.Resource)
		value := object.UID(obj)
		switch in.Resource {
		case kubevirt.VirtualMachines:
			value = labelValue(object.Name(obj))
		case kubevirt.VolumeSnapshots:
			value = in.ClaimUID
		}
		if value == "" {
			return Result{}, nil
		}
		var result Result
		if before := object.Label(obj, label); keepsOwn(obj, in.Resource, own, before, value) {
			if _, err := object.SetAnnotation(obj, own, before); err != nil {
				return Result{}, err
			}
			result.Changes = append(result.Changes, Change{Path: "metadata.annotations[" + own + "]", What: "kept what its label by which a restore selects it was"})
		}
		changed, err := object.SetLabel(obj, label, value)
		if changed {
			result.Changes = append(result.Changes, Change{Path: "metadata.labels[" + label + "]", What: "labelled it, to be selected by a restore"})
		}
		return result, err
	},
}

// keepsOwn tells whether an annotation is to keep the label's value that the object had itself. A VM may have its name there already, of its owner's will, and
// keeps an empty value, too: so a restore knows which label was its own. Nobody calls a claim by its UID, so that one can only be this rule's.
func keepsOwn(obj map[string]any, resource schema.GroupResource, annotation, before, value string) bool {
	if resource == kubevirt.VirtualMachines {
		return !object.HasAnnotation(obj, annotation)
	}
	return before != "" && before != value
}

// selectionLabelOf returns the label of a kind, and the annotation that keeps the value that the object had itself.
func selectionLabelOf(resource schema.GroupResource) (label, own string) {
	switch resource {
	case kubevirt.VirtualMachines:
		return kubevirt.VMLabel, kubevirt.OriginalVM
	case kubevirt.VolumeSnapshots:
		return kubevirt.PVCUIDLabel, kubevirt.OriginalSnapshot
	}
	return kubevirt.PVCUIDLabel, kubevirt.OriginalPVCUID
}

// removeSelectionLabel gives an object back the value that it had itself, by what is in the backup: a second call finds the object without its annotation. That
// kubevirt-velero-plugin keeps the claim's UID as its own value, too, when Velero calls it twice, changes nothing.
func removeSelectionLabel(obj map[string]any, in Input) (Result, error) {
	label, own := selectionLabelOf(in.Resource)
	if in.Resource == kubevirt.VirtualMachines && !object.HasAnnotation(in.Original, own) {
		return Result{}, nil // no backup of this plugin: the label is its own
	}
	before := object.Annotation(in.Original, own)
	if in.Resource != kubevirt.VirtualMachines && before == object.Label(in.Original, label) {
		before = ""
	}
	var result Result
	if object.DeleteAnnotation(obj, own) {
		result.Changes = append(result.Changes, Change{Path: "metadata.annotations[" + own + "]", What: "removed what its label by which a restore selects it was"})
	}
	var changed bool
	var err error
	if before != "" {
		changed, err = object.SetLabel(obj, label, before)
	} else {
		changed = object.DeleteLabel(obj, label)
	}
	if changed {
		result.Changes = append(result.Changes, Change{Path: "metadata.labels[" + label + "]", What: "removed the label by which a restore selects it"})
	}
	return result, err
}

// labelValue returns a name that is too long for a label cut, with the beginning of its hash, as Velero does it (Velero 1.18.1,
// pkg/label/label.go, GetValidName).
func labelValue(name string) string {
	if len(name) <= validation.LabelValueMaxLength {
		return name
	}
	hash := sha256.Sum256([]byte(name))
	return name[:validation.LabelValueMaxLength-6] + hex.EncodeToString(hash[:])[:6]
}
