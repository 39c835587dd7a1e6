// Command velero-plugin-for-kubevirt backs up and restores KubeVirt virtual machines. Started by Velero it serves the
// plugin's actions; started by a person it is a small CLI.
package main

import (
	"fmt"
	"os"
	"sync"
	"time"

	"github.com/sirupsen/logrus"
	"github.com/spf13/pflag"
	"github.com/vmware-tanzu/velero/pkg/plugin/framework"
	"github.com/vmware-tanzu/velero/pkg/plugin/framework/common"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/clientcmd"

	"velero-plugin-for-kubevirt/pkg/actions"
	"velero-plugin-for-kubevirt/pkg/cli"
	"velero-plugin-for-kubevirt/pkg/cluster"
)

// version is set by the build: -ldflags "-X main.version=…".
var version = "devel"

func main() {
	handshake := framework.Handshake()
	if os.Getenv(handshake.MagicCookieKey) == handshake.MagicCookieValue {
		serve()
		return
	}
	os.Exit(cli.Run(version, os.Args[1:], os.Stdout, os.Stderr))
}

// serve answers Velero's calls until Velero ends the process.
func serve() {
	flags := pflag.NewFlagSet("plugin", pflag.ContinueOnError)
	// Velero passes its server's flags on; a server outside the cluster is given these two.
	kubeconfig := flags.String("kubeconfig", "", "")
	kubecontext := flags.String("kubecontext", "", "")
	server := framework.NewServer().BindFlags(flags)
	live := sync.OnceValues(func() (*cluster.Live, error) {
		config, err := restConfig(*kubeconfig, *kubecontext)
		if err != nil {
			return nil, err
		}
		return cluster.NewLive(config)
	})
	witness := actions.NewWitness()

	server.
		RegisterBackupItemAction("velero-plugin-for-kubevirt/backup", witnesses(live, witness, actions.NewBackup)).
		RegisterBackupItemAction("velero-plugin-for-kubevirt/backup-datavolumes", witnesses(live, witness, actions.NewDataVolumeBackup)).
		RegisterBackupItemAction("velero-plugin-for-kubevirt/consistency", witnesses(live, witness, actions.NewConsistency)).
		RegisterItemBlockAction("velero-plugin-for-kubevirt/itemblock", witnesses(live, witness, actions.NewItemBlock)).
		RegisterItemBlockAction("velero-plugin-for-kubevirt/itemblock-pods", witnesses(live, witness, actions.NewPodItemBlock)).
		RegisterRestoreItemActionV2("velero-plugin-for-kubevirt/restore", func(log logrus.FieldLogger) (any, error) {
			c, err := live()
			if err != nil {
				return nil, err
			}
			return actions.NewRestore(c, c.Patch, log), nil
		}).
		RegisterRestoreItemAction("velero-plugin-for-kubevirt/restore-pods", reads(live, actions.NewPodRestore)).
		RegisterRestoreItemAction("velero-plugin-for-kubevirt/restore-exporters", reads(live, actions.NewExporterRestore)).
		RegisterRestoreItemAction("velero-plugin-for-kubevirt/restore-cdi-pods", reads(live, actions.NewCDIPodRestore)).
		Serve()
}

// reads makes an initializer for an action that reads the cluster; all of them share one reader.
func reads[Action any](live func() (*cluster.Live, error), newAction func(actions.Reader, logrus.FieldLogger) Action) common.HandlerInitializer {
	return func(log logrus.FieldLogger) (any, error) {
		reader, err := live()
		if err != nil {
			return nil, err
		}
		return newAction(reader, log), nil
	}
}

// witnesses makes an initializer for an action of a backup; all of them share one witness, too.
func witnesses[Action any](live func() (*cluster.Live, error), witness *actions.Witness, newAction func(actions.Reader, *actions.Witness, logrus.FieldLogger) Action) common.HandlerInitializer {
	return reads(live, func(reader actions.Reader, log logrus.FieldLogger) Action { return newAction(reader, witness, log) })
}

// restConfig finds the cluster as kubectl and Velero do: by flag, by KUBECONFIG, else the cluster this runs in.
func restConfig(kubeconfig, kubecontext string) (*rest.Config, error) {
	rules := clientcmd.NewDefaultClientConfigLoadingRules()
	rules.ExplicitPath = kubeconfig
	overrides := &clientcmd.ConfigOverrides{CurrentContext: kubecontext}
	config, err := clientcmd.NewNonInteractiveDeferredLoadingClientConfig(rules, overrides).ClientConfig()
	if err != nil {
		return nil, fmt.Errorf("finding the cluster: %w", err)
	}
	config.UserAgent = "velero-plugin-for-kubevirt/" + version
	config.Timeout = 30 * time.Second // a page of a list; without it a server that hangs hangs the backup
	config.QPS = -1                   // a handful of lists: the server's own flow control is enough
	return config, nil
}
