// Command demo shows the plugin's main job to a person: a running VM is backed up by Velero, lost with its namespace, and
// restored. It brings up a cluster of its own, or uses the one that KUBECONFIG names.
package main

import (
	"bytes"
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/signal"
	"syscall"
	"time"

	"velero-plugin-for-kubevirt/tests/cluster"
	"velero-plugin-for-kubevirt/tests/story"
)

func main() {
	plugin := flag.String("plugin", "bin/velero-plugin-for-kubevirt", "the built plugin")
	scenario := flag.String("scenario", "tests/scenarios/running-vm-with-every-volume-type", "the folder that describes the VM")
	check := flag.String("check", "", "the README whose sample must be what the demo prints")
	write := flag.String("write", "", "the README to write what the demo prints into")
	flag.Parse()
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	var printed bytes.Buffer
	err := run(ctx, *plugin, *scenario, io.MultiWriter(os.Stdout, &printed))
	if err == nil && *write != "" {
		err = writeSample(*write, printed.String())
	}
	if err == nil && *check != "" {
		err = checkSample(*check, printed.String())
	}
	if err != nil && ctx.Err() != nil {
		err = errors.New("interrupted")
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "demo:", err)
		os.Exit(1)
	}
}

func run(ctx context.Context, plugin, scenario string, out io.Writer) (err error) {
	if os.Getenv("KUBECONFIG") != "" {
		return onExistingCluster(ctx, scenario, out)
	}
	c, err := cluster.Start(ctx, cluster.Options{Progress: os.Stderr})
	if err != nil {
		return err
	}
	defer func() {
		fmt.Fprintln(os.Stderr, "stopping the cluster")
		if stopErr := c.Stop(); stopErr != nil {
			fmt.Fprintln(os.Stderr, stopErr) // says what is left, whatever else went wrong
			err = errors.Join(err, stopErr)
		}
	}()
	if err := c.InstallPlugin(ctx, plugin); err != nil {
		return err
	}
	site, err := story.NewSite(c.RESTConfig, cluster.VeleroNamespace, c.Velero)
	if err != nil {
		return err
	}
	objects, err := objectsOf(scenario)
	if err != nil {
		return err
	}
	c.Importer.Serve(imageURL, []byte("the image that the disk was imported from"))
	s := stage{site: site, disks: c, plugin: plugin}
	if err := s.make(ctx, madeByPeople(objects)); err != nil {
		return err
	}
	return s.tell(ctx, out)
}

// imageURL is where the scenario's VM gets its root disk from.
const imageURL = "https://images.example.com/linux.qcow2"

// suffix makes the names of the demo's backup and restore unique in a cluster that has seen it before.
func suffix() string { return time.Now().Format("20060102-150405") }
