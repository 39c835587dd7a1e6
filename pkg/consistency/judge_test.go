package consistency

import (
	"errors"
	"strings"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	virtv1 "kubevirt.io/api/core/v1"
)

var noon = metav1.NewTime(time.Date(2026, 11, 22, 12, 0, 0, 0, time.UTC))

func instance() *virtv1.VirtualMachineInstance {
	vmi := &virtv1.VirtualMachineInstance{}
	vmi.UID = "1"
	vmi.Status.Phase = virtv1.Running
	vmi.Status.NodeName = "node-1"
	vmi.Status.Conditions = []virtv1.VirtualMachineInstanceCondition{
		{Type: virtv1.VirtualMachineInstanceAgentConnected, Status: corev1.ConditionTrue, LastProbeTime: noon},
	}
	return vmi
}

func launcher() *corev1.Pod {
	pod := &corev1.Pod{}
	pod.Name = "virt-launcher-web"
	pod.Annotations = map[string]string{hookCommand: `["/usr/bin/virt-freezer", "--freeze", "--name", "web", "--namespace", "shop"]`}
	pod.Status.Conditions = []corev1.PodCondition{{Type: virtv1.VirtualMachineUnpaused, Status: corev1.ConditionTrue, LastTransitionTime: noon}}
	return pod
}

// frozen are the facts of a VM whose guest was frozen while its two disks were snapshotted.
func frozen() Facts {
	agent := &virtv1.VirtualMachineInstanceGuestAgentInfo{GAVersion: "9.0"}
	for _, command := range []string{"guest-fsfreeze-status", "guest-fsfreeze-freeze", "guest-fsfreeze-thaw"} {
		agent.SupportedCommands = append(agent.SupportedCommands, virtv1.GuestAgentCommandInfo{Name: command, Enabled: true})
	}
	return Facts{
		Snapshots: true, Joined: true, Before: instance(), After: instance(), Agent: agent, Machine: &virtv1.VirtualMachine{},
		Launchers: []Launcher{{Before: launcher(), After: launcher()}},
		Frozen:    true,
		Disks:     []Disk{{Name: "root", Snapshotted: true}, {Name: "data", Snapshotted: true}},
		Window:    9 * time.Second,
	}
}

func TestJudge(t *testing.T) {
	name := "snap"
	for what, c := range map[string]struct {
		change func(f *Facts)
		level  Level
		want   string // the message
	}{
		"frozen":                 {func(*Facts) {}, Filesystem, ""},
		"an instance of its own": {func(f *Facts) { f.Machine = nil }, Filesystem, ""},
		"no disks":               {func(f *Facts) { f.Disks = nil }, Filesystem, ""},
		"stopped":                {func(f *Facts) { *f = Facts{Snapshots: true, Disks: f.Disks} }, Offline, ""},
		"ended":                  {func(f *Facts) { f.After.Status.Phase = virtv1.Succeeded; f.Before = nil; f.Launchers = nil }, Offline, ""},
		"stopped, disk left out": {func(f *Facts) { *f = Facts{Snapshots: true, Disks: []Disk{{Name: "root"}}} }, Offline, "DiskNotSnapshotted (root)"},
		"stopped meanwhile":      {func(f *Facts) { f.After = nil }, Crash, "Stopping: it ran when its pods were about to be backed up"},
		"stopping":               {func(f *Facts) { f.After.DeletionTimestamp = &noon }, Crash, "Stopping: its instance is being deleted"},
		"restarted":              {func(f *Facts) { f.After.UID = "2" }, Crash, "Stopping: it was restarted"},
		"booting":                {func(f *Facts) { f.Before.Status.Phase = virtv1.Scheduled }, Crash, "Starting: its instance was Scheduled, then Running"},
		"no snapshots":           {func(f *Facts) { *f = Facts{After: instance()} }, Crash, "SnapshotDisabled"},
		"no snapshots, stopped":  {func(f *Facts) { *f = Facts{} }, Offline, "SnapshotDisabled"},
		"files":                  {func(f *Facts) { f.Disks[1] = Disk{Name: "data", Files: true} }, Crash, "FileSystemBackup (data)"},
		"disk left out":          {func(f *Facts) { f.Disks[1].Snapshotted = false }, Crash, "DiskNotSnapshotted (data)"},
		"disk outside":           {func(f *Facts) { f.Disks[0].Outside = true }, Crash, "DiskOutsideWindow (root)"},
		"migrating":              {func(f *Facts) { f.Before.Status.MigrationState = &virtv1.VirtualMachineInstanceMigrationState{} }, Crash, "Migrating"},
		"migrated":               {func(f *Facts) { f.After.Status.NodeName = "node-2" }, Crash, "Migrating"},
		"migrated long ago": {func(f *Facts) {
			f.After.Status.MigrationState = &virtv1.VirtualMachineInstanceMigrationState{Completed: true}
		}, Filesystem, ""},
		"paused":       {func(f *Facts) { pause(f.Before) }, Crash, "Paused"},
		"paused later": {func(f *Facts) { pause(f.After) }, Crash, "Paused"},
		"paused between": {func(f *Facts) {
			f.Launchers[0].After.Status.Conditions[0].LastTransitionTime.Time = noon.Add(time.Second)
		}, Crash, "Paused"},
		"no launcher in the backup":   {func(f *Facts) { f.Before, f.Launchers = nil, nil }, Crash, "PodNotInBackup"},
		"not seen in an ItemBlock":    {func(f *Facts) { f.Joined, f.Before, f.Launchers = false, nil, nil }, Crash, "NotObserved: the plugin did not see the VM join an ItemBlock: Velero restarted the plugin, or another item brought the VM into the backup"},
		"no hooks":                    {func(f *Facts) { f.Launchers[0].Before.Annotations = nil }, Crash, "HooksDisabled: virt-launcher-web"},
		"other hook":                  {func(f *Facts) { f.Launchers[0].Before.Annotations[hookCommand] = `["/bin/sync"]` }, Crash, "HooksDisabled: virt-launcher-web"},
		"hook failed":                 {func(f *Facts) { f.Frozen = false }, Crash, "HookFailed: the guest was not frozen after the last snapshot"},
		"guest not asked":             {func(f *Facts) { f.Frozen, f.NotAsked = false, errors.New("no virsh") }, Crash, "NotObserved: no virsh"},
		"thawed since it is paused":   {func(f *Facts) { f.Frozen = false; pause(f.After) }, Crash, "Paused"},
		"no agent":                    {func(f *Facts) { f.Before.Status.Conditions = nil }, Crash, "NoGuestAgent"},
		"agent lost":                  {func(f *Facts) { f.After.Status.Conditions = nil }, Crash, "NoGuestAgent: it was disconnected meanwhile"},
		"agent back":                  {func(f *Facts) { f.After.Status.Conditions[0].LastProbeTime.Time = noon.Add(time.Second) }, Crash, "NoGuestAgent: it was disconnected meanwhile"},
		"agent without version":       {func(f *Facts) { f.Agent.GAVersion = "" }, Crash, "NoGuestAgent: it has not told its version yet"},
		"freeze blocked":              {func(f *Facts) { f.Agent.SupportedCommands[1].Enabled, f.Frozen = false, false }, Crash, "FreezeUnsupported: guest-fsfreeze-freeze"},
		"listed while frozen":         {func(f *Facts) { f.Agent.SupportedCommands[1].Enabled = false }, Filesystem, ""},
		"freeze missing":              {func(f *Facts) { f.Agent.SupportedCommands = f.Agent.SupportedCommands[:2] }, Crash, "FreezeUnsupported: guest-fsfreeze-thaw"},
		"snapshot by KubeVirt":        {func(f *Facts) { f.Machine.Status.SnapshotInProgress = &name }, Crash, "SnapshotInProgress: snap"},
		"window of 300 s":             {func(f *Facts) { f.Window = 300 * time.Second }, Crash, "WindowTooLong: 5m0s, the guest stays frozen for 5m0s at most"},
		"window within Windows' hold": {func(f *Facts) { windows(f) }, Filesystem, ""},
		"window over Windows' hold":   {func(f *Facts) { windows(f); f.Window = 10 * time.Second }, Crash, "WindowTooLong: 10s, the guest stays frozen for 10s at most"},
		"window over the hook's": {func(f *Facts) {
			f.Launchers[0].Before.Annotations[hookCommand] = `["virt-freezer","--freeze","--unfreezeTimeoutSeconds","5"]`
		}, Crash, "WindowTooLong: 9s, the guest stays frozen for 5s at most"},
		"a read failed":    {func(f *Facts) { f.Agent, f.Unseen = nil, []error{errors.New("no answer")} }, Crash, "NotObserved: no answer"},
		"nothing is known": {func(f *Facts) { *f = Facts{Snapshots: true, Unseen: []error{errors.New("no answer")}} }, Crash, "NotObserved: no answer"},
	} {
		t.Run(what, func(t *testing.T) {
			facts := frozen()
			c.change(&facts)
			verdict := Judge(facts)
			if verdict.Level != c.level || verdict.Message() != c.want {
				t.Errorf("got %s: %s, want %s: %s", verdict.Level, verdict.Message(), c.level, c.want)
			}
			if reason := string(verdict.Reason()); !strings.HasPrefix(c.want, reason) || (reason == "") != (c.want == "") {
				t.Errorf("the reason is %q of %q", reason, c.want)
			}
		})
	}
}

func pause(vmi *virtv1.VirtualMachineInstance) {
	vmi.Status.Conditions = append(vmi.Status.Conditions, virtv1.VirtualMachineInstanceCondition{Type: virtv1.VirtualMachineInstancePaused, Status: corev1.ConditionTrue})
}

func windows(f *Facts) { f.After.Status.GuestOSInfo.ID = "mswindows" }

func TestEveryReasonIsExplained(t *testing.T) {
	for _, reason := range []Reason{
		SnapshotDisabled, FileSystemBackup, DiskNotSnapshotted, DiskOutsideWindow, Starting, Stopping, PodNotInBackup, Migrating, Paused,
		HooksDisabled, NoGuestAgent, FreezeUnsupported, HookFailed, SnapshotInProgress, WindowTooLong, NotObserved,
	} {
		found := 0
		for _, explained := range Reasons {
			if explained.Reason == reason && explained.Means != "" && explained.Remedy != "" {
				found++
			}
		}
		if found != 1 {
			t.Errorf("%s is explained %d times", reason, found)
		}
	}
}

func TestStampKeepsWhatWasAskedFor(t *testing.T) {
	vm := map[string]any{"metadata": map[string]any{"annotations": map[string]any{
		"velero.kubevirt.io/consistency": "required", "velero.kubevirt.io/consistency-message": "of an earlier backup", "other": "x",
	}}}
	facts := frozen()
	facts.Window = 9 * time.Second
	for range 2 { // a restored VM is backed up again
		if err := Stamp(vm, Judge(facts), facts); err != nil {
			t.Fatal(err)
		}
		annotations := vm["metadata"].(map[string]any)["annotations"].(map[string]any)
		want := map[string]any{
			"velero.kubevirt.io/consistency": "filesystem", "velero.kubevirt.io/consistency-policy": "required",
			"velero.kubevirt.io/freeze-window": "9s", "other": "x",
		}
		for key, value := range want {
			if annotations[key] != value {
				t.Errorf("%s is %v, want %v", key, annotations[key], value)
			}
		}
		if len(annotations) != len(want) || Policy(vm) != "required" {
			t.Errorf("got %v, policy %q", annotations, Policy(vm))
		}
	}
	if level, message := Stamped(vm); level != Filesystem || message != "" {
		t.Errorf("the stamp says %s %s", level, message)
	}
	Clear(vm)
	if level, _ := Stamped(vm); level != "" || Policy(vm) != "required" {
		t.Errorf("after clearing: %v", vm)
	}
}

func TestSaysFrozen(t *testing.T) {
	_, line := AskGuest("shop", "web", nil)
	for answer, want := range map[string]bool{
		// With readline virsh shows what it reads, without it does not.
		"virsh # " + line + "{\"return\":\"frozen\"}\n\nvirsh # \n": true,
		"virsh # {\"return\":\"thawed\"}\n\nvirsh # ":               false,
		`{"return":"frozen"}`:                                       true,
	} {
		if got, err := SaysFrozen(answer); got != want || err != nil {
			t.Errorf("%q says %t, %v", answer, got, err)
		}
	}
	for _, answer := range []string{
		"", "frozen", `{"return":{}}`, `{"return":"error"}`, "virsh # " + line + "\nvirsh # \nerror: Guest agent is not responding: QEMU guest agent is not connected\n",
	} {
		if got, err := SaysFrozen(answer); got || err == nil {
			t.Errorf("%q says %t, %v", answer, got, err)
		}
	}
}
