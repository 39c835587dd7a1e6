// Command cluster runs the test cluster for a person.
package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/signal"
	"path/filepath"
	"syscall"

	"github.com/spf13/cobra"

	"velero-plugin-for-kubevirt/tests/cluster"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGINT, syscall.SIGTERM)
	err := command().ExecuteContext(ctx)
	stop()
	if err != nil {
		fmt.Fprintln(os.Stderr, "cluster:", err)
		os.Exit(1)
	}
}

func command() *cobra.Command {
	root := &cobra.Command{
		Use:           "cluster",
		Short:         "A Kubernetes API with Velero, KubeVirt, CDI and CSI storage, as plain processes on loopback",
		SilenceErrors: true,
		SilenceUsage:  true,
	}
	var options cluster.Options
	var plugin string
	up := &cobra.Command{
		Use:   "up",
		Short: "Build what is missing, run the cluster until Ctrl-C, and stop it",
		Args:  cobra.NoArgs,
		RunE:  func(cmd *cobra.Command, _ []string) error { return up(cmd.Context(), options, plugin) },
	}
	up.Flags().StringSliceVar(&options.Without, "without", nil, "what to leave out: "+cluster.KubeVirt+", "+cluster.CDI)
	up.Flags().StringVar(&options.Dir, "dir", "", "folder for logs and data (default: a temporary one, removed at the end)")
	up.Flags().StringVar(&plugin, "plugin", "", "binary of a plugin that Velero gets")
	up.Flags().StringToStringVar(&options.Releases, "release", nil, "another version of a component, such as velero=v1.17.2")
	build := &cobra.Command{
		Use:   "build",
		Short: "Only build everything",
		Args:  cobra.NoArgs,
		RunE:  func(cmd *cobra.Command, _ []string) error { return cluster.Build(cmd.Context(), os.Stderr) },
	}
	clean := &cobra.Command{
		Use:   "clean",
		Short: "Remove everything built",
		Args:  cobra.NoArgs,
		RunE:  func(*cobra.Command, []string) error { return cluster.CleanCache() },
	}
	root.AddCommand(up, build, clean)
	return root
}

func up(ctx context.Context, options cluster.Options, plugin string) (err error) {
	options.Progress = os.Stderr
	c, err := cluster.Start(ctx, options)
	if err != nil {
		return err
	}
	defer func() {
		fmt.Fprintln(os.Stderr, "stopping")
		err = errors.Join(err, c.Stop())
	}()
	if plugin != "" {
		if err := c.InstallPlugin(ctx, plugin); err != nil {
			return err
		}
	}
	fmt.Printf("export KUBECONFIG=%s PATH=%s:$PATH\n", c.Kubeconfig, filepath.Dir(c.Program("velero")))
	fmt.Fprint(os.Stderr, c.Describe(), "Ctrl-C stops it.\n")
	select {
	case <-ctx.Done():
	case <-c.Done():
	}
	return c.Err()
}
