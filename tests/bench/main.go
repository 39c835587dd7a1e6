// Command bench measures what a plugin costs: N running VMs are backed up, without snapshots, and restored by Velero alone,
// with a plugin that does nothing and with the one to measure, in turn, on a test cluster in which KubeVirt and CDI only
// store their objects.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"

	velerov1 "github.com/vmware-tanzu/velero/pkg/apis/velero/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"velero-plugin-for-kubevirt/tests/bench/snapshots"
	"velero-plugin-for-kubevirt/tests/cluster"
	"velero-plugin-for-kubevirt/tests/story"
)

type settings struct {
	plugin      string
	sizes       []int
	rounds      int
	phases      []string
	maxRestore  int
	spread      bool
	output      string
	plot        string
	write       string
	maxRatio    float64
	maxRequests float64

	snapshots bool
	cases     []snapshots.Case
	workers   []int
	check     bool
}

func main() {
	var s settings
	flag.StringVar(&s.plugin, "plugin", "bin/velero-plugin-for-kubevirt", "the plugin to measure")
	sizes := flag.String("n", "200,800,3200", "how many VMs, one run each")
	phases := flag.String("phases", Backup+","+Restore, "what is measured")
	flag.IntVar(&s.rounds, "rounds", 3, "how often each variant is measured with the most VMs; with fewer, up to three times as often")
	flag.IntVar(&s.maxRestore, "max-restore", 200, "of how many VMs restores are measured at most: 3,200 take an hour and more")
	flag.BoolVar(&s.spread, "spread", false, "put 20 VMs into each namespace, not all into one")
	flag.StringVar(&s.output, "o", "table", "table or json")
	flag.StringVar(&s.plot, "plot", "", "a file for a plot of cost against N, as SVG")
	flag.StringVar(&s.write, "write", "", "a file for the results, as JSON")
	flag.Float64Var(&s.maxRatio, "max-ratio", 0, "fail when a backup takes more than this many times what Velero alone takes, or a restore what the floor takes")
	flag.Float64Var(&s.maxRequests, "max-requests", 0, "fail when the plugin makes more API requests per VM in a backup")
	flag.BoolVar(&s.snapshots, "snapshots", false, "measure backups with snapshots instead: by Velero alone, with the plugin, and with its volume policy")
	cases := flag.String("cases", "1x1,1x2,1x4,1x8,10x2,50x2", "with -snapshots: how many VMs with how many disks of each")
	workers := flag.String("workers", "1,8", "with -snapshots: how many ItemBlocks Velero backs up at the same time")
	flag.BoolVar(&s.check, "check", false, "with -snapshots: fail when a target is missed")
	flag.Parse()
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	s.phases = strings.Split(*phases, ",")
	err := errors.Join(s.parse(*sizes), s.parseCases(*cases, *workers))
	switch {
	case err != nil:
	case s.snapshots:
		err = s.measureSnapshots(ctx)
	default:
		err = s.run(ctx)
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "bench:", err)
		os.Exit(1)
	}
}

func (s *settings) parse(sizes string) error {
	for text := range strings.SplitSeq(sizes, ",") {
		n, err := strconv.Atoi(text)
		if err != nil || n < 1 {
			return fmt.Errorf("-n: want numbers of VMs, found %q", text)
		}
		s.sizes = append(s.sizes, n)
	}
	for _, phase := range s.phases {
		if phase != Backup && (phase != Restore || s.phases[0] != Backup) {
			return fmt.Errorf("-phases: want backup, or backup,restore, found %q", s.phases)
		}
	}
	if s.rounds < 1 {
		return errors.New("-rounds: want at least 1")
	}
	if s.output != "table" && s.output != "json" {
		return fmt.Errorf("-o: want table or json, found %q", s.output)
	}
	return nil
}

func (s *settings) run(ctx context.Context) (err error) {
	dir, err := os.MkdirTemp("", "bench-")
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(dir)) }()
	if err := buildFloor(ctx, filepath.Join(dir, floor)); err != nil {
		return err
	}
	results, err := newResults(ctx, s)
	if err != nil {
		return err
	}
	for _, n := range s.sizes {
		if err := s.measureSize(ctx, n, dir, results); err != nil {
			return fmt.Errorf("with %d VMs: %w", n, err)
		}
	}
	if err := results.output(s); err != nil {
		return err
	}
	return results.check(s)
}

// floor is the name of the plugin that does nothing.
const floor = "noop"

func buildFloor(ctx context.Context, path string) error {
	out, err := exec.CommandContext(ctx, "go", "build", "-trimpath", "-ldflags", "-s -w", "-o", path, "./tests/bench/noop").CombinedOutput()
	if err != nil {
		return fmt.Errorf("building the plugin that does nothing: %w\n%s", err, out)
	}
	return nil
}

// start starts a cluster of VMs that need not run.
func start(ctx context.Context) (*cluster.Cluster, error) {
	return cluster.Start(ctx, cluster.Options{Progress: os.Stderr, Without: []string{cluster.KubeVirt, cluster.CDI}, APIServer: []string{
		// Velero lists ConfigMaps for each restored PVC and PV (Velero 1.18.1, pkg/restore/actions/change_storageclass_action.go). A
		// list from the API server's cache waits up to 100 ms for news from etcd (Kubernetes v1.36, pkg/storage/cacher), which would
		// hide what plugins cost.
		"--watch-cache-sizes=configmaps#0",
	}})
}

// A variant is Velero with a plugin or, with an empty path, alone.
type variant struct {
	name, path string
	arguments  []string // of "velero backup create"
}

// A bench is one cluster with VMs.
type bench struct {
	*cluster.Cluster
	site      *story.Site
	n         int
	in        []string // namespaces
	installed string
}

// measureSize measures all variants with n VMs, on a cluster of their own. All backups come first: they leave the VMs as they are.
func (s *settings) measureSize(ctx context.Context, n int, dir string, results *Results) (err error) {
	c, err := start(ctx)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, c.Stop()) }()
	site, err := story.NewSite(c.RESTConfig, cluster.VeleroNamespace, c.Velero)
	if err != nil {
		return err
	}
	b := &bench{Cluster: c, site: site, n: n, in: namespaces(n, s.spread)}
	started := time.Now()
	if err := load(ctx, c, n, b.in); err != nil {
		return err
	}
	fmt.Fprintf(os.Stderr, "%d running VMs in %d namespaces, made in %.0f s\n", n, len(b.in), time.Since(started).Seconds())
	variants := []variant{{name: Alone}, {name: Floor, path: filepath.Join(dir, floor)}, {name: Measured, path: s.plugin}}
	// The first backup of a cluster is faster than all that follow: its object store is empty.
	if _, err := b.measure(ctx, Backup, variant{name: "warm-up", path: variants[1].path}, 0); err != nil {
		return fmt.Errorf("warming up: %w", err)
	}
	// Single runs differ by a fifth and more, and small ones are soon made again.
	rounds := s.rounds * min(3, slices.Max(s.sizes)/n)
	for _, phase := range s.phases {
		if phase == Restore && n > s.maxRestore {
			continue
		}
		for round := range rounds {
			for _, v := range inTurn(variants, round) {
				if phase == Restore && v.name == Alone && round > 0 {
					continue // it restores more, takes long, and nothing is judged by it
				}
				sample, err := b.measure(ctx, phase, v, round)
				if err != nil {
					return fmt.Errorf("%s %d with %s: %w", phase, round+1, v.name, err)
				}
				fmt.Fprintf(os.Stderr, "%s %d of %d VMs, %-8s %6.2f s, CPU %6.2f s, plugin %5.2f s, %d requests, %d MiB\n",
					phase, round+1, n, v.name, sample.Seconds, sample.CPU, sample.Plugin, sample.Requests, sample.Bytes>>20)
				results.add(n, phase, v.name, sample)
			}
		}
	}
	return nil
}

// inTurn returns the variants in the order of a round. All orders come in turn: each variant follows each other as often.
func inTurn(variants []variant, round int) []variant {
	first := round % len(variants)
	order := slices.Concat(variants[first:], variants[:first])
	if round%2 == 1 {
		slices.Reverse(order)
	}
	return order
}

func (b *bench) measure(ctx context.Context, phase string, v variant, round int) (Sample, error) {
	if phase == Restore {
		if err := lose(ctx, b.site, b.in); err != nil {
			return Sample{}, err
		}
	}
	if err := b.install(ctx, v.path); err != nil {
		return Sample{}, err
	}
	name := fmt.Sprintf("%s-%d", v.name, round)
	arguments := []string{"backup", "create", name, "--include-namespaces", strings.Join(b.in, ","), "--snapshot-volumes=false", "--wait"}
	if phase == Restore {
		arguments = []string{"restore", "create", name, "--from-backup", name, "--wait"}
	}
	sample, err := measure(b.Cluster, filepath.Base(v.path), func() error {
		_, err := b.Velero(ctx, arguments...)
		return err
	})
	if err != nil {
		return Sample{}, err
	}
	return sample, b.wentWell(ctx, phase, name)
}

// wentWell checks that everything was done: what fails fast looks cheap.
func (b *bench) wentWell(ctx context.Context, phase, name string) error {
	key := client.ObjectKey{Namespace: cluster.VeleroNamespace, Name: name}
	if phase == Backup {
		var backup velerov1.Backup
		if err := b.site.Get(ctx, key, &backup); err != nil {
			return err
		}
		if status := backup.Status; status.Phase != velerov1.BackupPhaseCompleted || status.Warnings > 0 || status.Progress.ItemsBackedUp < len(kinds)*b.n {
			return fmt.Errorf("the backup is %s with %d warnings and %d items", status.Phase, status.Warnings, status.Progress.ItemsBackedUp)
		}
		return nil
	}
	var restore velerov1.Restore
	if err := b.site.Get(ctx, key, &restore); err != nil {
		return err
	}
	restored, err := count(ctx, b.site)
	if err != nil {
		return err
	}
	if status := restore.Status; status.Phase != velerov1.RestorePhaseCompleted || restored != b.n {
		return fmt.Errorf("the restore is %s with %d errors, and there are %d VMs", status.Phase, status.Errors, restored)
	}
	return nil
}

// install makes Velero run with the plugin and no other but its object store's. It restarts Velero in any case: the first backup after that
// takes a tenth longer. The server gets further arguments.
func (b *bench) install(ctx context.Context, plugin string, args ...string) error {
	before := b.installed
	b.installed = plugin
	return b.ReplacePlugin(ctx, before, plugin, args...)
}
