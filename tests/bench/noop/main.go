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
	"k8s.io/apimachinery/pkg/runtime"

	"velero-plugin-for-kubevirt/pkg/actions"
)

func main() {
	flags := pflag.NewFlagSet("noop", pflag.ContinueOnError)
	// Velero passes its server's flags on.
	flags.String("kubeconfig", "", "")
	flags.String("kubecontext", "", "")
	server := framework.NewServer().BindFlags(flags)
	for name, action := range map[string]applicable{
		"bench/backup":             actions.NewBackup(nil, nil, nil),
		"bench/backup-datavolumes": actions.NewDataVolumeBackup(nil, nil, nil),
		"bench/consistency":        actions.NewConsistency(nil, nil, nil),
	} {
		server.RegisterBackupItemAction(name, serve(backup{action}))
	}
	for name, action := range map[string]applicable{
		"bench/itemblock":      actions.NewItemBlock(nil, nil, nil),
		"bench/itemblock-pods": actions.NewPodItemBlock(nil, nil, nil),
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
