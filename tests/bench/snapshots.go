package main

import (
	"bytes"
	"context"
	_ "embed"
	"errors"
	"fmt"
	"maps"
	"os"
	"os/exec"
	"slices"
	"strconv"
	"strings"
	"text/template"
	"time"

	velerov1 "github.com/vmware-tanzu/velero/pkg/apis/velero/v1"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"sigs.k8s.io/controller-runtime/pkg/client"

	vms "velero-plugin-for-kubevirt/pkg/cluster"
	"velero-plugin-for-kubevirt/tests/bench/snapshots"
	"velero-plugin-for-kubevirt/tests/cluster"
	"velero-plugin-for-kubevirt/tests/story"
)

// snapshotTemplate is a VM as a person writes it. KubeVirt and CDI run here, and the VM's guest is played: it is frozen and thawed by the real virt-freezer.
//
//go:embed snapshots.yaml
var snapshotTemplate string

var snapshotYAML = template.Must(template.New("vm").Parse(snapshotTemplate))

func (s *settings) parseCases(cases, workers string) error {
	for text := range strings.SplitSeq(cases, ",") {
		var c snapshots.Case
		if n, err := fmt.Sscanf(text, "%dx%d", &c.VMs, &c.Disks); n != 2 || c.VMs < 1 || c.Disks < 1 {
			return fmt.Errorf("-cases: want VMs and disks such as 10x2, found %q: %w", text, err)
		}
		s.cases = append(s.cases, c)
	}
	for text := range strings.SplitSeq(workers, ",") {
		n, err := strconv.Atoi(text)
		if err != nil || n < 1 {
			return fmt.Errorf("-workers: want numbers, found %q", text)
		}
		s.workers = append(s.workers, n)
	}
	return nil
}

// measureSnapshots measures all cases on one cluster, whose Velero polls and asks as often as people's.
func (s *settings) measureSnapshots(ctx context.Context) (err error) {
	info, err := os.Stat(s.plugin)
	if err != nil {
		return err
	}
	on, err := machine()
	if err != nil {
		return err
	}
	results := &snapshots.Results{Machine: on, BinaryMB: float64(info.Size()) / 1e6}
	c, err := cluster.Start(ctx, cluster.Options{Progress: os.Stderr, VeleroDefaults: true})
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, c.Stop()) }()
	site, err := story.NewSite(c.RESTConfig, cluster.VeleroNamespace, c.Velero)
	if err != nil {
		return err
	}
	b := &bench{Cluster: c, site: site}
	if err := b.loadPolicy(ctx, s.plugin); err != nil {
		return err
	}
	for _, of := range s.cases {
		if err := s.measureCase(ctx, b, of, results); err != nil {
			return fmt.Errorf("%d VMs with %d disks: %w", of.VMs, of.Disks, err)
		}
	}
	return s.outputSnapshots(results)
}

// loadPolicy makes the ConfigMap that the plugin prints.
func (b *bench) loadPolicy(ctx context.Context, plugin string) error {
	printed, err := exec.CommandContext(ctx, plugin, "policy").Output()
	if err != nil {
		return fmt.Errorf("printing the policy: %w", err)
	}
	objects, err := vms.ReadObjects(bytes.NewReader(printed))
	if err != nil {
		return err
	}
	return b.Load(ctx, objects)
}

// measureCase measures all variants with some VMs. Backups leave them as they are.
func (s *settings) measureCase(ctx context.Context, b *bench, of snapshots.Case, results *snapshots.Results) error {
	namespace := fmt.Sprintf("%s-%dx%d", mark, of.VMs, of.Disks)
	if err := b.runVMs(ctx, namespace, of); err != nil {
		return err
	}
	variants := []variant{
		{name: snapshots.Alone}, {name: snapshots.Ordered, path: s.plugin},
		{name: snapshots.OneCut, path: s.plugin, arguments: []string{"--resource-policies-configmap", "one-cut"}},
	}
	rounds := s.rounds
	if of.VMs > 10 {
		rounds = 1 // it takes 20 minutes with one worker
	}
	for _, of.Workers = range s.workers {
		for round := range rounds {
			for _, v := range inTurn(variants, round) {
				sample, err := b.backUp(ctx, namespace, of, v)
				if err != nil {
					return fmt.Errorf("round %d with %d workers, %s: %w", round+1, of.Workers, v.name, err)
				}
				sample.Round = round
				fmt.Fprintf(os.Stderr, "round %d, %d VMs, %d disks, %d workers, %-8s %6.2f s, frozen %6.2f s, at most %6.2f s\n",
					round+1, of.VMs, of.Disks, of.Workers, v.name, sample.Seconds, sample.Frozen, sample.Longest)
				results.Add(sample)
			}
		}
	}
	return nil
}

// runVMs makes VMs and waits until they run.
func (b *bench) runVMs(ctx context.Context, namespace string, of snapshots.Case) error {
	started := time.Now()
	for i := range of.VMs {
		name := fmt.Sprintf("vm-%02d", i)
		var disks []string
		for n := range of.Disks {
			disks = append(disks, fmt.Sprintf("%s-%d", name, n))
		}
		var text bytes.Buffer
		if err := snapshotYAML.Execute(&text, map[string]any{"Namespace": namespace, "Name": name, "Disks": disks}); err != nil {
			return err
		}
		objects, err := vms.ReadObjects(&text)
		if err != nil {
			return err
		}
		if err := b.Load(ctx, objects); err != nil {
			return err
		}
	}
	for {
		live, err := b.site.Find(ctx, "kubevirt.io/v1", "VirtualMachine", namespace)
		if err != nil {
			return err
		}
		runs := 0
		for _, vm := range live {
			if status, _, _ := unstructured.NestedString(vm.Object, "status", "printableStatus"); status == "Running" {
				runs++
			}
		}
		if runs == of.VMs {
			fmt.Fprintf(os.Stderr, "%d VMs with %d disks run after %.0f s\n", of.VMs, of.Disks, time.Since(started).Seconds())
			return nil
		}
		if time.Since(started) > 10*time.Minute {
			return fmt.Errorf("%d of them run after %s", runs, time.Since(started).Round(time.Second))
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(200 * time.Millisecond):
		}
	}
}

// backUp makes one backup.
func (b *bench) backUp(ctx context.Context, namespace string, of snapshots.Case, v variant) (snapshots.Sample, error) {
	sample := snapshots.Sample{Case: of, Way: v.name}
	if err := b.install(ctx, v.path, "--item-block-worker-count", strconv.Itoa(of.Workers)); err != nil {
		return sample, err
	}
	// Each backup leaves some in the namespace, which the next would back up.
	if err := b.site.DeleteAllOf(ctx, &corev1.Event{}, client.InNamespace(namespace)); err != nil {
		return sample, err
	}
	name := fmt.Sprintf("%s-%d", strings.ToLower(v.name), time.Now().UnixNano())
	began := time.Now()
	if _, err := b.Velero(ctx, append([]string{"backup", "create", name, "--include-namespaces", namespace, "--wait"}, v.arguments...)...); err != nil {
		return sample, err
	}
	sample.Seconds = time.Since(began).Seconds()
	var backup velerov1.Backup
	if err := b.site.Get(ctx, client.ObjectKey{Namespace: cluster.VeleroNamespace, Name: name}, &backup); err != nil {
		return sample, err
	}
	// What fails fast looks cheap. A VM whose guest was not frozen all the time is a warning of the plugin.
	if status := backup.Status; status.Phase != velerov1.BackupPhaseCompleted || status.Warnings > 0 || status.CSIVolumeSnapshotsCompleted != of.VMs*of.Disks {
		return sample, fmt.Errorf("backup %s is %s with %d warnings and %d snapshots", name, status.Phase, status.Warnings, status.CSIVolumeSnapshotsCompleted)
	}
	frozen, err := frozenFor(b.Guest.Events(), namespace, began)
	if err == nil && len(frozen) != of.VMs {
		err = fmt.Errorf("%d guests were frozen", len(frozen))
	}
	if err != nil {
		return sample, fmt.Errorf("backup %s: %w", name, err)
	}
	sample.Longest, sample.Frozen = slices.Max(frozen), snapshots.Median(frozen)
	return sample, nil
}

// frozenFor returns for how many seconds each guest of a namespace was frozen since a time, by its own clock.
func frozenFor(events []cluster.Event, namespace string, since time.Time) ([]float64, error) {
	frozen, seconds := map[string]time.Time{}, map[string]float64{}
	for _, event := range events {
		if event.VMI.Namespace != namespace || event.Time.Before(since) {
			continue
		}
		_, before := seconds[event.VMI.Name]
		at, now := frozen[event.VMI.Name]
		switch {
		case event.Action == cluster.Frozen && !before && !now:
			frozen[event.VMI.Name] = event.Time
		case event.Action == cluster.Thawed && !before && now:
			seconds[event.VMI.Name] = event.Time.Sub(at).Seconds()
		default:
			return nil, fmt.Errorf("guest %s was not frozen once and thawed: it was %s at %s", event.VMI, event.Action, event.Time)
		}
	}
	return slices.Collect(maps.Values(seconds)), nil
}

func (s *settings) outputSnapshots(results *snapshots.Results) error {
	if s.write != "" {
		earlier, err := snapshots.Read(s.write)
		if err != nil {
			return err
		}
		results.Keep(earlier)
	}
	data, err := s.writeResults(results)
	if err != nil {
		return err
	}
	if s.plot != "" {
		if err := os.WriteFile(s.plot, []byte(results.Plot()), 0o644); err != nil {
			return err
		}
	}
	if s.output == "json" {
		_, err = os.Stdout.Write(data)
	} else {
		err = results.Print(os.Stdout)
	}
	if err == nil && s.check {
		err = results.Check()
	}
	return err
}
