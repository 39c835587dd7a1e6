package story

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"strings"

	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/clientcmd"
)

// Existing returns the cluster that KUBECONFIG names, which has Velero with this plugin. The velero command must be in PATH;
// VELERO_NAMESPACE says where Velero runs if not in velero.
func Existing(ctx context.Context) (*Site, *rest.Config, error) {
	velero, err := exec.LookPath("velero")
	if err != nil {
		return nil, nil, fmt.Errorf("KUBECONFIG is set, so your cluster is used, and that needs your velero command: %w", err)
	}
	config, err := clientcmd.NewNonInteractiveDeferredLoadingClientConfig(clientcmd.NewDefaultClientConfigLoadingRules(), nil).ClientConfig()
	if err != nil {
		return nil, nil, fmt.Errorf("reading KUBECONFIG: %w", err)
	}
	namespace := "velero"
	if set := os.Getenv("VELERO_NAMESPACE"); set != "" {
		namespace = set
	}
	site, err := NewSite(config, namespace, func(ctx context.Context, args ...string) (string, error) {
		out, err := exec.CommandContext(ctx, velero, append([]string{"--namespace", namespace}, args...)...).CombinedOutput()
		if err != nil {
			return "", fmt.Errorf("velero %s: %w\n%s", strings.Join(args, " "), err, out)
		}
		return string(out), nil
	})
	if err != nil {
		return nil, nil, err
	}
	plugins, err := site.Velero(ctx, "plugin", "get")
	if err != nil {
		return nil, nil, err
	}
	if !strings.Contains(plugins, "velero-plugin-for-kubevirt/") {
		return nil, nil, errors.New("the plugin is not in this cluster's Velero: add it with \"velero plugin add IMAGE\"")
	}
	return site, config, nil
}
