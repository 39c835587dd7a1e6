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
	"velero-plugin-for-kubevirt/pkg/backup"
	"velero-plugin-for-kubevirt/pkg/cli"
	"velero-plugin-for-kubevirt/pkg/cluster"
	"velero-plugin-for-kubevirt/pkg/restore"
)

// version is set by the build: -ldflags "-X main.version=…".
var version = "devel"

func main() {
	handshake := framework.Handshake()
	if os.Getenv(handshake.MagicCookieKey) == handshake.MagicCookieValue {
		serve()
		return
	}
	os.Exit(cli.Run(version, os.Args, os.Stdout, os.Stderr))
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
	backups := oneRun(live, func(c *cluster.Live, log logrus.FieldLogger) *backup.Run {
		return backup.NewRun(c, backup.Discover(c.Discovery), c, log)
	})
	restores := oneRun(live, func(c *cluster.Live, log logrus.FieldLogger) *restore.Run {
		return restore.NewRun(c, c, log)
	})

	server.
		RegisterBackupItemAction("velero-plugin-for-kubevirt/backup", sharing(backups, actions.NewBackup)).
		RegisterBackupItemAction("velero-plugin-for-kubevirt/backup-datavolumes", sharing(backups, actions.NewDataVolumeBackup)).
		RegisterBackupItemActionV2("velero-plugin-for-kubevirt/backup-claims", sharing(backups, actions.NewClaims)).
		RegisterBackupItemAction("velero-plugin-for-kubevirt/consistency", sharing(backups, actions.NewConsistency)).
		RegisterDeleteItemAction("velero-plugin-for-kubevirt/delete", sharing(backups, actions.NewDelete)).
		RegisterItemBlockAction("velero-plugin-for-kubevirt/itemblock", sharing(backups, actions.NewItemBlock)).
		RegisterItemBlockAction("velero-plugin-for-kubevirt/itemblock-pods", sharing(backups, actions.NewPodItemBlock)).
		RegisterRestoreItemAction("velero-plugin-for-kubevirt/bring-first", sharing(restores, actions.NewBringFirst)).
		RegisterRestoreItemActionV2("velero-plugin-for-kubevirt/restore", sharing(restores, actions.NewRestore)).
		RegisterRestoreItemAction("velero-plugin-for-kubevirt/restore-pods", sharing(restores, actions.NewPodRestore)).
		RegisterRestoreItemAction("velero-plugin-for-kubevirt/restore-exporters", sharing(restores, actions.NewExporterRestore)).
		RegisterRestoreItemAction("velero-plugin-for-kubevirt/restore-cdi-pods", sharing(restores, actions.NewCDIPodRestore)).
		Serve()
}

// A runOf returns the run that a process serves.
type runOf[Run any] func(logrus.FieldLogger) (*Run, error)

// oneRun makes a run with the first action that needs it: Velero starts a plugin process for each backup and restore.
func oneRun[Run any](live func() (*cluster.Live, error), newRun func(*cluster.Live, logrus.FieldLogger) *Run) runOf[Run] {
	var once sync.Once
	var run *Run
	return func(log logrus.FieldLogger) (*Run, error) {
		c, err := live()
		if err != nil {
			return nil, err
		}
		once.Do(func() { run = newRun(c, log) })
		return run, nil
	}
}

// sharing makes an initializer for an action; all actions share the run.
func sharing[Run, Action any](run runOf[Run], newAction func(*Run) Action) common.HandlerInitializer {
	return func(log logrus.FieldLogger) (any, error) {
		shared, err := run(log)
		if err != nil {
			return nil, err
		}
		return newAction(shared), nil
	}
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
