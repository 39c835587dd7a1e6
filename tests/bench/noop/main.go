// Command noop is a Velero plugin that is called for the same items as velero-plugin-for-kubevirt and does nothing, except
// that a restore leaves VirtualMachineInstances and KubeVirt's pods out. It is the floor of what a plugin with these actions
// can cost: what Velero's gRPC takes.
package main

import (
	"errors"

	"github.com/sirupsen/logrus"
	"github.com/spf13/pflag"
	velerov1 "github.com/vmware-tanzu/velero/pkg/apis/velero/v1"
	"github.com/vmware-tanzu/velero/pkg/discovery"
	"github.com/vmware-tanzu/velero/pkg/plugin/framework"
	"github.com/vmware-tanzu/velero/pkg/plugin/framework/common"
	"github.com/vmware-tanzu/velero/pkg/plugin/velero"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime"

	"velero-plugin-for-kubevirt/pkg/actions"
	kvbackup "velero-plugin-for-kubevirt/pkg/backup"
	"velero-plugin-for-kubevirt/pkg/cluster"
)

// objectsAlone is a backup like those of the bench, which take no snapshots: it decides what Velero calls a plugin for.
var objectsAlone = &unstructured.Unstructured{Object: map[string]any{
	"apiVersion": "velero.io/v1", "kind": "Backup", "metadata": map[string]any{"name": "bench"},
	"spec": map[string]any{"snapshotVolumes": false}, "status": map[string]any{"phase": "InProgress"},
}}

func main() {
	flags := pflag.NewFlagSet("noop", pflag.ContinueOnError)
	// Velero passes its server's flags on.
	flags.String("kubeconfig", "", "")
	flags.String("kubecontext", "", "")
	server := framework.NewServer().BindFlags(flags)
	run := kvbackup.NewRun(cluster.FromObjects([]*unstructured.Unstructured{objectsAlone}), nothingServed, nil, logrus.New())
	for name, action := range map[string]applicable{
		"bench/backup":             actions.NewBackup(run),
		"bench/backup-datavolumes": actions.NewDataVolumeBackup(run),
		"bench/consistency":        actions.NewConsistency(run),
	} {
		server.RegisterBackupItemAction(name, serve(backup{action}))
	}
	for name, action := range map[string]applicable{
		"bench/itemblock":      actions.NewItemBlock(run),
		"bench/itemblock-pods": actions.NewPodItemBlock(run),
	} {
		server.RegisterItemBlockAction(name, serve(block{action}))
	}
	for name, action := range map[string]applicable{
		"bench/bring-first":       actions.NewBringFirst(nil),
		"bench/restore":           actions.NewRestore(nil),
		"bench/restore-pods":      actions.NewPodRestore(nil),
		"bench/restore-exporters": actions.NewExporterRestore(nil),
		"bench/restore-cdi-pods":  actions.NewCDIPodRestore(nil),
	} {
		server.RegisterRestoreItemAction(name, serve(restore{action}))
	}
	server.Serve()
}

// nothingServed: a plugin that does nothing asks for no filters.
func nothingServed() (discovery.Helper, error) { return nil, errors.New("not asked for") }

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
