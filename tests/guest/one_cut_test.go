//go:build guest && linux

package guest

import (
	"context"
	"fmt"
	"os/exec"
	"slices"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"velero-plugin-for-kubevirt/pkg/consistency"
	"velero-plugin-for-kubevirt/tests/cluster"
	"velero-plugin-for-kubevirt/tests/story"
)

// oneCut asks for the policy that makePolicy makes.
var oneCut = []string{"--resource-policies-configmap", "one-cut"}

// cuts is how many backups TestOneCut makes of one guest, and of a group of three, when BACKUPS does not ask for others.
const cuts = 5

// frozenAtMost is for how long a guest may be frozen, at the median of some backups, by its own clock.
const frozenAtMost = 600 * time.Millisecond

// TestOneCut backs up a writing guest whose two disks are cut at once, and then three such guests that are frozen together: each finds in its snapshots what it
// had stored, and was frozen for a moment by its own clock.
func TestOneCut(t *testing.T) {
	backups, err := story.Backups(cuts)
	if err != nil {
		t.Fatal(err)
	}
	makePolicy(t)
	group := []VM{{"app", "database"}, {"app", "queue"}, {"app", "web"}}
	boots(t, group[0])
	if pauses := cutTogether(t, backups, "", group[0]); median(pauses) > frozenAtMost {
		t.Errorf("the guest was frozen for %v, %s at the median", pauses, median(pauses))
	}
	for _, vm := range group[1:] {
		if err := site.makeIn(t.Context(), vm); err != nil {
			t.Fatal(err)
		}
	}
	for _, vm := range group {
		runs(t, vm)
		label := fmt.Appendf(nil, `{"metadata": {"labels": {"velero.kubevirt.io/freeze-together": %q}}}`, vm.Namespace)
		if err := site.Patch(t.Context(), vm.object("VirtualMachine"), client.RawPatch(types.MergePatchType, label)); err != nil {
			t.Fatal(err)
		}
	}
	cutTogether(t, backups, group[0].Namespace, group...)
}

// cutTogether makes backups of VMs, looks into the snapshots of each, and returns for how long the guests did not write.
func cutTogether(t *testing.T, backups int, group string, vms ...VM) (pauses []time.Duration) {
	t.Helper()
	for n := range backups {
		for _, vm := range vms {
			if err := site.AwaitWrites(t.Context(), vm, 5, patience); err != nil {
				t.Fatal(err)
			}
		}
		report, err := site.Backup(t.Context(), fmt.Sprintf("%s-%d-%d", name(t), len(vms), n), append([]string{"--include-namespaces", vms[0].Namespace}, oneCut...)...)
		if err != nil {
			t.Fatal(err)
		}
		wentWell(t, report.Report)
		for _, vm := range vms {
			seen := Observation{Situation: vm.Name + " in one cut"}
			seen.describe(t, vm, report)
			pauses = append(pauses, seen.Pause)
			in := annotations(report, vm)["velero.kubevirt.io/consistency-group"]
			if seen.Verdict != string(consistency.Filesystem) || seen.Reason != "" || !seen.Truth.Consistent() || in != group {
				t.Errorf("of %s the verdict is %s %s in group %q, and the snapshots hold %+v", vm.Name, seen.Verdict, seen.Reason, in, seen.Truth)
			}
		}
		if _, err := site.Velero(t.Context(), "backup", "delete", report.Name, "--confirm"); err != nil {
			t.Fatal(err)
		}
	}
	t.Logf("%d backups of %d guests: frozen for %v, %s at the median", backups, len(vms), pauses, median(pauses))
	return pauses
}

func median(of []time.Duration) time.Duration { return slices.Sorted(slices.Values(of))[len(of)/2] }

// makePolicy makes the ConfigMap that "policy" prints, until the story ends.
func makePolicy(t *testing.T) {
	t.Helper()
	printed, err := exec.CommandContext(t.Context(), "../../bin/velero-plugin-for-kubevirt", "policy").Output()
	if err != nil {
		t.Fatal(err)
	}
	if err := site.apply(t.Context(), string(printed)); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		policy := &corev1.ConfigMap{ObjectMeta: metav1.ObjectMeta{Namespace: cluster.VeleroNamespace, Name: "one-cut"}}
		if err := site.Delete(context.WithoutCancel(t.Context()), policy); err != nil {
			t.Error(err)
		}
	})
}
