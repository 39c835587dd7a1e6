package restore

import (
	"context"
	"maps"
	"slices"
	"strings"
	"testing"

	"github.com/sirupsen/logrus"
	logtest "github.com/sirupsen/logrus/hooks/test"
	velerov1 "github.com/vmware-tanzu/velero/pkg/apis/velero/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	kyaml "sigs.k8s.io/yaml"

	"velero-plugin-for-kubevirt/pkg/cluster"
	"velero-plugin-for-kubevirt/pkg/graph"
	"velero-plugin-for-kubevirt/pkg/kubevirt"
	"velero-plugin-for-kubevirt/pkg/object"
)

// storage plays a cluster that is written to, and whose storage says one thing of every snapshot.
type storage struct {
	says    map[string]any
	objects map[string]map[string]any // what was created, by name
	patches map[string]string         // by name
}

func (s *storage) Create(_ context.Context, id kubevirt.ID, obj map[string]any) (map[string]any, error) {
	s.objects[id.Name] = obj
	return obj, nil
}

func (s *storage) Delete(_ context.Context, id kubevirt.ID) error {
	delete(s.objects, id.Name)
	return nil
}

func (s *storage) Follow(_ context.Context, query graph.Query, visit func(map[string]any, bool)) error {
	visit(map[string]any{"metadata": map[string]any{"name": strings.TrimPrefix(query.Fields, "metadata.name=")}, "status": s.says}, false)
	return context.DeadlineExceeded
}

func (s *storage) Patch(_ context.Context, id kubevirt.ID, patch []byte) error {
	s.patches[id.Name] = string(patch)
	return nil
}

func item(t *testing.T, text string) *unstructured.Unstructured {
	t.Helper()
	obj := &unstructured.Unstructured{}
	if err := kyaml.Unmarshal([]byte(text), &obj.Object); err != nil {
		t.Fatal(err)
	}
	return obj
}

const (
	photo = `{apiVersion: snapshot.kubevirt.io/v1beta1, kind: VirtualMachineSnapshot, metadata: {namespace: shop, name: photo}, spec: {},
  status: {phase: Succeeded, virtualMachineSnapshotContentName: roll}}`
	roll = `{apiVersion: snapshot.kubevirt.io/v1beta1, kind: VirtualMachineSnapshotContent, metadata: {namespace: shop, name: roll, uid: roll-uid, annotations: {
  velero.kubevirt.io/volume-snapshots-on-storage: '{"root": {"driver": "d", "source": {"snapshotHandle": "h"}, "volumeSnapshotClassName": "fast"}}'}},
  spec: {volumeBackups: [{volumeSnapshotName: data}, {volumeSnapshotName: gone}, {volumeSnapshotName: root}]}}`
	class = `{apiVersion: snapshot.storage.k8s.io/v1, kind: VolumeSnapshotClass, metadata: {name: fast}}`
)

func TestASnapshotComesBackWithWhatTheStorageHas(t *testing.T) {
	ready := map[string]any{"readyToUse": true}
	for name, c := range map[string]struct {
		says    map[string]any
		there   string // besides
		left    bool
		warned  bool
		wrong   bool
		created int
		class   any // of the VolumeSnapshotContent
	}{
		"the storage has it":                       {says: ready, there: class, created: 2, class: "fast"},
		"the class is gone":                        {says: ready, created: 2},
		"the storage has it not":                   {says: map[string]any{"error": map[string]any{"message": "not found"}}, left: true, warned: true},
		"the storage says nothing":                 {wrong: true},
		"the VolumeSnapshot is in the cluster":     {there: `{apiVersion: snapshot.storage.k8s.io/v1, kind: VolumeSnapshot, metadata: {namespace: branch, name: root}}`},
		"one of that name is in the old namespace": {says: ready, created: 2, there: `{apiVersion: snapshot.storage.k8s.io/v1, kind: VolumeSnapshot, metadata: {namespace: shop, name: root}}`},
	} {
		t.Run(name, func(t *testing.T) {
			var objects []*unstructured.Unstructured
			if c.there != "" {
				objects = append(objects, item(t, c.there))
			}
			writer, content := &storage{says: c.says, objects: map[string]map[string]any{}}, item(t, roll)
			log, hook := logtest.NewNullLogger()
			id := kubevirt.ID{GroupResource: kubevirt.VirtualMachineSnapshotContents, Namespace: "shop", Name: "roll"}
			restore := &velerov1.Restore{Spec: velerov1.RestoreSpec{NamespaceMapping: map[string]string{"shop": "branch"}}}
			answer, err := NewRun(cluster.FromObjects(objects), writer, log).Restore(t.Context(), id, content.DeepCopy().Object, content.Object, restore)
			if answer.LeaveOut != c.left || (err != nil) != c.wrong || len(writer.objects) != c.created {
				t.Errorf("%+v, %v, made %v", answer, err, writer.objects)
			}
			warned := slices.ContainsFunc(hook.AllEntries(), func(e *logrus.Entry) bool { return e.Level == logrus.WarnLevel })
			if warned != c.warned {
				t.Errorf("a warning is logged: %v", warned)
			}
			if snapshot := writer.objects["root"]; snapshot != nil {
				of, _ := object.String(snapshot, "spec.source.volumeSnapshotContentName")
				spec, _ := object.Map(writer.objects[of], "spec")
				if object.Namespace(snapshot) != "branch" || spec["volumeSnapshotClassName"] != c.class {
					t.Errorf("made %v", writer.objects)
				}
			}
		})
	}
}

func TestASnapshotOwnsItsVolumeSnapshotsThroughItsContent(t *testing.T) {
	owned := `{apiVersion: snapshot.storage.k8s.io/v1, kind: VolumeSnapshot, metadata: {namespace: shop, name: data, ownerReferences: [{kind: Other, name: o, uid: o, controller: true}]}}`
	reader := cluster.FromObjects([]*unstructured.Unstructured{
		item(t, roll), item(t, `{apiVersion: snapshot.storage.k8s.io/v1, kind: VolumeSnapshot, metadata: {namespace: shop, name: root}}`), item(t, owned),
	})
	writer, snapshot := &storage{patches: map[string]string{}}, item(t, photo)
	log, _ := logtest.NewNullLogger()
	id := kubevirt.ID{GroupResource: kubevirt.VirtualMachineSnapshots, Namespace: "shop", Name: "photo"}
	answer, err := NewRun(reader, writer, log).Restore(t.Context(), id, snapshot.DeepCopy().Object, snapshot.Object, &velerov1.Restore{})
	if err != nil || answer != (Answer{}) {
		t.Fatalf("%+v, %v", answer, err)
	}
	want := map[string]string{"root": `{"metadata":{"ownerReferences":[{"apiVersion":"snapshot.kubevirt.io/v1beta1","blockOwnerDeletion":true,` +
		`"controller":true,"kind":"VirtualMachineSnapshotContent","name":"roll","uid":"roll-uid"}]}}`}
	if !maps.Equal(writer.patches, want) {
		t.Errorf("patches: %v", writer.patches)
	}
}
