package cli

import (
	"fmt"

	"github.com/spf13/cobra"
	"sigs.k8s.io/yaml"

	"velero-plugin-for-kubevirt/pkg/kubevirt"
)

func newPolicy() *cobra.Command {
	var name, namespace string
	var drivers, classes []string
	cmd := &cobra.Command{
		Use:   "policy",
		Short: "Print the volume policy that freezes guests for the storage's own time",
		Long: `Print a ConfigMap with a volume policy of Velero, by which this plugin snapshots all disks of a VM at once:
a guest is frozen for as long as the storage needs, not for 5 s for each disk. Velero restores and deletes the
snapshots as its own. It needs Velero 1.18.

Without flags the policy is for all CSI volumes; with them, for those that fit one of them.`,
		Example: `  velero-plugin-for-kubevirt policy | kubectl apply -f -
  velero backup create nightly --include-namespaces shop --resource-policies-configmap one-cut`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			text, err := policy(namespace, name, drivers, classes)
			if err == nil {
				_, err = cmd.OutOrStdout().Write(text)
			}
			return err
		},
	}
	cmd.Flags().StringVar(&name, "name", "one-cut", "name of the ConfigMap")
	cmd.Flags().StringVarP(&namespace, "namespace", "n", "velero", "namespace that Velero runs in")
	cmd.Flags().StringArrayVar(&drivers, "driver", nil, "CSI driver whose volumes the policy is for; may be repeated")
	cmd.Flags().StringArrayVar(&classes, "storage-class", nil, "storage class whose volumes the policy is for; may be repeated")
	return cmd
}

// policy returns the ConfigMap as YAML. The format is Velero's (Velero 1.18.1, internal/resourcepolicies/resource_policies.go).
func policy(namespace, name string, drivers, classes []string) ([]byte, error) {
	var conditions []map[string]any
	for _, driver := range drivers {
		conditions = append(conditions, map[string]any{"csi": map[string]any{"driver": driver}})
	}
	if len(classes) > 0 {
		conditions = append(conditions, map[string]any{"storageClass": classes})
	}
	if conditions == nil {
		conditions = []map[string]any{{"csi": map[string]any{}}}
	}
	var volumes []map[string]any
	for _, condition := range conditions {
		volumes = append(volumes, map[string]any{
			"conditions": condition,
			"action":     map[string]any{"type": "custom", "parameters": map[string]any{"snapshotter": kubevirt.Snapshotter}},
		})
	}
	text, err := yaml.Marshal(map[string]any{"version": "v1", "volumePolicies": volumes})
	if err != nil {
		return nil, fmt.Errorf("writing the policy: %w", err)
	}
	return yaml.Marshal(map[string]any{
		"apiVersion": "v1", "kind": "ConfigMap", "metadata": map[string]any{"namespace": namespace, "name": name},
		"data": map[string]any{"policy.yaml": string(text)},
	})
}
