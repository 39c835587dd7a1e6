//go:build e2e && soak

package e2e

import (
	"cmp"
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"sync"
	"testing"
	"time"

	velerov1 "github.com/vmware-tanzu/velero/pkg/apis/velero/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"velero-plugin-for-kubevirt/tests/cluster"
)

// soakFreeze is for how long the guests of the soak may be frozen.
const soakFreeze = 4 * time.Second

// soakStorage is that of disks which another node can use at the same time: their guests migrate.
const soakStorage = "storage: {accessModes: [ReadWriteMany], resources: {requests: {storage: 16Mi}}}"

// A soak is one cluster on which VMs are backed up while things go wrong.
type soak struct {
	*testCluster
	random *rand.Rand
	vms    []*troubleVM // that write to two disks in turn
	seen   int          // windows that were looked at
	soakResults
}

// soakResults are what a soak comes to.
type soakResults struct {
	Seed      uint64         `json:"seed"`
	Minutes   float64        `json:"minutes"`
	Backups   map[string]int `json:"backups"`   // by what went wrong meanwhile
	Completed int            `json:"completed"` // of them
	Restores  int            `json:"restores"`  // of them, beside their originals
	Truthful  int            `json:"truthful"`  // verdicts "filesystem", each compared with what the snapshots hold
	PeakMiB   int            `json:"peakMiB"`   // of a process of the plugin
}

// soakFile is what the last long soak came to.
const soakFile = "testdata/soak.json"

// TestSoak backs VMs up again and again, by namespace and by label, with one cut and without, some by a schedule, while what a seed chooses goes wrong. After each
// backup no guest is frozen, none was for longer than it may be, no verdict "filesystem" is on disks of different moments, and in the end nothing is left. It lasts
// HOURS=1, on three clusters; SEED=n makes the same choices again; WRITE=1 writes down what it came to.
func TestSoak(t *testing.T) {
	hours, err := strconv.ParseFloat(cmp.Or(os.Getenv("HOURS"), "1"), 64)
	if err != nil {
		t.Fatal(err)
	}
	first, err := strconv.ParseUint(cmp.Or(os.Getenv("SEED"), strconv.FormatInt(time.Now().Unix(), 10)), 10, 64)
	if err != nil {
		t.Fatal(err)
	}
	skipIfForeign(t, "needs clusters of our own, which it spoils")
	results := make([]soakResults, 3)
	clusters := newClusterPool(len(results), cluster.Options{FaultyAPI: true})
	for n := range results {
		t.Run(fmt.Sprint("Cluster", n), func(t *testing.T) {
			t.Parallel()
			s := &soak{testCluster: clusters.take(t), random: rand.New(rand.NewPCG(first+uint64(n), 0)), soakResults: soakResults{Seed: first + uint64(n), Backups: map[string]int{}}}
			s.lasts(t, hours)
			results[n] = s.soakResults
		})
	}
	t.Cleanup(func() {
		said, err := json.MarshalIndent(map[string]any{"date": time.Now().UTC().Format(time.DateOnly), "clusters": results}, "", "  ")
		if err == nil && os.Getenv("WRITE") != "" && !t.Failed() {
			err = os.WriteFile(soakFile, append(said, '\n'), 0o644)
		}
		if err != nil {
			t.Error(err)
		}
		t.Logf("%s", said)
	})
}

// lasts makes backups for some hours.
func (s *soak) lasts(t *testing.T, hours float64) {
	t.Helper()
	t.Logf("SEED=%d", s.Seed)
	s.policy(t, "kubevirt")
	for _, name := range []string{"north", "south"} {
		vm := writing("soak")
		vm.name, vm.marks = name, "velero.kubevirt.io/max-freeze: "+soakFreeze.String()
		vm.storage = "source: {blank: {}}, " + soakStorage
		vm.annotations = cluster.WritesAnnotation + ": 10ms" // a disk lasts for hours
		s.troubleWriting(t, vm)
		s.vms = append(s.vms, vm)
	}
	unwatch := s.watchMemory()
	began := time.Now()
	for n := 0; !t.Failed() && time.Since(began).Hours() < hours; n++ {
		s.step(t, n)
	}
	unwatch()
	s.Minutes = time.Since(began).Minutes()
	s.nothingIsLeft(t)
}

// step makes one backup while something goes wrong, looks at what came of it, sometimes restores it, and deletes it.
func (s *soak) step(t *testing.T, n int) {
	t.Helper()
	backup := &velerov1.Backup{ObjectMeta: metav1.ObjectMeta{Namespace: cluster.VeleroNamespace, Name: fmt.Sprintf("soak-%d", n)}}
	backup.Spec.StorageLocation, backup.Spec.IncludedNamespaces = "default", []string{"soak"}
	backup.Spec.ExcludedResources = []string{"events"}                           // soon the most of it
	backup.Spec.CSISnapshotTimeout = metav1.Duration{Duration: 45 * time.Second} // for snapshots that never come
	vms := s.vms
	if s.random.IntN(2) == 0 {
		vm := s.anyVM()
		backup.Spec.LabelSelector, vms = &metav1.LabelSelector{MatchLabels: map[string]string{"app": vm.name}}, []*troubleVM{vm}
	}
	if s.random.IntN(4) > 0 {
		backup.Spec.ResourcePolicy = &corev1.TypedLocalObjectReference{Kind: "configmap", Name: "one-cut"}
	}
	scheduled := s.random.IntN(4) == 0
	what := s.anyMishap()
	s.Backups[what.name]++
	told := fmt.Sprintf("SEED=%d, backup %d, %s, one cut: %t, by label: %t, by schedule: %t", s.Seed, n, what.name, backup.Spec.ResourcePolicy != nil, len(vms) == 1, scheduled)
	end := noEnd
	if what.before != nil {
		end = what.before(s, t)
	}
	s.begins(t, backup, scheduled)
	if what.during != nil {
		time.Sleep(time.Duration(s.random.IntN(3000)) * time.Millisecond)
		end = what.during(s, t)
	}
	phase := s.ends(t, backup)
	t.Logf("%s: %s", told, phase)
	s.thaws(t, told)
	truthful := s.Truthful
	if phase != velerov1.BackupPhaseFailed {
		s.isTrue(t, backup.Name, told)
	}
	if consistent := s.Truthful - truthful; what.name == nothingWrong && (phase != velerov1.BackupPhaseCompleted || consistent != len(vms)) {
		t.Errorf("%s: the backup is %s, and of %d VMs %d are consistent", told, phase, len(vms), consistent)
	}
	end()
	if phase == velerov1.BackupPhaseCompleted {
		s.Completed++
		if s.random.IntN(10) == 0 {
			s.restores(t, backup.Name, vms, told)
		}
	}
	if _, err := s.Velero(t.Context(), "backup", "delete", backup.Name, "--confirm"); err != nil {
		t.Fatal(err)
	}
}

// begins begins a backup, as Velero's controller of schedules would if it is scheduled.
func (s *soak) begins(t *testing.T, backup *velerov1.Backup, scheduled bool) {
	t.Helper()
	if !scheduled {
		if err := s.Create(t.Context(), backup); err != nil {
			t.Fatal(err)
		}
		return
	}
	schedule := &velerov1.Schedule{ObjectMeta: *backup.ObjectMeta.DeepCopy(), Spec: velerov1.ScheduleSpec{Template: backup.Spec, Schedule: "@yearly", Paused: true}}
	if err := s.Create(t.Context(), schedule); err != nil {
		t.Fatal(err)
	}
	if _, err := s.Velero(t.Context(), "backup", "create", backup.Name, "--from-schedule", schedule.Name); err != nil {
		t.Fatal(err)
	}
	if err := s.Delete(t.Context(), schedule); err != nil {
		t.Fatal(err)
	}
}

// nothingIsLeft waits until the backups are deleted with their snapshots. One that is deleted while the driver still cuts it goes when the CSI sidecar tries
// again, minutes later.
func (s *soak) nothingIsLeft(t *testing.T) {
	t.Helper()
	if t.Failed() {
		return
	}
	last := s.again(t, append([]string{"--include-namespaces", "soak"}, oneCut...)...) // removes what failed ones have left
	if _, err := s.Velero(t.Context(), "backup", "delete", last.Name, "--confirm"); err != nil {
		t.Fatal(err)
	}
	s.await(t, 7*time.Minute, func() string {
		for _, kind := range [][2]string{{"velero.io/v1", "Backup"}, {"snapshot.storage.k8s.io/v1", "VolumeSnapshot"}, {"snapshot.storage.k8s.io/v1", "VolumeSnapshotContent"}} {
			for name, obj := range s.find(t, kind[0], kind[1], "") {
				if obj.GetLabels()[velerov1.RestoreNameLabel] == "" { // Velero leaves contents that it has restored, for their snapshots are the backup's
					return fmt.Sprintf("there is still %s %s", kind[1], name)
				}
			}
		}
		return ""
	})
}

// ends waits for the end of a backup.
func (s *soak) ends(t *testing.T, backup *velerov1.Backup) velerov1.BackupPhase {
	t.Helper()
	s.await(t, 5*time.Minute, func() string {
		err := s.Get(t.Context(), client.ObjectKeyFromObject(backup), backup)
		if err != nil || backup.Status.CompletionTimestamp == nil {
			return fmt.Sprintf("backup %s is %q: %v", backup.Name, backup.Status.Phase, err)
		}
		return ""
	})
	return backup.Status.Phase
}

// thaws checks that no guest is frozen, and that none was for too long.
func (s *soak) thaws(t *testing.T, told string) {
	t.Helper()
	for _, vm := range s.vms {
		s.await(t, 3*time.Second, func() string {
			if s.Guest.IsFrozen(vm.namespace, vm.name) {
				return told + ": " + vm.name + " is still frozen"
			}
			return ""
		})
	}
	windows := s.frozenFor("soak")
	for _, window := range windows[s.seen:] {
		if window > soakFreeze+3*time.Second {
			t.Errorf("%s: a guest was frozen for %s", told, window)
		}
	}
	s.seen = len(windows)
}

// isTrue compares the verdicts "filesystem" of a backup with what its snapshots hold.
func (s *soak) isTrue(t *testing.T, backup, told string) {
	t.Helper()
	report, err := s.BackupReport(t.Context(), backup)
	if err != nil {
		t.Fatal(err)
	}
	for _, vm := range s.vms {
		if verdictOn(report, vm.name).level != "filesystem" {
			continue
		}
		s.Truthful++
		// It writes to them in turn: at one moment they end with adjoining numbers.
		if numbers := s.lastRecords(t, report, vm); slices.Max(numbers)-slices.Min(numbers) >= int64(vm.disks) {
			t.Errorf("%s: of %s the backup says filesystem, and its disks end with records %v", told, vm.name, numbers)
		}
	}
}

// restores restores a backup beside its original.
func (s *soak) restores(t *testing.T, backup string, vms []*troubleVM, told string) {
	t.Helper()
	const beside = "soak-restored"
	restored, err := s.Restore(t.Context(), backup, backup, "--namespace-mappings", "soak:"+beside)
	if err != nil {
		t.Fatal(err)
	}
	if restored.Phase != "Completed" {
		t.Errorf("%s: the restore is %s: %s", told, restored.Phase, restored.Trouble())
	}
	for _, vm := range vms {
		s.troubleRuns(t, &troubleVM{namespace: beside, name: vm.name, disks: vm.disks})
	}
	s.lose(t, beside)
	s.Restores++
}

// watchMemory keeps the largest memory that a process of the plugin has had, until it is ended.
func (s *soak) watchMemory() (end func()) {
	done := make(chan struct{})
	var watching sync.WaitGroup
	watching.Go(func() {
		for {
			select {
			case <-done:
				return
			case <-time.After(time.Second):
			}
			pids, _ := cluster.Commands(func(args []string) bool { return filepath.Base(args[0]) == filepath.Base(binary) })
			for _, pid := range pids {
				s.PeakMiB = max(s.PeakMiB, cluster.PeakBytes(pid)>>20)
			}
		}
	})
	return func() {
		close(done)
		watching.Wait()
	}
}
