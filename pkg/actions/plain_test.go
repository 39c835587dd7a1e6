package actions

import (
	"context"
	"errors"
	"testing"

	logtest "github.com/sirupsen/logrus/hooks/test"
	"github.com/vmware-tanzu/velero/pkg/plugin/velero"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/runtime/schema"

	"velero-plugin-for-kubevirt/pkg/cluster"
	"velero-plugin-for-kubevirt/pkg/kubevirt"
)

// backupOf returns a Backup in a phase.
func backupOf(phase string, spec map[string]any) *unstructured.Unstructured {
	return &unstructured.Unstructured{Object: map[string]any{
		"apiVersion": "velero.io/v1", "kind": "Backup", "spec": spec, "status": map[string]any{"phase": phase},
	}}
}

var plain = backupOf("InProgress", map[string]any{"snapshotVolumes": false})

// TestVeleroAsksForVerdictsUnlessAllItsBackupsArePlain: a backup with snapshots that is asked too little freezes no guest.
func TestVeleroAsksForVerdictsUnlessAllItsBackupsArePlain(t *testing.T) {
	for name, test := range map[string]struct {
		backups []*unstructured.Unstructured
		asks    bool
	}{
		"plain":                             {backups: []*unstructured.Unstructured{plain}, asks: false},
		"plain, after one with snapshots":   {backups: []*unstructured.Unstructured{plain, backupOf("Completed", nil)}, asks: false},
		"plain, beside one with snapshots":  {backups: []*unstructured.Unstructured{plain, backupOf("InProgress", nil)}, asks: true},
		"with snapshots unless told not to": {backups: []*unstructured.Unstructured{backupOf("InProgress", map[string]any{"snapshotVolumes": true})}, asks: true},
		"by label":                          {backups: []*unstructured.Unstructured{backupOf("InProgress", map[string]any{"snapshotVolumes": false, "labelSelector": map[string]any{"matchLabels": map[string]any{"app": "web"}}})}, asks: true},
		"by one of several labels":          {backups: []*unstructured.Unstructured{backupOf("InProgress", map[string]any{"snapshotVolumes": false, "orLabelSelectors": []any{map[string]any{}}})}, asks: true},
		"with all files copied":             {backups: []*unstructured.Unstructured{backupOf("InProgress", map[string]any{"snapshotVolumes": false, "defaultVolumesToFsBackup": true})}, asks: true},
		"finishing":                         {backups: []*unstructured.Unstructured{backupOf("Finalizing", map[string]any{"snapshotVolumes": false})}, asks: true},
		"none":                              {asks: true},
	} {
		t.Run(name, func(t *testing.T) {
			log, _ := logtest.NewNullLogger()
			reader, witness := cluster.FromObjects(test.backups), NewWitness()
			checkAsks(t, NewConsistency(reader, witness, log), test.asks)
			checkAsks(t, NewItemBlock(reader, witness, log), test.asks)
			checkAsks(t, NewPodItemBlock(reader, witness, log), test.asks)
			checkAsks(t, NewBackup(reader, witness, log), true)
		})
	}
}

// TestVeleroAsksForVerdictsWhenItsBackupsCannotBeRead: what is not known is not plain.
func TestVeleroAsksForVerdictsWhenItsBackupsCannotBeRead(t *testing.T) {
	log, hook := logtest.NewNullLogger()
	checkAsks(t, NewConsistency(refusing{}, NewWitness(), log), true)
	if entry := hook.LastEntry(); entry == nil || entry.Data["error"] == nil {
		t.Errorf("no line with the error in the log, but %v", entry)
	}
}

// A refusing one lists one plain backup, and then fails.
type refusing struct{ Reader }

func (refusing) Each(_ context.Context, _ schema.GroupResource, visit func(map[string]any) error) error {
	return errors.Join(visit(plain.Object), errors.New("forbidden"))
}

func checkAsks(t *testing.T, action velero.Applicable, want bool) {
	t.Helper()
	selector, err := action.AppliesTo()
	if err != nil {
		t.Fatal(err)
	}
	byLabel, err := labels.Parse(selector.LabelSelector)
	if err != nil {
		t.Fatal(err)
	}
	launcher := labels.Set{kubevirt.PodRoleLabel: kubevirt.LauncherRole}
	if asks := byLabel.Matches(launcher) || byLabel.Matches(labels.Set{}); asks != want {
		t.Errorf("%T is asked with %v", action, selector)
	}
}
