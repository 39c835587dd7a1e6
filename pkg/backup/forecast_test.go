package backup

import (
	"errors"
	"fmt"
	"net/url"
	"slices"
	"strings"
	"testing"
	"time"

	velerov1 "github.com/vmware-tanzu/velero/pkg/apis/velero/v1"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"

	"velero-plugin-for-kubevirt/pkg/cluster"
	"velero-plugin-for-kubevirt/pkg/kubevirt"
)

// guestYAML is a running VM, of which a forecast says that it would be consistent.
const guestYAML = `
---
{apiVersion: kubevirt.io/v1, kind: VirtualMachine, metadata: {namespace: shop, name: NAME, labels: {app: NAME}, annotations: {MARKS}}, spec: {template: {spec: {domain: {devices: {}}, volumes: [VOLUMES]}}}}
---
apiVersion: kubevirt.io/v1
kind: VirtualMachineInstance
metadata: {namespace: shop, name: NAME, uid: vmi-NAME, ownerReferences: [{apiVersion: kubevirt.io/v1, kind: VirtualMachine, name: NAME, uid: vm-NAME, controller: true}]}
spec: {domain: {devices: {}}, volumes: [VOLUMES]}
status: {phase: Running, nodeName: node, guestOSInfo: {id: debian}, conditions: [{type: AgentConnected, status: "True"}]}
---
{kind: VirtualMachineInstanceGuestAgentInfo, apiVersion: kubevirt.io/v1, metadata: {namespace: shop, name: NAME}, guestAgentVersion: "9.0", supportedCommands: [{name: guest-fsfreeze-status, enabled: true}, {name: guest-fsfreeze-freeze, enabled: true}, {name: guest-fsfreeze-thaw, enabled: true}]}
---
apiVersion: v1
kind: Pod
metadata:
  namespace: shop
  name: virt-launcher-NAME
  labels: {kubevirt.io: virt-launcher, kubevirt.io/created-by: vmi-NAME}
  annotations: {pre.hook.backup.velero.io/command: '["/usr/bin/virt-freezer", "--freeze"]'}
  ownerReferences: [{apiVersion: kubevirt.io/v1, kind: VirtualMachineInstance, name: NAME, uid: vmi-NAME, controller: true}]
spec: {volumes: [VOLUMES]}
status: {phase: Running}
`

// guestWith is a running VM with claims.
func guestWith(name string, claims ...string) string {
	var volumes []string
	for _, claim := range claims {
		volumes = append(volumes, "{name: "+claim+", persistentVolumeClaim: {claimName: "+claim+"}}")
	}
	return strings.NewReplacer("NAME", name, "VOLUMES", strings.Join(volumes, ", "), "MARKS", "").Replace(guestYAML)
}

// forecastOf returns the forecasts for the VMs of a cluster with those objects, or for some of them, by name.
func forecastOf(t *testing.T, guests string, claims []string, backup *velerov1.Backup, server Server, only ...string) map[string]Forecast {
	t.Helper()
	r, _, _ := storageWith(t, "kubevirt", claims...)
	r.blocks = map[kubevirt.ID]*block{}
	objects, err := cluster.ReadObjects(strings.NewReader(guests))
	if err != nil {
		t.Fatal(err)
	}
	memory := r.reader.(cluster.Memory)
	var vms []*unstructured.Unstructured
	for resource, items := range cluster.FromObjects(objects) {
		memory[resource] = append(memory[resource], items...)
		if resource == kubevirt.VirtualMachines {
			vms = items
		}
	}
	for _, pod := range memory[kubevirt.Pods] {
		c, err := r.storage.Client()
		if err == nil {
			err = c.Create(t.Context(), pod.DeepCopy())
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	if len(only) > 0 {
		vms = slices.DeleteFunc(slices.Clone(vms), func(vm *unstructured.Unstructured) bool { return !slices.Contains(only, vm.GetName()) })
	}
	found, err := r.Forecast(t.Context(), vms, backup, server)
	if err != nil {
		t.Fatal(err)
	}
	forecasts := map[string]Forecast{}
	for _, forecast := range found {
		forecasts[forecast.ID.Name] = forecast
	}
	return forecasts
}

func TestForecast(t *testing.T) {
	replace := strings.NewReplacer
	no, yes := false, true
	for name, c := range map[string]struct {
		change *strings.Replacer // of the VM
		claims []string
		backup func(*velerov1.Backup)
		server Server
		want   string // level and message; empty when the backup does not take the VM
	}{
		"a good VM":     {want: "filesystem "},
		"a stopped one": {change: replace("kind: VirtualMachineInstance\n", "kind: Other\n"), want: "offline "},
		"no agent":      {change: replace("AgentConnected", "Ready"), want: "crash NoGuestAgent"},
		"an agent that does not freeze": {
			change: replace("{name: guest-fsfreeze-freeze, enabled: true}", "{name: guest-exec, enabled: true}"), want: "crash FreezeUnsupported: guest-fsfreeze-freeze",
		},
		"an agent that was asked while its guest was frozen": {change: replace("guest-fsfreeze-freeze", "guest-ping"), want: "filesystem "},
		"a snapshot of it is being taken": {
			change: replace("annotations: {}}, spec: {template", "annotations: {}}, status: {snapshotInProgress: save}, spec: {template"), want: "crash SnapshotInProgress: save",
		},
		"a pod with hotplugged disks, which has no hooks": {change: replace("---\napiVersion: v1\nkind: Pod\n", besides("hotplug", "", "Pod")), want: "filesystem "},
		"a pod that nobody controls":                      {change: replace("---\napiVersion: v1\nkind: Pod\n", besides("loose", "", "")), want: "filesystem "},
		"an older pod that is in no backup": {
			change: replace("---\napiVersion: v1\nkind: Pod\n", besides("older", `velero.io/exclude-from-backup: "true", `, "VirtualMachineInstance")), want: "filesystem ",
		},
		"no hooks":             {change: replace("pre.hook", "no.hook"), want: "crash HooksDisabled: virt-launcher-web"},
		"a paused one":         {change: replace("conditions: [", `conditions: [{type: Paused, status: "True"}, `), want: "crash Paused"},
		"a disk without class": {claims: []string{"root:fast", "data:unlabelled"}, want: "crash DiskNotSnapshotted (data)"},
		"a disk left out":      {claims: []string{"root:fast", "data:fast!"}, want: "crash DiskNotSnapshotted (data)"},
		"no CSI":               {server: Server{CSI: false, Poll: time.Second}, want: "crash DiskNotSnapshotted (data, root)"},
		"Windows, looked at every second": {
			change: replace("debian", "mswindows"), want: "filesystem ",
		},
		"Windows, looked at every 11 seconds": {
			change: replace("debian", "mswindows"), server: Server{CSI: true, Poll: 11 * time.Second}, want: "crash WindowTooLong: 11s, the guest stays frozen for 8s at most",
		},
		"Windows, of which one disk is left out, looked at every 11 seconds": {
			change: replace("debian", "mswindows"), server: Server{CSI: true, Poll: 11 * time.Second}, claims: []string{"root:fast", "data:fast!"},
			want: "crash DiskNotSnapshotted (data)",
		},
		"Windows in one cut": {
			change: replace("debian", "mswindows"), server: Server{CSI: true, Poll: 11 * time.Second}, backup: withOneCut, want: "filesystem ",
		},
		"Windows whose disks are a volume group": {
			change: replace("debian", "mswindows"), server: Server{CSI: true, Poll: 11 * time.Second},
			backup: func(b *velerov1.Backup) { b.Spec.VolumeGroupSnapshotLabelKey = "app" }, want: "filesystem ",
		},
		"one cut, with data to move": {
			backup: func(b *velerov1.Backup) { withOneCut(b); b.Spec.SnapshotMoveData = &yes }, want: "filesystem ",
		},
		"a guest that may not be frozen for long": {
			backup: func(b *velerov1.Backup) { b.Labels = map[string]string{"velero.kubevirt.io/max-freeze": "1s"} }, want: "crash WindowTooLong: 1s, the guest stays frozen for 1s at most",
		},
		"no snapshots": {backup: func(b *velerov1.Backup) { b.Spec.SnapshotVolumes = &no }, want: "crash SnapshotDisabled"},
		"files":        {backup: func(b *velerov1.Backup) { b.Spec.DefaultVolumesToFsBackup = &yes }, want: "crash FileSystemBackup (data, root)"},
		"no pods":      {backup: func(b *velerov1.Backup) { b.Spec.ExcludedResources = []string{"pods"} }, want: "crash PodNotInBackup"},
		"another VM's label": {
			backup: func(b *velerov1.Backup) {
				b.Spec.LabelSelector = &metav1.LabelSelector{MatchLabels: map[string]string{"app": "db"}}
			},
		},
		"its label": {
			backup: func(b *velerov1.Backup) {
				b.Spec.LabelSelector = &metav1.LabelSelector{MatchLabels: map[string]string{"app": "web"}}
			}, want: "filesystem ",
		},
		"its pod's label": {
			backup: func(b *velerov1.Backup) {
				b.Spec.OrLabelSelectors = []*metav1.LabelSelector{{MatchLabels: map[string]string{"kubevirt.io": "virt-launcher"}}}
			}, want: "filesystem ",
		},
		"its pool's label": {
			change: replace("labels: {app: web}, annotations", "labels: {app: web}, ownerReferences: [{apiVersion: pool.kubevirt.io/v1beta1, kind: VirtualMachinePool, name: fleet, uid: u, controller: true}], annotations",
				"---\n{kind: VirtualMachineInstanceGuestAgentInfo", "---\n{apiVersion: pool.kubevirt.io/v1beta1, kind: VirtualMachinePool, metadata: {namespace: shop, name: fleet, labels: {app: fleet}}}\n---\n{kind: VirtualMachineInstanceGuestAgentInfo"),
			backup: func(b *velerov1.Backup) {
				b.Spec.LabelSelector = &metav1.LabelSelector{MatchLabels: map[string]string{"app": "fleet"}}
			}, want: "filesystem ",
		},
		"another namespace": {backup: func(b *velerov1.Backup) { b.Spec.IncludedNamespaces = []string{"office"} }},
		"another namespace, and what is asked is not understood": {
			change: replace("annotations: {}", "annotations: {velero.kubevirt.io/consistency: perhaps}"),
			backup: func(b *velerov1.Backup) { b.Spec.IncludedNamespaces = []string{"office"} },
		},
	} {
		t.Run(name, func(t *testing.T) {
			guest := guestWith("web", "root", "data")
			if c.change != nil {
				guest = c.change.Replace(guest)
			}
			if c.claims == nil {
				c.claims = []string{"root:fast", "data:fast"}
			}
			if c.server == (Server{}) {
				c.server = Server{CSI: true, Poll: time.Second}
			}
			backup := &velerov1.Backup{ObjectMeta: metav1.ObjectMeta{Namespace: "velero", Name: "nightly"}}
			if c.backup != nil {
				c.backup(backup)
			}
			forecast := forecastOf(t, guest, c.claims, backup, c.server)["web"]
			got := ""
			if forecast.Taken {
				got = string(forecast.Verdict.Level) + " " + forecast.Verdict.Message()
			}
			if got != c.want || forecast.Err != nil {
				t.Errorf("got %q, %v; want %q", got, forecast.Err, c.want)
			}
		})
	}
}

// besides is another pod of the instance, without hooks, before the one that is there.
func besides(name, labels, owner string) string {
	if owner != "" {
		owner = "{apiVersion: v1, kind: " + owner + ", name: web, uid: vmi-web, controller: true}"
	}
	return "---\n{apiVersion: v1, kind: Pod, metadata: {namespace: shop, name: " + name + ", labels: {" + labels + "kubevirt.io: virt-launcher, kubevirt.io/created-by: vmi-web}, ownerReferences: [" + owner +
		"]}, spec: {}, status: {phase: Running}}\n---\napiVersion: v1\nkind: Pod\n"
}

func withOneCut(b *velerov1.Backup) {
	b.Spec.ResourcePolicy = &corev1.TypedLocalObjectReference{Kind: "configmap", Name: "one-cut"}
}

// TestVMsThatShareADiskAreForecastTogether: they are frozen until the last snapshot of both.
func TestVMsThatShareADiskAreForecastTogether(t *testing.T) {
	backup := &velerov1.Backup{ObjectMeta: metav1.ObjectMeta{Namespace: "velero", Name: "nightly"}}
	forecasts := forecastOf(t, guestWith("one", "root", "common")+guestWith("two", "data", "common")+guestWith("three", "alone"),
		[]string{"root:fast", "data:fast", "common:fast", "alone:fast"}, backup, Server{CSI: true, Poll: 5 * time.Second})
	for name, want := range map[string]time.Duration{"one": 10 * time.Second, "two": 10 * time.Second, "three": 0} {
		if got := forecasts[name].Facts.Window; got != want || forecasts[name].Err != nil {
			t.Errorf("%s is frozen for %s, %v; want %s", name, got, forecasts[name].Err, want)
		}
	}
}

// TestVMsOfAGroupAreForecastTogether: what keeps one from being frozen with the others is said of each.
func TestVMsOfAGroupAreForecastTogether(t *testing.T) {
	replace := strings.NewReplacer
	for name, c := range map[string]struct {
		database *strings.Replacer
		claim    string // of the database
		backup   func(*velerov1.Backup)
		web, db  string
	}{
		"all well":             {web: "filesystem ", db: "filesystem "},
		"one cut":              {backup: withOneCut, web: "filesystem ", db: "filesystem "},
		"one is stopped":       {database: replace("kind: VirtualMachineInstance\n", "kind: Other\n"), web: "filesystem ", db: "offline "},
		"one is paused":        {database: replace("conditions: [", `conditions: [{type: Paused, status: "True"}, `), web: "filesystem NotTogether: app", db: "crash Paused; NotTogether: app"},
		"one has no agent":     {database: replace("AgentConnected", "Ready"), web: "filesystem NotTogether: app", db: "crash NoGuestAgent; NotTogether: app"},
		"a disk cannot be cut": {claim: "data:unlabelled", web: "filesystem NotTogether: app", db: "crash DiskNotSnapshotted (data); NotTogether: app"},
		"a disk is left out":   {claim: "data:fast!", web: "filesystem ", db: "crash DiskNotSnapshotted (data)"},
		"no disk is to be cut": {
			backup: func(b *velerov1.Backup) { b.Spec.ExcludedResources = []string{"persistentvolumeclaims"} },
			web:    "crash DiskNotSnapshotted (root); NotTogether: app", db: "crash DiskNotSnapshotted (data); NotTogether: app",
		},
		"the other is brought": {backup: func(b *velerov1.Backup) {
			b.Spec.LabelSelector = &metav1.LabelSelector{MatchLabels: map[string]string{"app": "web"}}
		}, web: "filesystem ", db: "filesystem "},
		"the other is in no backup": {database: replace("{app: database", `{velero.io/exclude-from-backup: "true", app: database`), web: "filesystem "},
		"files are copied": {
			backup: func(b *velerov1.Backup) { yes := true; b.Spec.DefaultVolumesToFsBackup = &yes },
			web:    "crash FileSystemBackup (root); NotTogether: app", db: "crash FileSystemBackup (data); NotTogether: app",
		},
	} {
		t.Run(name, func(t *testing.T) {
			database := guestWith("database", "data")
			if c.database != nil {
				database = c.database.Replace(database)
			}
			guests := strings.NewReplacer("labels: {app: web}", "labels: {app: web, velero.kubevirt.io/freeze-together: app}",
				"app: database}, annotations", "app: database, velero.kubevirt.io/freeze-together: app}, annotations").Replace(guestWith("web", "root") + database)
			if c.claim == "" {
				c.claim = "data:fast"
			}
			backup := &velerov1.Backup{ObjectMeta: metav1.ObjectMeta{Namespace: "velero", Name: "nightly"}}
			if c.backup != nil {
				c.backup(backup)
			}
			forecasts := forecastOf(t, guests, []string{"root:fast", c.claim}, backup, Server{CSI: true, Poll: time.Second})
			for name, want := range map[string]string{"web": c.web, "database": c.db} {
				got := forecasts[name]
				if got.Err != nil || got.Taken != (want != "") || got.Taken && fmt.Sprintf("%s %s", got.Verdict.Level, got.Verdict.Message()) != want {
					t.Errorf("%s: %t, %s %s, %v; want %s", name, got.Taken, got.Verdict.Level, got.Verdict.Message(), got.Err, want)
				}
			}
			alone := forecastOf(t, guests, []string{"root:fast", c.claim}, backup, Server{CSI: true, Poll: time.Second}, "web")["web"]
			if alone.Verdict.Message() != forecasts["web"].Verdict.Message() {
				t.Errorf("asked for alone, web is %s", alone.Verdict.Message())
			}
		})
	}
}

// TestAForecastThatCannotReadSaysSo: an outage is no verdict.
func TestAForecastThatCannotReadSaysSo(t *testing.T) {
	guest := strings.Replace(guestWith("web", "root"), "VirtualMachineInstanceGuestAgentInfo", "Other", 1)
	forecast := forecastOf(t, guest, []string{"root:fast"}, &velerov1.Backup{}, Server{CSI: true})["web"]
	if !forecast.Taken || forecast.Err == nil || !strings.Contains(forecast.Err.Error(), "does not answer") {
		t.Errorf("got %+v", forecast)
	}
	for err, want := range map[error]bool{
		errors.New("failed to get VolumeSnapshotClass"):                                                              true,
		fmt.Errorf("finding the storage class: %w", apierrors.NewNotFound(kubevirt.StorageClasses, "fast")):          true,
		fmt.Errorf("finding the storage class: %w", apierrors.NewForbidden(kubevirt.StorageClasses, "fast", nil)):    false,
		fmt.Errorf("finding the storage class: %w", &url.Error{Op: "Get", URL: "host", Err: errors.New("no route")}): false,
	} {
		if isAnswer(err) != want {
			t.Errorf("%v is an answer: %t", err, !want)
		}
	}
}
