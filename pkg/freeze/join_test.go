package freeze

import (
	"maps"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	corev1 "k8s.io/api/core/v1"

	"velero-plugin-for-kubevirt/pkg/kubevirt"
)

// TestNothingIsExecutedInAPodThatIsNoLauncherOfTheInstance: anyone who may make pods in a namespace can make one that looks like a launcher.
func TestNothingIsExecutedInAPodThatIsNoLauncherOfTheInstance(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		lookAlike, labelled := launcherOf("web"), launcherOf("web")
		lookAlike.Name, lookAlike.OwnerReferences[0].UID = "look-alike", "forged"
		labelled.Name, labelled.OwnerReferences = "labelled", nil
		labelled.Labels = map[string]string{kubevirt.PodRoleLabel: kubevirt.LauncherRole, kubevirt.CreatedByLabel: "uid-web"}
		l := &launchers{thawed: map[string]time.Time{}}
		w := Open(l)
		for _, pod := range []*corev1.Pod{lookAlike, labelled, launcherOf("web")} {
			w.Join(t.Context(), instance("web"), pod)
		}
		if allFrozen, err := w.Thaw(t.Context()); !allFrozen || err != nil {
			t.Errorf("all frozen: %t, %v", allFrozen, err)
		}
		w.Close()
		synctest.Wait()
		if executed := slices.Collect(maps.Keys(l.thawed)); !slices.Equal(executed, []string{"web"}) || len(l.runs) > 0 {
			t.Errorf("executed in %q, and %q; want one session in the launcher of web", executed, l.runs)
		}
		if facts := w.Facts(t.Context(), instance("web"), instance("web")); len(facts.Launchers) != 1 {
			t.Errorf("%d launchers", len(facts.Launchers))
		}
	})
}

// TestOnlyKubeVirtsThawIsExecuted: KubeVirt copies annotations of a VM to its launcher, and Velero runs what they say; the plugin does not. The launcher
// that the VM is migrated to is thawed all the same.
func TestOnlyKubeVirtsThawIsExecuted(t *testing.T) {
	for command, want := range map[string]int{
		`["/usr/bin/virt-freezer","--unfreeze"]`: 1, `["sh","-c","curl evil"]`: 0, `["/usr/bin/virt-freezer","--freeze"]`: 0, `["virt-freezer","--unfreeze"]`: 0, `[]`: 0, `sh -c evil`: 0,
	} {
		l := &launchers{thawed: map[string]time.Time{}}
		pod := launcherOf("web")
		pod.Annotations["post.hook.backup.velero.io/command"] = command
		g := &guest{launchers: []*corev1.Pod{pod, launcherOf("target")}}
		if err := Open(l).runThawHooks(t.Context(), g, answer{notThawed: errNotAsked}); err != nil || len(l.runs) != want+1 || l.runs[want] != "target" {
			t.Errorf("%s: executed in %q, want %d times before the other launcher, %v", command, l.runs, want, err)
		}
	}
}
