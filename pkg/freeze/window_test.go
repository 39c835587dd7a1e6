package freeze

import (
	"context"
	"errors"
	"io"
	"testing"
	"testing/synctest"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	virtv1 "kubevirt.io/api/core/v1"

	"velero-plugin-for-kubevirt/pkg/kubevirt"
)

// everything is a reader that has whatever is asked for, and whose launchers say one thing.
type everything struct {
	Reader
	says string
	err  error
}

func (everything) Now(_ context.Context, id kubevirt.ID) (map[string]any, error) {
	return map[string]any{"metadata": map[string]any{"name": id.Name}}, nil
}

func (e everything) Exec(context.Context, kubevirt.ID, string, []string, io.Reader) (string, error) {
	return e.says, e.err
}

func ownedBy(kind string) *guest {
	vmi := &virtv1.VirtualMachineInstance{}
	if kind != "" {
		controller := true
		vmi.OwnerReferences = []metav1.OwnerReference{{Kind: kind, Name: "web", Controller: &controller}}
	}
	return &guest{vmi: vmi}
}

func TestTheVMOfAnInstance(t *testing.T) {
	web := kubevirt.ID{GroupResource: kubevirt.VirtualMachines, Namespace: "shop", Name: "web"}
	for kind, want := range map[string]kubevirt.ID{"VirtualMachine": web, "VirtualMachineInstanceReplicaSet": instance("web-1"), "": instance("web-1")} {
		of := instance("web-1")
		want.Namespace = of.Namespace
		if got := vmOf(of, ownedBy(kind)); got != want {
			t.Errorf("owned by %q: %s, want %s", kind, got, want)
		}
	}
}

func TestTheFirstToJoin(t *testing.T) {
	w, at := Open(nil), time.Date(2026, 11, 24, 12, 0, 0, 0, time.UTC)
	if got := w.FirstJoined(); !got.IsZero() {
		t.Errorf("nobody joined, at %s", got)
	}
	for n, name := range []string{"second", "first", "third"} {
		w.guests[instance(name)] = &guest{joined: at.Add([]time.Duration{1, 0, 2}[n] * time.Second)}
	}
	if got := w.FirstJoined(); got != at {
		t.Errorf("the first joined at %s, want %s", got, at)
	}
}

func TestTheVMIsReadWhenItsGuestIsKnown(t *testing.T) {
	web := kubevirt.ID{GroupResource: kubevirt.VirtualMachines, Namespace: "shop", Name: "web"}
	for _, c := range []struct {
		g    *guest
		item kubevirt.ID
		want bool
	}{
		{ownedBy("VirtualMachine"), web, true}, {ownedBy(""), instance("web"), false}, {&guest{}, web, false}, {&guest{}, instance("web"), false},
	} {
		if facts := Open(everything{}).look(t.Context(), c.g, c.item, instance("web")); (facts.Machine != nil) != c.want || facts.After == nil {
			t.Errorf("%s: VM %v, instance %v", c.item, facts.Machine, facts.After)
		}
	}
}

// TestAGuestThatCannotBeFrozenIsOnlyLookedAt: it is neither asked nor thawed, whether it is known or not.
func TestAGuestThatCannotBeFrozenIsOnlyLookedAt(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := Open(everything{})
		w.guests[instance("web")] = ownedBy("")
		for _, name := range []string{"web", "stranger"} {
			if facts := w.Facts(t.Context(), instance(name), instance(name)); facts.Window != 0 || !errors.Is(facts.NotAsked, errNotAsked) || facts.After == nil {
				t.Errorf("%s, before a disk is cut: %+v", name, facts)
			}
		}
		w.Begin(time.Now(), limits)
		time.Sleep(time.Second)
		for name, want := range map[string]time.Duration{"web": time.Second, "stranger": 0} {
			if facts := w.Facts(t.Context(), instance(name), instance(name)); facts.Window != want || !errors.Is(facts.NotAsked, errNotAsked) || !w.ThawedAt(instance(name)).IsZero() {
				t.Errorf("%s: %+v, want a window of %s", name, facts, want)
			}
		}
		w.Close()
	})
}

// TestWhatALauncherSays: the question is answered even if the thaw behind it fails.
func TestWhatALauncherSays(t *testing.T) {
	broken := errors.New("broken")
	for _, c := range []struct {
		says                string
		err                 error
		frozen              bool
		notAsked, notThawed string
	}{
		{`{"return":"frozen"}`, nil, true, "", ""},
		{`{"return":"frozen"}`, broken, true, "", "broken"},
		{`{"return":"thawed"}`, broken, false, "", "broken"},
		{``, broken, false, "broken", "broken"},
		{``, nil, false, `the guest agent answers "", neither frozen nor thawed`, ""},
	} {
		got := startSession(t.Context(), everything{says: c.says, err: c.err}, instance("web"), kubevirt.ID{}, nil).ask(t.Context())
		if got.frozen != c.frozen || textOf(got.notAsked) != c.notAsked || textOf(got.notThawed) != c.notThawed {
			t.Errorf("%q, %v: %+v", c.says, c.err, got)
		}
	}
}

func textOf(err error) string {
	if err == nil {
		return ""
	}
	return err.Error()
}
