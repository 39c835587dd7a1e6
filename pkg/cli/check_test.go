package cli

import (
	"bytes"
	"context"
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	velerov1 "github.com/vmware-tanzu/velero/pkg/apis/velero/v1"
	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"

	"velero-plugin-for-kubevirt/pkg/backup"
	"velero-plugin-for-kubevirt/pkg/consistency"
	"velero-plugin-for-kubevirt/pkg/kubevirt"
)

// healthyVelero is an installation that nothing is wrong with.
func healthyVelero() *installation {
	i := &installation{namespace: "velero", status: &velerov1.ServerStatusRequest{}, deployment: &appsv1.Deployment{}}
	i.status.Status.ServerVersion = "v1.18.1"
	for _, name := range []string{"velero.io/csi-pvc-backupper", "velero-plugin-for-kubevirt/backup"} {
		i.status.Status.Plugins = append(i.status.Status.Plugins, velerov1.PluginInfo{Name: name})
	}
	i.deployment.Spec.Template.Spec = corev1.PodSpec{
		ServiceAccountName: "velero",
		Containers:         []corev1.Container{{Name: "velero"}},
		InitContainers:     []corev1.Container{{Name: "plugin", Image: "registry.example.com/velero-plugin-for-kubevirt:v1.2.3"}},
	}
	location := velerov1.BackupStorageLocation{}
	location.Name, location.Spec.Default, location.Status.Phase = "default", true, velerov1.BackupStorageLocationPhaseAvailable
	i.locations.Items = []velerov1.BackupStorageLocation{location}
	return i
}

func TestCheckTellsOfEveryVM(t *testing.T) {
	vm := func(name string, level consistency.Level, findings ...consistency.Finding) checkedVM {
		id := kubevirt.ID{GroupResource: kubevirt.VirtualMachines, Namespace: "shop", Name: name}
		claim := kubevirt.ID{GroupResource: kubevirt.PersistentVolumeClaims, Namespace: "shop", Name: name + "-root"}
		return checkedVM{
			status: "Running",
			Forecast: backup.Forecast{
				ID: id, Taken: true, Verdict: consistency.Verdict{Level: level, Findings: findings}, Disks: []backup.Disk{{ID: claim, Driver: "csi.example.com", Class: "snap"}},
			},
		}
	}
	good, paused := vm("web", consistency.Filesystem), vm("db", consistency.Crash, consistency.Finding{Reason: consistency.Paused})
	required := vm("till", consistency.Crash, consistency.Finding{Reason: consistency.DiskNotSnapshotted, Disks: []string{"till-root"}})
	required.Asked.Required, required.Disks[0].LeftOut = true, "its volume is no CSI volume"
	nameless, lost, left := vm("api", consistency.Filesystem), vm("lost", ""), vm("left", "")
	nameless.missing, lost.Err, left.Taken = []string{"secrets/shop/api-init"}, errors.New("the guest agent does not answer"), false
	c := &checked{installation: healthyVelero(), backup: &velerov1.Backup{}, vms: []checkedVM{good, paused, required, nameless, lost, left}}
	report := c.report()
	var out bytes.Buffer
	if err := report.print(&out, "wide"); err != nil {
		t.Fatal(err)
	}
	want := `VELERO STATE DETAIL WHAT TO DO
server ok v1.18.1 <none>
CSI snapshots ok <none> <none>
this plugin ok registry.example.com/velero-plugin-for-kubevirt:v1.2.3 <none>
backup location ok default <none>
permissions ok system:serviceaccount:velero:velero <none>

VM STATE DISKS WOULD BE WHY WHAT TO DO SNAPSHOTS
web Running 1 filesystem <none> <none> web-root (snap)
db Running 1 crash Paused unpause it db-root (snap)
till Running 1 crash, an error: consistency is required DiskNotSnapshotted (till-root) till-root: its volume is no CSI volume till-root (none)
api Running 1 filesystem it needs what is not there: secrets/shop/api-init make it, or take the reference out of the VM api-root (snap)
lost Running 1 unknown the guest agent does not answer see the message lost-root (snap)

The backup leaves out 1 other VMs.

5 VMs: 1 good, 3 not, 1 unknown`
	if diff := cmp.Diff(want, strings.TrimSpace(squeeze(out.String()))); diff != "" {
		t.Error(diff)
	}
	var found notGood
	if err := report.err(); !errors.As(err, &found) || err.Error() != "not good: 3 of 5 VMs" {
		t.Errorf("the command's result is %v", err)
	}
	c.vms = []checkedVM{good, lost}
	if err := c.report().err(); err == nil || errors.As(err, &found) {
		t.Errorf("with a VM of which nothing is known the result is %v", err)
	}
	c.vms = []checkedVM{good}
	if err := c.report().err(); err != nil {
		t.Errorf("with a good VM the result is %v", err)
	}
	objectsOnly := paused
	objectsOnly.Asked.ObjectsOnly = true
	if got := objectsOnly.report().Result; got != "ok" {
		t.Errorf("where the disks are somebody else's the result is %s", got)
	}
}

func TestWhatIsWrongWithVeleroIsSaid(t *testing.T) {
	yes := true
	for name, c := range map[string]struct {
		change func(*installation, *velerov1.Backup)
		want   string // of the one finding that is not ok
	}{
		"nothing":          {func(*installation, *velerov1.Backup) {}, ""},
		"no answer":        {func(i *installation, _ *velerov1.Backup) { i.statusErr = context.DeadlineExceeded }, "server bad no answer in 5s"},
		"forbidden":        {func(i *installation, _ *velerov1.Backup) { i.statusErr = errors.New("forbidden") }, "server unknown forbidden"},
		"no CSI":           {func(i *installation, _ *velerov1.Backup) { i.status.Status.Plugins = i.status.Status.Plugins[1:] }, "CSI snapshots bad the feature EnableCSI is off"},
		"no plugin":        {func(i *installation, _ *velerov1.Backup) { i.status.Status.Plugins = i.status.Status.Plugins[:1] }, "this plugin bad the server does not have it"},
		"no locations":     {func(i *installation, _ *velerov1.Backup) { i.locations.Items = nil }, "backup location bad none is the default"},
		"another location": {func(_ *installation, b *velerov1.Backup) { b.Spec.StorageLocation = "far" }, "backup location bad there is none called far"},
		"a location that is gone": {func(i *installation, _ *velerov1.Backup) {
			i.locations.Items[0].Status = velerov1.BackupStorageLocationStatus{Phase: velerov1.BackupStorageLocationPhaseUnavailable, Message: "no route"}
		}, "backup location bad default is Unavailable: no route"},
		"no node agent": {func(_ *installation, b *velerov1.Backup) { b.Spec.SnapshotMoveData = &yes }, "node agent bad there is none, and it moves the data"},
		"a node agent on some nodes": {func(i *installation, b *velerov1.Backup) {
			b.Spec.SnapshotMoveData = &yes
			i.agent = &appsv1.DaemonSet{Status: appsv1.DaemonSetStatus{DesiredNumberScheduled: 3, NumberReady: 2}}
		}, "node agent bad ready on 2 of 3 nodes"},
		"another data mover": {func(_ *installation, b *velerov1.Backup) { b.Spec.SnapshotMoveData, b.Spec.DataMover = &yes, "other" }, ""},
		"a right":            {func(i *installation, _ *velerov1.Backup) { i.refused = []string{"take snapshots in namespace shop"} }, "permissions bad system:serviceaccount:velero:velero may not take snapshots in namespace shop"},
		"something unread":   {func(i *installation, _ *velerov1.Backup) { i.err = errors.New("reading Deployment: forbidden") }, "installation unknown reading Deployment: forbidden"},
	} {
		t.Run(name, func(t *testing.T) {
			i, b := healthyVelero(), &velerov1.Backup{}
			c.change(i, b)
			var got []string
			for _, found := range i.findings(b) {
				if found.State != good {
					got = append(got, found.What+" "+string(found.State)+" "+found.Detail)
				}
				if found.State == bad && found.Remedy == "" {
					t.Errorf("%s: nothing to do", found.What)
				}
			}
			if strings.Join(got, "; ") != c.want {
				t.Errorf("got %q, want %q", got, c.want)
			}
		})
	}
}

func TestTheServersOwnSettingsCount(t *testing.T) {
	i := healthyVelero()
	if got := i.server(); got != (backup.Server{CSI: true, Poll: 5 * time.Second}) {
		t.Errorf("a server at its defaults is %+v", got)
	}
	container := &i.deployment.Spec.Template.Spec.Containers[0]
	container.Env = []corev1.EnvVar{{Name: "CSI_SNAPSHOT_EARLY_FREQUENT_POLLING", Value: "true"}}
	container.Args = []string{"server", "--features=EnableCSI", "--default-snapshot-move-data", "--volume-group-snapshot-label-key", "example.com/group", "--uploader-type=kopia"}
	if got := i.server().Poll; got != time.Second {
		t.Errorf("with frequent polling it waits %s", got)
	}
	no := false
	asked, plain := &velerov1.Backup{}, &velerov1.Backup{}
	asked.Spec.SnapshotMoveData = &no
	i.complete(asked)
	i.complete(plain)
	if *asked.Spec.SnapshotMoveData || !*plain.Spec.SnapshotMoveData || *plain.Spec.DefaultVolumesToFsBackup || plain.Spec.VolumeGroupSnapshotLabelKey != "example.com/group" {
		t.Errorf("the backups are %+v and %+v", asked.Spec, plain.Spec)
	}
	i.deployment = nil
	if got := i.server().Poll; got != time.Second {
		t.Errorf("a server that is not known waits %s", got)
	}
}

func TestABackupOrScheduleIsNamedInKubectlsWays(t *testing.T) {
	for args, want := range map[string]string{
		"": " ", "vm/web": " ", "backup nightly": "backup nightly", "backups/nightly": "backup nightly", "schedule nightly": "schedule nightly",
		"backup": "error", "backup/": "error", "schedule a b": "error", "backup/a b": "error",
	} {
		kind, name, err := veleroArgument(strings.Fields(args))
		got := kind + " " + name
		if err != nil {
			got = "error"
		}
		if got != want {
			t.Errorf("%q: %q, want %q", args, got, want)
		}
	}
}

func TestABackupIsWhatItsScheduleMakes(t *testing.T) {
	schedule := &velerov1.Schedule{}
	schedule.Labels = map[string]string{"velero.kubevirt.io/consistency": "required"}
	schedule.Spec.Template.IncludedNamespaces = []string{"shop"}
	made := &velerov1.Backup{}
	fromSchedule(made, schedule)
	if made.Labels["velero.kubevirt.io/consistency"] != "required" || len(made.Spec.IncludedNamespaces) != 1 {
		t.Errorf("made %+v", made)
	}
	schedule.Spec.Template.Labels = map[string]string{"team": "shop"}
	fromSchedule(made, schedule)
	if len(made.Labels) != 1 || made.Labels["team"] != "shop" {
		t.Errorf("made %+v", made.Labels)
	}
}
