//go:build guest && linux

package guest

import (
	"context"
	"io"
	"slices"
	"testing"
	"time"

	plugin "velero-plugin-for-kubevirt/pkg/cluster"
	"velero-plugin-for-kubevirt/pkg/consistency"
	"velero-plugin-for-kubevirt/pkg/kubevirt"
)

// TestAVerdictTellsWhatWasSeen asks one guest, brings it into each state in which it is not frozen, and backs it up in that.
func TestAVerdictTellsWhatWasSeen(t *testing.T) {
	vm := VM{"verdicts", "web"}
	boots(t, vm)
	t.Run("AsksTheGuest", func(t *testing.T) { asked(t, vm) })
	t.Run("FreezeIsBlocked", func(t *testing.T) {
		blocked := "kill $(pidof qemu-ga); sleep 1; exec qemu-ga --statedir /run --method virtio-serial --path /dev/" +
			"$(basename $(dirname $(grep -l guest_agent /sys/class/virtio-ports/*/name)))" +
			" --block-rpcs=guest-fsfreeze-freeze,guest-fsfreeze-freeze-list,guest-fsfreeze-thaw,guest-fsfreeze-status"
		if err := site.InGuest(t.Context(), vm, blocked); err != nil {
			t.Fatal(err)
		}
		// The launcher asks for the list of commands anew when the agent connects.
		if err := site.AwaitAgent(t.Context(), vm, patience); err != nil {
			t.Fatal(err)
		}
		time.Sleep(15 * time.Second)
		crashes(t, vm, consistency.FreezeUnsupported, consistency.HookFailed, consistency.NoGuestAgent)
	})
	t.Run("AgentIsStopped", func(t *testing.T) {
		if err := site.InGuest(t.Context(), vm, "kill $(pidof qemu-ga)"); err != nil {
			t.Fatal(err)
		}
		if err := site.AwaitNoAgent(t.Context(), vm, patience); err != nil {
			t.Fatal(err)
		}
		crashes(t, vm, consistency.NoGuestAgent)
	})
	t.Run("Paused", func(t *testing.T) {
		if err := site.Subresource(t.Context(), vm, "pause"); err != nil {
			t.Fatal(err)
		}
		crashes(t, vm, consistency.Paused)
		if err := site.Subresource(t.Context(), vm, "unpause"); err != nil {
			t.Fatal(err)
		}
	})
}

// asked asks a guest whether it is frozen, as the plugin does after the last snapshot, and measures for how much longer it stays frozen
// because of that.
func asked(t *testing.T, vm VM) {
	t.Helper()
	live, err := plugin.NewLive(site.Cluster.RESTConfig)
	if err != nil {
		t.Fatal(err)
	}
	pod, err := site.launcher(t.Context(), vm)
	if err != nil {
		t.Fatal(err)
	}
	id := kubevirt.ID{GroupResource: kubevirt.Pods, Namespace: pod.Namespace, Name: pod.Name}
	command, line := consistency.AskGuest(vm.Namespace, vm.Name, nil)
	for _, state := range []struct {
		request string
		frozen  bool
	}{{"", false}, {"freeze", true}, {"unfreeze", false}} {
		if state.request != "" {
			if err := site.Subresource(t.Context(), vm, state.request); err != nil {
				t.Fatal(err)
			}
		}
		var took []time.Duration
		for range 10 {
			hear, say := io.Pipe()
			begin := make(chan time.Time, 1)
			time.AfterFunc(time.Second, func() { // when the command waits
				begin <- time.Now()
				_, err := io.WriteString(say, line)
				say.CloseWithError(err)
			})
			answer, err := live.Exec(t.Context(), id, "compute", command, hear)
			if err != nil {
				t.Fatal(err)
			}
			took = append(took, time.Since(<-begin).Round(time.Millisecond))
			if frozen, err := consistency.SaysFrozen(answer); err != nil || frozen != state.frozen {
				t.Errorf("after %q the guest says %q", state.request, answer)
			}
		}
		slices.Sort(took)
		t.Logf("after %q: asking took %s, at most %s", state.request, took[len(took)/2], took[len(took)-1])
	}
}

// crashes backs up a guest that is not frozen: the backup says so and why, and what had been written before is in it.
func crashes(t *testing.T, vm VM, reasons ...consistency.Reason) {
	t.Helper()
	lines, err := site.Console(context.WithoutCancel(t.Context()), vm)
	if err != nil {
		t.Fatal(err)
	}
	report, truth := backup(t, vm, "--include-namespaces", vm.Namespace)
	level, reason, _ := verdict(report, vm)
	if level != string(consistency.Crash) || !slices.Contains(reasons, consistency.Reason(reason)) {
		t.Errorf("the verdict is %q, %q, want one of %q", level, reason, reasons)
	}
	if !truth.RootRecovery || !truth.DataRecovery {
		t.Errorf("a file system was frozen: %+v", truth)
	}
	// That is what a journal and a database are for: each survives, though not together.
	if last := LastBefore(lines, time.Now()); !truth.Whole() || truth.Database < last || truth.Journal < last {
		t.Errorf("%d numbers had been written, the snapshots hold %+v", last, truth)
	}
	t.Logf("%s, hooks: %d attempted, %d failed; %s %s; snapshots %+v, together: %t", report.Phase, report.HooksAttempted, report.HooksFailed,
		level, reason, truth, truth.Together())
}
