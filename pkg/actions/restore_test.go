package actions

import (
	"testing"

	logtest "github.com/sirupsen/logrus/hooks/test"
	velerov1 "github.com/vmware-tanzu/velero/pkg/apis/velero/v1"
	"github.com/vmware-tanzu/velero/pkg/plugin/velero"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"

	"velero-plugin-for-kubevirt/pkg/cluster"
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
		reader Reader
		want   int
	}{
		"seen":     {reader, 0},
		"not seen": {blind{reader, kubevirt.PersistentVolumeClaims}, 1},
	} {
		t.Run(name, func(t *testing.T) {
			log, _ := logtest.NewNullLogger()
			output, err := NewRestore(test.reader, nil, log).Execute(&velero.RestoreItemActionExecuteInput{
				Item: vm.DeepCopy(), ItemFromBackup: vm.DeepCopy(), Restore: &velerov1.Restore{},
			})
			if err != nil {
				t.Fatal(err)
			}
			if len(output.AdditionalItems) != test.want {
				t.Errorf("additional items: %v, want %d", output.AdditionalItems, test.want)
			}
		})
	}
}
