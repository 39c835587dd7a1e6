// Command noop is a Velero plugin that is called for the same items as velero-plugin-for-kubevirt and does nothing, except
// that a restore leaves VirtualMachineInstances and KubeVirt's pods out. It is the floor of what a plugin with these actions
// can cost: what Velero's gRPC takes.
package main

import (
	"github.com/sirupsen/logrus"
	"github.com/spf13/pflag"
	velerov1 "github.com/vmware-tanzu/velero/pkg/apis/velero/v1"
	"github.com/vmware-tanzu/velero/pkg/plugin/framework"
	"github.com/vmware-tanzu/velero/pkg/plugin/framework/common"
	"github.com/vmware-tanzu/velero/pkg/plugin/velero"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime"

	"velero-plugin-for-kubevirt/pkg/actions"
	"velero-plugin-for-kubevirt/pkg/cluster"
)

// plain is a backup like those of the bench, which take no snapshots: it decides what Velero calls a plugin for.
var plain = &unstructured.Unstructured{Object: map[string]any{
	"apiVersion": "velero.io/v1", "kind": "Backup", "metadata": map[string]any{"name": "bench"},
	"spec": map[string]any{"snapshotVolumes": false}, "status": map[string]any{"phase": "InProgress"},
}}

func main() {
	flags := pflag.NewFlagSet("noop", pflag.ContinueOnError)
	// Velero passes its server's flags on.
	flags.String("kubeconfig", "", "")
	flags.String("kubecontext", "", "")
	server := framework.NewServer().BindFlags(flags)
	reader, witness := cluster.FromObjects([]*unstructured.Unstructured{plain}), actions.NewWitness()
	for name, action := range map[string]applicable{
		"bench/backup":             actions.NewBackup(reader, witness, nil),
		"bench/backup-datavolumes": actions.NewDataVolumeBackup(reader, witness, nil),
		"bench/consistency":        actions.NewConsistency(reader, witness, nil),
	} {
		server.RegisterBackupItemAction(name, serve(backup{action}))
	}
	for name, action := range map[string]applicable{
		"bench/itemblock":      actions.NewItemBlock(reader, witness, nil),
		"bench/itemblock-pods": actions.NewPodItemBlock(reader, witness, nil),
	} {
		server.RegisterItemBlockAction(name, serve(block{action}))
	}
	for name, action := range map[string]applicable{
		"bench/restore":           actions.NewRestore(nil, nil, nil),
		"bench/restore-pods":      actions.NewPodRestore(nil, nil),
		"bench/restore-exporters": actions.NewExporterRestore(nil, nil),
		"bench/restore-cdi-pods":  actions.NewCDIPodRestore(nil, nil),
	} {
		server.RegisterRestoreItemAction(name, serve(restore{action}))
	}
	server.Serve()
}

func serve(action any) common.HandlerInitializer {
	return func(logrus.FieldLogger) (any, error) { return action, nil }
}

// applicable is what the real action tells Velero about when to call it.
type applicable interface {
	AppliesTo() (velero.ResourceSelector, error)
}

type backup struct{ applicable }

// Execute returns the item as it came.
func (backup) Execute(item runtime.Unstructured, _ *velerov1.Backup) (runtime.Unstructured, []velero.ResourceIdentifier, error) {
	return item, nil, nil
}

type block struct{ applicable }

// GetRelatedItems knows none.
func (block) GetRelatedItems(runtime.Unstructured, *velerov1.Backup) ([]velero.ResourceIdentifier, error) {
	return nil, nil
}

// Name is required by Velero and never called.
func (block) Name() string { return "" }

type restore struct{ applicable }

// Execute leaves out what KubeVirt makes by itself.
//
//nolint:unparam // Velero wants it so
func (restore) Execute(input *velero.RestoreItemActionExecuteInput) (*velero.RestoreItemActionExecuteOutput, error) {
	output := velero.NewRestoreItemActionExecuteOutput(input.Item)
	switch kind := input.Item.UnstructuredContent()["kind"]; kind {
	case "Pod", "VirtualMachineInstance":
		return output.WithoutRestore(), nil
	}
	return output, nil
}
