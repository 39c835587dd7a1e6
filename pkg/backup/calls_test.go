package backup

import (
	"context"
	"errors"
	"maps"
	"slices"
	"testing"
	"testing/synctest"

	logtest "github.com/sirupsen/logrus/hooks/test"
	"github.com/vmware-tanzu/velero/pkg/discovery"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime/schema"

	"velero-plugin-for-kubevirt/pkg/cluster"
	"velero-plugin-for-kubevirt/pkg/graph"
	"velero-plugin-for-kubevirt/pkg/kubevirt"
)

// unserved is for runs that are not asked for an item.
func unserved() (discovery.Helper, error) { return nil, errors.New("no cluster") }

// servedByTest knows every resource, each in a namespace.
func servedByTest() (discovery.Helper, error) { return anyResource{}, nil }

type anyResource struct{ discovery.Helper }

func (anyResource) ResourceFor(name schema.GroupVersionResource) (schema.GroupVersionResource, metav1.APIResource, error) {
	return name, metav1.APIResource{Name: name.Resource, Namespaced: true}, nil
}

// backupOf returns a Backup in a phase.
func backupOf(phase string, spec map[string]any) *unstructured.Unstructured {
	return &unstructured.Unstructured{Object: map[string]any{
		"apiVersion": "velero.io/v1", "kind": "Backup", "spec": spec, "status": map[string]any{"phase": phase},
	}}
}

// withoutItemBlocks is a backup that needs none.
var withoutItemBlocks = backupOf("InProgress", map[string]any{"snapshotVolumes": false})

// TestItemBlocksAreNeededUnlessNoBackupNeedsThem: a backup with snapshots for which the plugin is called too little freezes no guest.
func TestItemBlocksAreNeededUnlessNoBackupNeedsThem(t *testing.T) {
	for name, test := range map[string]struct {
		backups []*unstructured.Unstructured
		asks    bool
	}{
		"objects alone": {backups: []*unstructured.Unstructured{withoutItemBlocks}, asks: false},
		"objects alone, after one with snapshots":  {backups: []*unstructured.Unstructured{withoutItemBlocks, backupOf("Completed", nil)}, asks: false},
		"objects alone, beside one with snapshots": {backups: []*unstructured.Unstructured{withoutItemBlocks, backupOf("InProgress", nil)}, asks: true},
		"with snapshots unless told not to":        {backups: []*unstructured.Unstructured{backupOf("InProgress", map[string]any{"snapshotVolumes": true})}, asks: true},
		"by label":                                 {backups: []*unstructured.Unstructured{backupOf("InProgress", map[string]any{"snapshotVolumes": false, "labelSelector": map[string]any{"matchLabels": map[string]any{"app": "web"}}})}, asks: true},
		"by one of several labels":                 {backups: []*unstructured.Unstructured{backupOf("InProgress", map[string]any{"snapshotVolumes": false, "orLabelSelectors": []any{map[string]any{}}})}, asks: true},
		"with all files copied":                    {backups: []*unstructured.Unstructured{backupOf("InProgress", map[string]any{"snapshotVolumes": false, "defaultVolumesToFsBackup": true})}, asks: true},
		"finishing":                                {backups: []*unstructured.Unstructured{backupOf("Finalizing", map[string]any{"snapshotVolumes": false})}, asks: true},
		"none":                                     {asks: true},
	} {
		t.Run(name, func(t *testing.T) {
			log, _ := logtest.NewNullLogger()
			run := NewRun(cluster.FromObjects(test.backups), unserved, nil, log)
			if run.Calls().ItemBlocks != test.asks {
				t.Errorf("Velero has to call for %+v", run.Calls())
			}
		})
	}
}

// TestAllCallsAreNeededWhenBackupsCannotBeRead: what is not known may be needed.
func TestAllCallsAreNeededWhenBackupsCannotBeRead(t *testing.T) {
	log, hook := logtest.NewNullLogger()
	if calls := NewRun(refusing{}, unserved, nil, log).Calls(); calls != allCalls {
		t.Errorf("Velero has to call for %+v", calls)
	}
	if entry := hook.LastEntry(); entry == nil || entry.Data["error"] == nil {
		t.Errorf("no line with the error in the log, but %v", entry)
	}
}

// refusing is a reader that lists one backup without ItemBlocks, and then fails.
type refusing struct{ Reader }

func (refusing) Each(_ context.Context, _ schema.GroupResource, visit func(map[string]any) error) error {
	return errors.Join(visit(withoutItemBlocks.Object), errors.New("forbidden"))
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

// TestABackupWithoutItemBlocksIsCalledForInstancesThatBelongToNoVM: those of VMs are restored by KubeVirt and get no verdict.
func TestABackupWithoutItemBlocksIsCalledForInstancesThatBelongToNoVM(t *testing.T) {
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
		"of its own, of any namespace":       {objects: []*unstructured.Unstructured{withoutItemBlocks, instanceIn("branch", "")}, asks: true},
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
		checkAsksForInstances(t, forbidding{cluster.FromObjects([]*unstructured.Unstructured{withoutItemBlocks}), kubevirt.VirtualMachineInstances}, true)
	})
}

// TestABackupWithoutItemBlocksReadsAhead: what its VMs lead to is there when Velero calls for the first of them.
func TestABackupWithoutItemBlocksReadsAhead(t *testing.T) {
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
				reader := secretsRecorder{secrets: map[string]bool{}, Reader: cluster.FromObjects([]*unstructured.Unstructured{
					backupOf("InProgress", spec), instanceIn("shop", "VirtualMachine"), instanceIn("branch", "VirtualMachine"),
				})}
				NewRun(reader, servedByTest, nil, log).Calls()
				synctest.Wait()
				if got := slices.Sorted(maps.Keys(reader.secrets)); !slices.Equal(got, test.read) {
					t.Errorf("the secrets of %v are read, want those of %v", got, test.read)
				}
			})
		})
	}
}

// secretsRecorder is a reader that records of which namespaces the secrets are listed.
type secretsRecorder struct {
	Reader
	secrets map[string]bool
}

func (n secretsRecorder) List(ctx context.Context, query graph.Query) (*graph.Objects, error) {
	if query.GroupResource == kubevirt.Secrets {
		n.secrets[query.Namespace] = true
	}
	return n.Reader.List(ctx, query)
}

// forbidding is a reader that may not list one kind.
type forbidding struct {
	Reader
	to schema.GroupResource
}

func (f forbidding) List(ctx context.Context, query graph.Query) (*graph.Objects, error) {
	if query.GroupResource == f.to {
		return nil, errors.New("forbidden")
	}
	return f.Reader.List(ctx, query)
}

func checkAsksForInstances(t *testing.T, reader Reader, want bool) {
	t.Helper()
	log, _ := logtest.NewNullLogger()
	if calls := NewRun(reader, unserved, nil, log).Calls(); calls.Instances != want {
		t.Errorf("Velero has to call for %+v", calls)
	}
}
