package freeze

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	"velero-plugin-for-kubevirt/pkg/kubevirt"
)

// launchers play the containers of several guests: the question takes 30 ms, the thaw 20 ms.
type launchers struct {
	windows map[string]bool
	gone    map[string]bool // the instances that nobody can see
	broken  bool            // the sessions end by themselves at once, as when a node loses its connections

	mu     sync.Mutex
	thawed map[string]time.Time // by instance
	runs   []string             // what was run besides sessions
}

func (l *launchers) Now(_ context.Context, id kubevirt.ID) (map[string]any, error) {
	if id.GroupResource != kubevirt.VirtualMachineInstances || l.gone[id.Name] {
		return nil, nil
	}
	system := map[string]any{}
	if l.windows[id.Name] {
		system["id"] = "mswindows"
	}
	return map[string]any{
		"metadata": map[string]any{"namespace": id.Namespace, "name": id.Name, "uid": "uid-" + id.Name},
		"status":   map[string]any{"phase": "Running", "guestOSInfo": system, "conditions": []any{map[string]any{"type": "AgentConnected", "status": "True"}}},
	}, nil
}

func (l *launchers) GuestInfo(context.Context, string, string) (map[string]any, error) {
	commands := []any{}
	for _, name := range []string{"guest-fsfreeze-status", "guest-fsfreeze-freeze", "guest-fsfreeze-thaw"} {
		commands = append(commands, map[string]any{"name": name, "enabled": true})
	}
	return map[string]any{"guestAgentVersion": "9", "supportedCommands": commands}, nil
}

func (l *launchers) Exec(ctx context.Context, pod kubevirt.ID, _ string, command []string, stdin io.Reader) (string, error) {
	instance := strings.TrimPrefix(pod.Name, "virt-launcher-")
	if command[0] != "sh" {
		l.mu.Lock()
		defer l.mu.Unlock()
		l.runs = append(l.runs, instance)
		l.thawed[instance] = time.Now()
		return "", nil
	}
	if l.broken {
		return "", errors.New("the connection is lost")
	}
	line, said := make(chan bool, 1), ""
	go func() { _, err := bufio.NewReader(stdin).ReadString('\n'); line <- err == nil }()
	select {
	case asked := <-line:
		if asked {
			time.Sleep(30 * time.Millisecond)
			said = fmt.Sprintf(`{"return":%q}`, "frozen")
		}
	case <-ctx.Done():
	}
	time.Sleep(20 * time.Millisecond) // the command behind virsh
	l.mu.Lock()
	defer l.mu.Unlock()
	l.thawed[instance] = time.Now()
	return said, ctx.Err()
}

func launcherOf(instance string) *corev1.Pod {
	isController := true
	return &corev1.Pod{ObjectMeta: metav1.ObjectMeta{
		Namespace: "shop", Name: "virt-launcher-" + instance,
		OwnerReferences: []metav1.OwnerReference{{
			APIVersion: "kubevirt.io/v1", Kind: "VirtualMachineInstance", Name: instance, UID: types.UID("uid-" + instance), Controller: &isController,
		}},
		Annotations: map[string]string{
			"pre.hook.backup.velero.io/command":    `["/usr/bin/virt-freezer","--freeze"]`,
			"post.hook.backup.velero.io/command":   `["/usr/bin/virt-freezer","--unfreeze"]`,
			"post.hook.backup.velero.io/container": "compute",
		},
	}}
}

func instance(name string) kubevirt.ID {
	return kubevirt.ID{GroupResource: kubevirt.VirtualMachineInstances, Namespace: "shop", Name: name}
}

func joined(t *testing.T, l *launchers, guests ...string) *Window {
	t.Helper()
	l.thawed = map[string]time.Time{}
	w := Open(l)
	for _, name := range guests {
		w.Join(t.Context(), instance(name), launcherOf(name))
	}
	synctest.Wait()
	return w
}

func limits(_ kubevirt.ID, windows bool) time.Duration {
	if windows {
		return 8 * time.Second
	}
	return time.Minute
}

func TestAllGuestsAreAskedAndThawedAtOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := &launchers{}
		w := joined(t, l, "web", "database")
		defer w.Close()
		began := time.Now()
		w.Begin(began, limits)
		time.Sleep(100 * time.Millisecond)
		if got := w.Frozen(); got != 0 {
			t.Errorf("frozen for %s, and nobody has thawed them", got)
		}
		if allFrozen, err := w.Thaw(t.Context()); !allFrozen || err != nil {
			t.Errorf("all frozen: %t, %v", allFrozen, err)
		}
		if took := time.Since(began); took != 150*time.Millisecond || len(l.thawed) != 2 || l.runs != nil {
			t.Errorf("after %s thawed %v, run %v", took, l.thawed, l.runs)
		}
		facts := w.Facts(t.Context(), instance("web"), instance("web"))
		if !facts.Frozen || facts.NotAsked != nil || facts.Window != 150*time.Millisecond || facts.MaxFreeze != time.Minute || w.Frozen() != facts.Window {
			t.Errorf("%+v", facts)
		}
		if again, _ := w.Thaw(t.Context()); again {
			t.Error("guests that had been thawed before count as frozen until now")
		}
	})
}

func TestAGuestIsThawedWhenItsLimitIsOver(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := &launchers{windows: map[string]bool{"office": true}, gone: map[string]bool{"lost": true, "missing": true}}
		w := joined(t, l, "web", "lost", "office", "missing")
		defer w.Close()
		began := time.Now()
		w.Begin(began, limits)
		w.Begin(began.Add(time.Hour), func(kubevirt.ID, bool) time.Duration { return time.Hour }) // only the first counts
		time.Sleep(2 * time.Minute)
		synctest.Wait()
		if len(l.thawed) != 2 {
			t.Errorf("thawed %v, want those that can be seen", l.thawed)
		}
		for name, want := range map[string]time.Duration{"office": 8 * time.Second, "web": time.Minute} {
			if got := l.thawed[name].Sub(began); got != want+50*time.Millisecond {
				t.Errorf("%s was thawed after %s", name, got)
			}
			if at := w.ThawedAt(instance(name)).Sub(began); at != want {
				t.Errorf("%s began to be thawed after %s", name, at)
			}
			if facts := w.Facts(t.Context(), instance(name), instance(name)); facts.Window < want || facts.MaxFreeze != want {
				t.Errorf("%s: %+v", name, facts)
			}
		}
	})
}

// TestAGuestIsThawedByItsHookWhenTheSessionIsLost: the answer is not known, the guest must not stay frozen.
func TestAGuestIsThawedByItsHookWhenTheSessionIsLost(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := &launchers{broken: true}
		w := joined(t, l, "web")
		defer w.Close()
		w.Begin(time.Now(), limits)
		if allFrozen, err := w.Thaw(t.Context()); allFrozen || err != nil {
			t.Errorf("all frozen: %t, %v", allFrozen, err)
		}
		if !slices.Equal(l.runs, []string{"web"}) {
			t.Errorf("run: %v", l.runs)
		}
		if facts := w.Facts(t.Context(), instance("web"), instance("web")); facts.NotAsked == nil || facts.Frozen {
			t.Errorf("%+v", facts)
		}
	})
}

// TestTheLauncherThawsItsGuestWhenThePluginEnds: its session ends, asked or not.
func TestTheLauncherThawsItsGuestWhenThePluginEnds(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := &launchers{}
		w := joined(t, l, "web")
		w.Close()
		time.Sleep(time.Second)
		synctest.Wait()
		if len(l.thawed) != 1 {
			t.Error("the guest may still be frozen")
		}
	})
}

// TestWhoeverWantsTheFactsThawsTheGuest: a verdict needs the answer.
func TestWhoeverWantsTheFactsThawsTheGuest(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := &launchers{}
		w := joined(t, l, "web")
		defer w.Close()
		w.Begin(time.Now(), limits)
		for range 2 { // the second time it is known
			facts := w.Facts(t.Context(), instance("web"), instance("web"))
			if !facts.Frozen || facts.NotAsked != nil || facts.Window != 50*time.Millisecond || len(l.thawed) != 1 {
				t.Errorf("thawed %v: %+v", l.thawed, facts)
			}
		}
	})
}
