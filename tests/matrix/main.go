// Command matrix runs a few stories with one build of the plugin against all releases of Velero and KubeVirt that a test
// cluster can have, and writes what came of it to results.json. README's compatibility table is made from that.
package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"time"

	"velero-plugin-for-kubevirt/tests/cluster"
)

// smoke are the stories: a VM is backed up by its namespace and by its label, stopped or running, with a hotplugged disk,
// and lost, restored, and runs again.
var smoke = []string{
	"TestKubeVirtRunsWhatWasRestored", "TestAStoppedVMComesBackWithItsDisk", "TestARunningVMComesBackWithItsClaim", "TestAHotpluggedDiskComesBack",
}

const file = "tests/matrix/results.json"

// Results are what the last run of the matrix found.
type Results struct {
	Date    string   `json:"date"`
	Stories []string `json:"stories"`
	Runs    []Run    `json:"runs"`
}

// A Run is the stories on one cluster.
type Run struct {
	Velero   string   `json:"velero"`
	KubeVirt string   `json:"kubevirt"`
	Passed   []string `json:"passed"`
}

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	if err := run(ctx); err != nil {
		fmt.Fprintln(os.Stderr, "matrix:", err)
		os.Exit(1)
	}
}

// run writes the results of a run that got to its end, whatever they are. Stories that did not pass are an error.
func run(ctx context.Context) error {
	results := Results{Date: time.Now().UTC().Format(time.DateOnly), Stories: smoke}
	program, err := build(ctx)
	if err != nil {
		return err
	}
	failed := 0
	for _, velero := range cluster.Releases("velero") {
		for _, kubevirt := range cluster.Releases("kubevirt") {
			started := time.Now()
			passed, err := tell(ctx, program, velero, kubevirt)
			if err != nil {
				return fmt.Errorf("running the stories on Velero %s and KubeVirt %s: %w", velero, kubevirt, err)
			}
			failed += len(smoke) - len(passed)
			fmt.Printf("Velero %s, KubeVirt %s: %d of %d stories pass, in %d s\n", velero, kubevirt, len(passed), len(smoke), int(time.Since(started).Seconds()))
			results.Runs = append(results.Runs, Run{Velero: velero, KubeVirt: kubevirt, Passed: passed})
		}
	}
	content, err := json.MarshalIndent(results, "", "  ")
	if err != nil {
		return err
	}
	if err := os.WriteFile(file, append(content, '\n'), 0o644); err != nil {
		return err
	}
	if failed > 0 {
		return fmt.Errorf("%d stories did not pass", failed)
	}
	return nil
}

// tell runs the stories on a cluster of two releases and returns those that pass. Their words are kept in a file, which is
// named if one fails.
func tell(ctx context.Context, program, velero, kubevirt string) ([]string, error) {
	said, err := os.Create(filepath.Join(os.TempDir(), fmt.Sprintf("matrix-velero-%s-kubevirt-%s.log", velero, kubevirt)))
	if err != nil {
		return nil, err
	}
	defer said.Close()
	test := exec.CommandContext(ctx, program, "-test.v", "-test.timeout", "60m", "-test.run", "^("+strings.Join(smoke, "|")+")$")
	test.Dir = "tests/e2e"
	test.Env = append(os.Environ(), "KUBECONFIG=", "CLUSTER_RELEASES=velero="+velero+",kubevirt="+kubevirt)
	test.Stdout, test.Stderr = said, said
	test.Cancel = func() error { return test.Process.Signal(os.Interrupt) } // it stops its cluster
	err = test.Run()
	var exit *exec.ExitError
	if err != nil && !errors.As(err, &exit) || ctx.Err() != nil {
		return nil, errors.Join(err, ctx.Err())
	}
	words, err := os.ReadFile(said.Name())
	if err != nil {
		return nil, err
	}
	passed := passing(string(words))
	if len(passed) < len(smoke) {
		fmt.Println("see", said.Name())
	}
	return passed, nil
}

// passing returns the stories that passed according to what go test says.
func passing(words string) []string {
	return slices.DeleteFunc(slices.Clone(smoke), func(story string) bool {
		return !strings.Contains(words, "\n--- PASS: "+story+" (")
	})
}

// build builds the stories.
func build(ctx context.Context) (program string, err error) {
	program, err = filepath.Abs("bin/e2e.test")
	if err != nil {
		return "", err
	}
	if out, err := exec.CommandContext(ctx, "go", "test", "-tags", "e2e", "-c", "-o", program, "./tests/e2e").CombinedOutput(); err != nil {
		return "", fmt.Errorf("building the stories: %w\n%s", err, out)
	}
	return program, nil
}
