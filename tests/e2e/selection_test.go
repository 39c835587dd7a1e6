//go:build e2e

package e2e

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"testing"

	"velero-plugin-for-kubevirt/tests/cluster"
)

// sharedDisk is a disk that several VMs have at once.
const sharedDisk = `
apiVersion: v1
kind: PersistentVolumeClaim
metadata: {namespace: %s, name: common}
spec: {accessModes: [ReadWriteMany], resources: {requests: {storage: 8Mi}}}
`

// TestHoweverAVMIsSelectedItsGuestIsFrozenOnce backs up two VMs that share a disk, one that shares nothing, and a pool, selected in
// every way that Velero has.
func TestHoweverAVMIsSelectedItsGuestIsFrozenOnce(t *testing.T) {
	w := kubevirtCluster(t)
	const namespace = "picking"
	left := &troubleVM{namespace: namespace, name: "left", disks: 1, more: "common"}
	right := &troubleVM{namespace: namespace, name: "right", disks: 1, more: "common"}
	apart := &troubleVM{namespace: namespace, name: "apart", disks: 2}
	w.troubleLoad(t, fmt.Sprintf(sharedDisk, namespace))
	w.troubleMake(t, left, right, apart)
	w.create(t, namespace, "pool.yaml")
	for _, vm := range []*troubleVM{left, right, apart} {
		w.troubleRuns(t, vm)
	}
	w.label(t, w.find(t, "cdi.kubevirt.io/v1beta1", "DataVolume", namespace)[apart.disk(1)], "pick", "by-datavolume")
	w.label(t, w.launcher(t, apart), "pick", "by-pod")
	w.velero(t, "schedule", "create", "yearly", "--schedule", "0 0 1 1 *", "--include-namespaces", namespace)
	t.Cleanup(func() { w.velero(t, "schedule", "delete", "yearly", "--confirm") })

	all := []string{"apart", "fleet-0", "fleet-1", "left", "right"}
	for _, c := range []struct {
		way    string
		args   []string
		chosen []string
	}{
		{"AllNamespaces", []string{"--include-namespaces", "*"}, all},
		{"Schedule", []string{"--from-schedule", "yearly"}, all},
		{"ResourceTypes", []string{"--include-namespaces", namespace, "--include-resources", "vm,vmi,pods,dv,pvc,pv"}, all},
		{"LabelOnTheVM", []string{"--selector", "app=left"}, []string{"left", "right"}},
		{"LabelOnThePod", []string{"--selector", "pick=by-pod"}, []string{"apart"}},
		{"LabelOnADataVolume", []string{"--selector", "pick=by-datavolume"}, []string{"apart"}},
		{"LabelOnThePool", []string{"--selector", "app=harbourmaster"}, []string{"fleet-0", "fleet-1"}},
	} {
		t.Run(c.way, func(t *testing.T) {
			before := len(w.Guest.Events())
			report, err := w.Backup(t.Context(), name(t), c.args...)
			if err != nil {
				t.Fatal(err)
			}
			want := map[string]verdict{}
			for _, vm := range c.chosen {
				want[vm] = verdict{"filesystem", "", "info"}
			}
			w.checkVerdicts(t, report, want)
			w.checkWindows(t, namespace, before, c.chosen)
		})
	}
	t.Run("OneResourceType", func(t *testing.T) {
		report, err := w.Backup(t.Context(), name(t), "--include-namespaces", namespace, "--include-resources", "virtualmachines.kubevirt.io")
		if err != nil {
			t.Fatal(err)
		}
		w.checkVerdicts(t, report, map[string]verdict{"left": {"crash", "DiskNotSnapshotted", "warning"}})
	})
}

// checkWindows checks which guests of a namespace were frozen at the same time: VMs that share a disk, or that their pool brought,
// and no others.
func (w *testCluster) checkWindows(t *testing.T, namespace string, before int, chosen []string) {
	t.Helper()
	frozen, together, all := map[string]bool{}, map[string]bool{}, map[string]bool{}
	for _, event := range w.Guest.Events()[before:] {
		if event.VMI.Namespace != namespace {
			continue
		}
		name := event.VMI.Name
		if frozen[name] = event.Action == cluster.Frozen; frozen[name] {
			all[name] = true
			for other := range frozen {
				if frozen[other] && other != name {
					together[min(name, other)+"+"+max(name, other)] = true
				}
			}
		}
	}
	names := func(set map[string]bool) []string {
		var list []string
		for name := range set {
			list = append(list, name)
		}
		slices.Sort(list)
		return list
	}
	if got := names(all); !slices.Equal(got, chosen) {
		t.Errorf("the guests %v were frozen, want %v", got, chosen)
	}
	var want []string
	if slices.Contains(chosen, "left") {
		want = []string{"left+right"}
	} else if !slices.Contains(chosen, "apart") {
		want = []string{"fleet-0+fleet-1"}
	}
	if got := names(together); !slices.Equal(got, want) {
		t.Errorf("the guests %v were frozen at the same time, want %v", got, want)
	}
}

// velero runs a velero command, also when the test is over.
func (w *testCluster) velero(t *testing.T, args ...string) {
	t.Helper()
	if _, err := w.Velero(context.WithoutCancel(t.Context()), args...); err != nil {
		t.Errorf("velero %s: %v", strings.Join(args, " "), err)
	}
}
