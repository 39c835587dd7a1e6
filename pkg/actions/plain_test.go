package actions

import (
	"context"
	"errors"
	"maps"
	"slices"
	"testing"
	"testing/synctest"

	logtest "github.com/sirupsen/logrus/hooks/test"
	"github.com/vmware-tanzu/velero/pkg/plugin/velero"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/runtime/schema"

	"velero-plugin-for-kubevirt/pkg/cluster"
	"velero-plugin-for-kubevirt/pkg/graph"
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

// instanceIn returns a VirtualMachineInstance in a namespace, of an owner of this kind or of its own.
func instanceIn(namespace, owner string) *unstructured.Unstructured {
	vmi := &unstructured.Unstructured{Object: map[string]any{"apiVersion": "kubevirt.io/v1", "kind": "VirtualMachineInstance"}}
	vmi.SetNamespace(namespace)
	vmi.SetName("web")
	if owner != "" {
		yes := true
		vmi.SetOwnerReferences([]metav1.OwnerReference{{APIVersion: "kubevirt.io/v1", Kind: owner, Name: "web", UID: "uid", Controller: &yes}})
	}
	return vmi
}

// TestAPlainBackupAsksForInstancesThatBelongToNoVM: those of VMs are restored by KubeVirt and get no verdict.
func TestAPlainBackupAsksForInstancesThatBelongToNoVM(t *testing.T) {
	of := func(namespaces ...any) *unstructured.Unstructured {
		return backupOf("InProgress", map[string]any{"snapshotVolumes": false, "includedNamespaces": namespaces})
	}
	for name, test := range map[string]struct {
		objects []*unstructured.Unstructured
		asks    bool
	}{
		"all of VMs":                         {objects: []*unstructured.Unstructured{of("shop"), instanceIn("shop", "VirtualMachine")}, asks: false},
		"none":                               {objects: []*unstructured.Unstructured{of("shop")}, asks: false},
		"of its own":                         {objects: []*unstructured.Unstructured{of("shop"), instanceIn("shop", "")}, asks: true},
		"of a replica set":                   {objects: []*unstructured.Unstructured{of("shop"), instanceIn("shop", "VirtualMachineInstanceReplicaSet")}, asks: true},
		"of its own, elsewhere":              {objects: []*unstructured.Unstructured{of("shop"), instanceIn("branch", "")}, asks: false},
		"of its own, in the second":          {objects: []*unstructured.Unstructured{of("shop", "branch"), instanceIn("branch", "")}, asks: true},
		"of its own, of any namespace":       {objects: []*unstructured.Unstructured{plain, instanceIn("branch", "")}, asks: true},
		"of its own, of all namespaces":      {objects: []*unstructured.Unstructured{of("*"), instanceIn("branch", "")}, asks: true},
		"of its own, of a pattern":           {objects: []*unstructured.Unstructured{of("bran?h"), instanceIn("branch", "")}, asks: true},
		"of its own, for the second backup":  {objects: []*unstructured.Unstructured{of("shop"), of("branch"), instanceIn("branch", "")}, asks: true},
		"of a VM, beside one with snapshots": {objects: []*unstructured.Unstructured{of("shop"), backupOf("InProgress", nil), instanceIn("shop", "VirtualMachine")}, asks: true},
	} {
		t.Run(name, func(t *testing.T) {
			checkAsksForInstances(t, cluster.FromObjects(test.objects), test.asks)
		})
	}
	t.Run("not known", func(t *testing.T) {
		checkAsksForInstances(t, blind{cluster.FromObjects([]*unstructured.Unstructured{plain}), kubevirt.VirtualMachineInstances}, true)
	})
}

// TestAPlainBackupReadsAhead: what its VMs lead to is there when Velero calls for the first of them.
func TestAPlainBackupReadsAhead(t *testing.T) {
	for name, test := range map[string]struct {
		spec map[string]any
		read []string
	}{
		"of one namespace":          {spec: map[string]any{"includedNamespaces": []any{"shop", "empty"}}, read: []string{"shop"}},
		"of all":                    {read: []string{"branch", "shop"}},
		"of all but one":            {spec: map[string]any{"excludedNamespaces": []any{"branch"}}, read: []string{"shop"}},
		"with snapshots":            {spec: map[string]any{"snapshotVolumes": true}},
		"with all its files copied": {spec: map[string]any{"defaultVolumesToFsBackup": true}},
	} {
		t.Run(name, func(t *testing.T) {
			spec := map[string]any{"snapshotVolumes": false}
			maps.Copy(spec, test.spec)
			synctest.Test(t, func(t *testing.T) {
				log, _ := logtest.NewNullLogger()
				reader := noting{secrets: map[string]bool{}, Reader: cluster.FromObjects([]*unstructured.Unstructured{
					backupOf("InProgress", spec), instanceIn("shop", "VirtualMachine"), instanceIn("branch", "VirtualMachine"),
				})}
				if _, err := NewBackup(reader, NewWitness(), log).AppliesTo(); err != nil {
					t.Fatal(err)
				}
				synctest.Wait()
				if got := slices.Sorted(maps.Keys(reader.secrets)); !slices.Equal(got, test.read) {
					t.Errorf("the secrets of %v are read, want those of %v", got, test.read)
				}
			})
		})
	}
}

// A noting one notes of which namespaces the secrets are listed.
type noting struct {
	Reader
	secrets map[string]bool
}

func (n noting) List(ctx context.Context, query graph.Query) (*graph.Objects, error) {
	if query.GroupResource == kubevirt.Secrets {
		n.secrets[query.Namespace] = true
	}
	return n.Reader.List(ctx, query)
}

// A blind one may not list one kind.
type blind struct {
	Reader
	to schema.GroupResource
}

func (b blind) List(ctx context.Context, query graph.Query) (*graph.Objects, error) {
	if query.GroupResource == b.to {
		return nil, errors.New("forbidden")
	}
	return b.Reader.List(ctx, query)
}

func checkAsksForInstances(t *testing.T, reader Reader, want bool) {
	t.Helper()
	log, _ := logtest.NewNullLogger()
	selector, err := NewBackup(reader, NewWitness(), log).AppliesTo()
	if err != nil {
		t.Fatal(err)
	}
	if asks := slices.Contains(selector.IncludedResources, kubevirt.VirtualMachineInstances.String()); asks != want {
		t.Errorf("the plugin is called for %v", selector.IncludedResources)
	}
	if !slices.Contains(selector.IncludedResources, kubevirt.VirtualMachines.String()) {
		t.Errorf("the plugin is not called for VMs, but for %v", selector.IncludedResources)
	}
}
