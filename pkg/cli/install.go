package cli

import (
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"

	"github.com/spf13/cobra"
)

func newInstall() *cobra.Command {
	return &cobra.Command{
		Use:   "install DIR",
		Short: "Copy this program into DIR, Velero's plugin folder",
		Long: `Copy this program into DIR, Velero's plugin folder.

The container image runs "install /target": Velero starts a plugin's image as an init container and takes what it
finds in /target.`,
		Args: cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			target, err := install(args[0])
			if err != nil {
				return fmt.Errorf("installing into %s: %w", args[0], err)
			}
			_, err = fmt.Fprintln(cmd.OutOrStdout(), "installed", target)
			return err
		},
	}
}

// install copies the running program into dir under its own name. It writes beside the target and renames, so that Velero
// never starts half a file.
func install(dir string) (target string, err error) {
	self, err := os.Executable()
	if err != nil {
		return "", err
	}
	source, err := os.Open(self)
	if err != nil {
		return "", err
	}
	defer source.Close()
	part, err := os.CreateTemp(dir, ".velero-plugin-for-kubevirt-")
	if err != nil {
		return "", err
	}
	defer func() {
		if err != nil {
			err = errors.Join(err, os.Remove(part.Name()))
		}
	}()
	if _, err := io.Copy(part, source); err != nil {
		return "", err
	}
	if err := part.Chmod(0o755); err != nil {
		return "", err
	}
	if err := part.Close(); err != nil {
		return "", err
	}
	target = filepath.Join(dir, "velero-plugin-for-kubevirt")
	return target, os.Rename(part.Name(), target)
}
