// Package cli is what a person sees who starts the binary.
package cli

import (
	"fmt"
	"io"

	"github.com/spf13/cobra"
)

// Run executes the command line args and returns the exit code: 0 on success, 1 when the command failed or was not
// understood.
func Run(version string, args []string, stdout, stderr io.Writer) int {
	root := newRoot(version)
	root.SetArgs(args)
	root.SetOut(stdout)
	root.SetErr(stderr)
	if err := root.Execute(); err != nil {
		fmt.Fprintf(stderr, "Error: %v\n", err)
		return 1
	}
	return 0
}

func newRoot(version string) *cobra.Command {
	root := &cobra.Command{
		Use:   "velero-plugin-for-kubevirt",
		Short: "Back up and restore KubeVirt virtual machines with Velero",
		Long: `A Velero plugin that backs up and restores KubeVirt virtual machines whole.

Velero starts this program by itself, once it is in the server's plugin folder:

  velero plugin add IMAGE

and it is used through "velero backup create", "velero restore create" and schedules.`,
		SilenceErrors: true,
		SilenceUsage:  true,
	}
	root.CompletionOptions.HiddenDefaultCmd = true
	root.AddCommand(newGraph(), newPolicy(), newInstall(), newVersion(version))
	return root
}

func newVersion(version string) *cobra.Command {
	return &cobra.Command{
		Use:   "version",
		Short: "Print the version",
		Args:  cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			_, err := fmt.Fprintln(cmd.OutOrStdout(), version)
			return err
		},
	}
}
