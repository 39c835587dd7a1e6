// Package cli is what a person sees who starts the binary. A command gathers, decides with the functions that the plugin runs, and prints.
package cli

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/signal"
	"path/filepath"
	"strings"
	"syscall"

	"github.com/go-logr/logr"
	"github.com/spf13/cobra"
	"k8s.io/klog/v2"
)

const program = "velero-plugin-for-kubevirt"

// Exit codes of every command.
const (
	exitGood    = 0 // all is as it should be
	exitNotGood = 1 // something is not: the command found that out, which is what it is for
	exitUnknown = 2 // it could not find out: usage, connection, unreadable file
)

// notGood is the error by which a command says what it found to be not as it should be. Any other error means that it could not find out.
type notGood string

func (e notGood) Error() string { return string(e) }

// groups are the commands in the order of an operator's week.
var groups = []struct {
	id, title string
	commands  []func() *cobra.Command
}{
	{"before", "Before a backup:", []func() *cobra.Command{newCheck, newGraph, newPolicy}},
	{"backup", "Is the backup good:", []func() *cobra.Command{newVerify, newDrill}},
	{"after", "After something went wrong:", []func() *cobra.Command{newRollback}},
}

// Run executes a command line, the program's name first, and returns the exit code.
func Run(version string, args []string, stdout, stderr io.Writer) int {
	klog.SetLogger(logr.Discard()) // client-go logs what it returns as an error, too
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	context.AfterFunc(ctx, stop) // the second Ctrl-C ends the program at once
	root := newRoot(version, filepath.Base(args[0]))
	root.SetArgs(args[1:])
	root.SetOut(stdout)
	root.SetErr(stderr)
	err := root.ExecuteContext(ctx)
	if err == nil {
		return exitGood
	}
	var found notGood
	if errors.As(err, &found) {
		fmt.Fprintln(stderr, printableLines(err.Error()))
		return exitNotGood
	}
	fmt.Fprintf(stderr, "Error: %s\n", printableLines(err.Error()))
	return exitUnknown
}

func newRoot(version, calledAs string) *cobra.Command {
	root := &cobra.Command{
		Use:   program,
		Short: "Back up and restore KubeVirt virtual machines with Velero",
		Long: `A Velero plugin that backs up and restores KubeVirt virtual machines whole.

Velero starts this program by itself, once it is in the server's plugin folder:

  velero plugin add IMAGE

and it is used through "velero backup create", "velero restore create" and schedules.

Exit code: 0 when all is good, 1 when something is not, 2 when that could not be found out.`,
		SilenceErrors: true,
		SilenceUsage:  true,
	}
	root.CompletionOptions.HiddenDefaultCmd = true
	for _, group := range groups {
		root.AddGroup(&cobra.Group{ID: group.id, Title: group.title})
		for _, newCommand := range group.commands {
			command := newCommand()
			command.GroupID = group.id
			root.AddCommand(command)
		}
	}
	root.AddCommand(newInstall(), newVersion(version))
	present(root, calledAs)
	return root
}

// present makes help texts name the program as it was called: kubectl runs kubectl-vmbackup as "kubectl vmbackup".
func present(root *cobra.Command, calledAs string) {
	plugin, isPlugin := strings.CutPrefix(strings.TrimSuffix(calledAs, ".exe"), "kubectl-")
	if !isPlugin {
		return
	}
	name := "kubectl " + strings.ReplaceAll(plugin, "_", "-")
	root.Annotations = map[string]string{cobra.CommandDisplayNameAnnotation: name}
	for _, command := range root.Commands() {
		command.Example = strings.ReplaceAll(command.Example, program, name)
	}
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
