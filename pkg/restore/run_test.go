package restore

import (
	"context"
	"errors"
	"testing"

	"github.com/sirupsen/logrus"
	logtest "github.com/sirupsen/logrus/hooks/test"
	velerov1 "github.com/vmware-tanzu/velero/pkg/apis/velero/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime/schema"

	"velero-plugin-for-kubevirt/pkg/cluster"
	"velero-plugin-for-kubevirt/pkg/graph"
	"velero-plugin-for-kubevirt/pkg/kubevirt"
)

// TestARestoreNamesWhatItCannotSee: what may not be there yet must come before the VM.
func TestARestoreNamesWhatItCannotSee(t *testing.T) {
	claim := &unstructured.Unstructured{Object: map[string]any{
		"apiVersion": "v1", "kind": "PersistentVolumeClaim", "metadata": map[string]any{"namespace": "shop", "name": "root"},
	}}
	vm := &unstructured.Unstructured{Object: map[string]any{
		"apiVersion": "kubevirt.io/v1", "kind": "VirtualMachine",
		"metadata": map[string]any{"namespace": "shop", "name": "web", "annotations": map[string]any{kubevirt.AdditionalItems: `["persistentvolumeclaims/shop/root"]`}},
		"spec":     map[string]any{"runStrategy": "Always", "template": map[string]any{"spec": map[string]any{"domain": map[string]any{}}}},
	}}
	reader := cluster.FromObjects([]*unstructured.Unstructured{claim})
	for name, test := range map[string]struct {
		reader graph.Reader
		want   int
		logged int
	}{
		"seen":     {reader, 0, 0},
		"not seen": {forbidding{reader, kubevirt.PersistentVolumeClaims}, 1, 1},
	} {
		t.Run(name, func(t *testing.T) {
			log, hook := logtest.NewNullLogger()
			log.SetLevel(logrus.DebugLevel)
			id := kubevirt.ID{GroupResource: kubevirt.VirtualMachines, Namespace: "shop", Name: "web"}
			ids, err := NewRun(test.reader, nil, log).BringFirst(t.Context(), id, vm.DeepCopy().Object, vm.DeepCopy().Object, &velerov1.Restore{})
			if err != nil {
				t.Fatal(err)
			}
			if len(ids) != test.want {
				t.Errorf("brought first: %v, want %d", ids, test.want)
			}
			if got := len(hook.AllEntries()); got != test.logged {
				t.Errorf("%d lines are logged, want %d", got, test.logged)
			}
		})
	}
}

// forbidding is a reader that may not list or go through one kind.
type forbidding struct {
	graph.Reader
	to schema.GroupResource
}

func (f forbidding) List(ctx context.Context, query graph.Query) (*graph.Objects, error) {
	if query.GroupResource == f.to {
		return nil, errors.New("forbidden")
	}
	return f.Reader.List(ctx, query)
}

func (f forbidding) Each(ctx context.Context, resource schema.GroupResource, visit func(map[string]any) error) error {
	if resource == f.to {
		return errors.New("forbidden")
	}
	return f.Reader.Each(ctx, resource, visit)
}

// TestAVMOnWhichAPersonHasToDecideStaysHeld: the restore does not wait for it, and says so as an error.
func TestAVMOnWhichAPersonHasToDecideStaysHeld(t *testing.T) {
	vm := &unstructured.Unstructured{Object: map[string]any{
		"apiVersion": "kubevirt.io/v1", "kind": "VirtualMachine",
		"metadata": map[string]any{"namespace": "shop", "name": "web", "annotations": map[string]any{
			kubevirt.HeldRunStrategy: "Always", kubevirt.HeldBecause: "nothing fills root",
		}},
		"spec": map[string]any{"runStrategy": "Halted", "template": map[string]any{"spec": map[string]any{"domain": map[string]any{}}}},
	}}
	writer := &storage{patches: map[string]string{}}
	log, _ := logtest.NewNullLogger()
	run := NewRun(cluster.FromObjects([]*unstructured.Unstructured{vm}), writer, log)
	progress := run.Progress(t.Context(), "shop/web")
	if len(writer.patches) > 0 {
		t.Error("the VM was released")
	}
	if want := "VirtualMachine shop/web is not started: nothing fills root"; !progress.Completed || progress.Err != want {
		t.Errorf("progress is %+v, want the error %q", progress, want)
	}
	if err := run.Cancel(t.Context(), "shop/web"); err != nil || len(writer.patches) > 0 {
		t.Errorf("cancelled: %v, changed %v", err, writer.patches)
	}
}
