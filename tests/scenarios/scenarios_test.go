package scenarios

import (
	"context"
	"testing"

	"github.com/sirupsen/logrus"
	logtest "github.com/sirupsen/logrus/hooks/test"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/client/fake"

	"velero-plugin-for-kubevirt/pkg/actions"
	"velero-plugin-for-kubevirt/pkg/backup"
	"velero-plugin-for-kubevirt/pkg/cluster"
	"velero-plugin-for-kubevirt/pkg/graph"
	"velero-plugin-for-kubevirt/pkg/restore"
)

func TestActions(t *testing.T) {
	Run(t, ".", func(t *testing.T, objects []*unstructured.Unstructured) Plugin {
		log, hook := logtest.NewNullLogger()
		log.SetLevel(logrus.DebugLevel)
		reader := cluster.FromObjects(objects)
		run, restores := backup.NewRun(reader, Discovery, noSnapshots{}, log), restore.NewRun(reader, nil, log)
		return &inProcess{
			hook:   hook,
			backup: actions.NewBackup(run), ownDisk: actions.NewDataVolumeBackup(run),
			block: actions.NewItemBlock(run), podBlock: actions.NewPodItemBlock(run),
			consistency: actions.NewConsistency(run), claims: actions.NewClaims(run),
			restores: []RestoreAction{
				actions.NewBringFirst(restores), actions.NewRestore(restores),
				actions.NewPodRestore(restores), actions.NewExporterRestore(restores), actions.NewCDIPodRestore(restores),
			},
		}
	})
}

// noSnapshots is a storage that is never asked for any: the scenarios play what Velero has taken.
type noSnapshots struct{ backup.Storage }

func (noSnapshots) Client() (client.Client, error) {
	return fake.NewClientBuilder().Build(), nil
}

func (noSnapshots) Follow(ctx context.Context, _ graph.Query, _ func(map[string]any, bool)) error {
	<-ctx.Done()
	return ctx.Err()
}

// inProcess calls the actions directly. They live as long as the scenario, as they do in a plugin process.
type inProcess struct {
	hook            *logtest.Hook
	backup, ownDisk *actions.Backup
	block, podBlock *actions.ItemBlock
	consistency     *actions.Consistency
	claims          *actions.Claims
	restores        []RestoreAction
}

func (p *inProcess) Call(request Request, item, fromBackup *unstructured.Unstructured) (Reply, error) {
	p.hook.Reset()
	backup, block := p.backup, p.block
	switch item.GetKind() {
	case "Pod":
		block = p.podBlock
	case "DataVolume":
		backup = p.ownDisk
	}
	reply := Reply{Item: item}
	var err error
	switch request.Phase {
	case "backup":
		var updated runtime.Unstructured
		if item.GetKind() == "PersistentVolumeClaim" {
			updated, reply.AdditionalItems, _, _, err = p.claims.Execute(item, Backup(request))
		} else {
			updated, reply.AdditionalItems, err = backup.Execute(item, Backup(request))
		}
		if err == nil {
			reply.Item = &unstructured.Unstructured{Object: updated.UnstructuredContent()}
		}
	case "consistency":
		var updated runtime.Unstructured
		updated, reply.AdditionalItems, err = p.consistency.Execute(item, Backup(request))
		if err == nil {
			reply.Item = &unstructured.Unstructured{Object: updated.UnstructuredContent()}
		}
	case "itemblock":
		reply.Item = nil
		reply.AdditionalItems, err = block.GetRelatedItems(item, Backup(request))
	case "restore":
		err = RestoreBy(p.restores, item, fromBackup, Restore(request), &reply)
	}
	reply.Log = p.hook.AllEntries()
	return reply, err
}

// A change that Compare cannot see would make every scenario pass.
func TestCompareSeesEveryDifference(t *testing.T) {
	before := map[string]any{"metadata": map[string]any{"labels": map[string]any{"a.b/c": "x"}}, "spec": map[string]any{"list": []any{"a"}}}
	after := map[string]any{"metadata": map[string]any{"labels": map[string]any{}}, "spec": map[string]any{"list": []any{"b"}}, "status": map[string]any{}}
	got := Compare(before, after)
	for _, path := range []string{"metadata.labels[a.b/c]", "spec.list", "status"} {
		if _, found := got[path]; !found {
			t.Errorf("no change at %s in %v", path, got)
		}
	}
	if len(got) != 3 {
		t.Errorf("want 3 changes, got %v", got)
	}
}

// What Velero cuts off must be gone before the plugin sees an item to restore.
func TestAsRestoredDropsOwnersAndStatus(t *testing.T) {
	obj := &unstructured.Unstructured{Object: map[string]any{"status": map[string]any{"phase": "Running"}}}
	obj.SetUID("uid")
	obj.SetOwnerReferences([]metav1.OwnerReference{{Name: "owner"}})
	obj.SetLabels(map[string]string{"app": "web"})
	item := AsRestored(obj)
	if item.GetUID() != "" || item.GetOwnerReferences() != nil || item.Object["status"] != nil || item.GetLabels()["app"] != "web" {
		t.Errorf("got %v", item.Object)
	}
	if obj.GetUID() != "uid" {
		t.Error("the original was changed")
	}
}
