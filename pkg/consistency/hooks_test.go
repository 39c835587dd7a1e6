package consistency

import (
	"errors"
	"slices"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	virtv1 "kubevirt.io/api/core/v1"
)

func podWith(annotations map[string]string) *corev1.Pod {
	pod := &corev1.Pod{}
	pod.Annotations = annotations
	return pod
}

func TestFreezeHook(t *testing.T) {
	for command, want := range map[string]bool{
		`["/usr/bin/virt-freezer", "--freeze"]`:   true,
		`["/usr/bin/virt-freezer", "--unfreeze"]`: false,
		`["/bin/echo", "--freeze"]`:               false,
		`[]`:                                      false,
		`not JSON`:                                false,
		``:                                        false,
	} {
		if _, got := freezeHook(podWith(map[string]string{"pre.hook.backup.velero.io/command": command})); got != want {
			t.Errorf("%s freezes: %t", command, got)
		}
	}
}

func TestThawHook(t *testing.T) {
	container, command := ThawHook(podWith(map[string]string{
		"post.hook.backup.velero.io/container": "compute", "post.hook.backup.velero.io/command": `["/usr/bin/virt-freezer", "--unfreeze"]`,
	}))
	if container != "compute" || !slices.Equal(command, []string{"/usr/bin/virt-freezer", "--unfreeze"}) {
		t.Errorf("%s %q", container, command)
	}
	for _, none := range []string{`[]`, `not JSON`, ``, `["/usr/bin/virt-freezer", "--freeze"]`, `["/bin/echo", "--unfreeze"]`} {
		pod := podWith(map[string]string{"post.hook.backup.velero.io/container": "compute", "post.hook.backup.velero.io/command": none})
		if container, command := ThawHook(pod); container != "" || command != nil {
			t.Errorf("%s: %s %q", none, container, command)
		}
	}
}

func TestOffersFreeze(t *testing.T) {
	agent := func(commands map[string]bool) *virtv1.VirtualMachineInstanceGuestAgentInfo {
		info := &virtv1.VirtualMachineInstanceGuestAgentInfo{}
		for name, enabled := range commands {
			info.SupportedCommands = append(info.SupportedCommands, virtv1.GuestAgentCommandInfo{Name: name, Enabled: enabled})
		}
		return info
	}
	for what, c := range map[string]struct {
		agent *virtv1.VirtualMachineInstanceGuestAgentInfo
		want  bool
	}{
		"no agent":                      {nil, false},
		"one that freezes":              {agent(map[string]bool{"guest-fsfreeze-freeze": true, "guest-exec": true}), true},
		"one that may not":              {agent(map[string]bool{"guest-fsfreeze-freeze": false, "guest-exec": true}), false},
		"one whose guest is frozen":     {agent(map[string]bool{"guest-fsfreeze-freeze": false, "guest-exec": false, "guest-ping": true}), true},
		"one that knows of no freezing": {agent(map[string]bool{"guest-ping": true, "guest-shutdown": true}), false},
	} {
		if got := OffersFreeze(c.agent); got != c.want {
			t.Errorf("%s: %t", what, got)
		}
	}
}

func TestTimeoutOfAFreezeHook(t *testing.T) {
	for _, c := range []struct {
		command []string
		want    time.Duration
	}{
		{[]string{"virt-freezer", "--freeze"}, 300 * time.Second},
		{[]string{"virt-freezer", "--unfreezeTimeoutSeconds", "5"}, 5 * time.Second},
		{[]string{"virt-freezer", "--unfreezeTimeoutSeconds=5"}, 5 * time.Second},
		{[]string{"virt-freezer", "--unfreezeTimeoutSeconds=0"}, 300 * time.Second},
		{[]string{"virt-freezer", "--unfreezeTimeoutSeconds"}, 300 * time.Second},
		{[]string{"virt-freezer", "5"}, 300 * time.Second},
	} {
		if got := timeoutOf(c.command); got != c.want {
			t.Errorf("%q: %s", c.command, got)
		}
	}
}

func TestAGuestThatIsNotThereIsNotAsked(t *testing.T) {
	expected := frozen()
	if !expected.MayBeFrozen() {
		t.Error("a guest that may be frozen is not asked")
	}
	ended := frozen()
	ended.After.Status.Phase = virtv1.Succeeded
	ended.Before.Status.Phase = virtv1.Running
	gone, unread := frozen(), frozen()
	gone.After = nil
	unread.Unseen = []error{errors.New("no answer")}
	for name, facts := range map[string]Facts{"ended": ended, "gone": gone, "unread": unread} {
		if facts.MayBeFrozen() {
			t.Errorf("a guest that is %s is asked", name)
		}
	}
}

// TestTheShortestLimitCounts of Windows, the hook and the plugin.
func TestTheShortestLimitCounts(t *testing.T) {
	facts := frozen()
	for _, c := range []struct {
		max     time.Duration
		windows bool
		want    time.Duration
	}{{0, false, 300 * time.Second}, {60 * time.Second, false, 60 * time.Second}, {0, true, 10 * time.Second}, {8 * time.Second, true, 8 * time.Second}, {60 * time.Second, true, 10 * time.Second}} {
		facts.MaxFreeze, facts.After.Status.GuestOSInfo.ID = c.max, ""
		if c.windows {
			facts.After.Status.GuestOSInfo.ID = "mswindows"
		}
		if got := longestFreeze(facts); got != c.want {
			t.Errorf("%+v: %s", c, got)
		}
	}
}
