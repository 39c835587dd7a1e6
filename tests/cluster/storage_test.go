//go:build e2e

package cluster

import (
	"fmt"
	"os"
	"strings"
	"testing"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
)

// load puts the objects of a YAML text, in which verbs are replaced as by fmt.Sprintf, into the cluster.
func load(t *testing.T, c *Cluster, text string, args ...any) {
	t.Helper()
	objects, err := decode(fmt.Appendf(nil, text, args...))
	if err != nil {
		t.Fatal(err)
	}
	if err := c.Load(t.Context(), objects); err != nil {
		t.Fatal(err)
	}
}

// until waits for a field of an object to have a value.
func until(t *testing.T, c *Cluster, obj *unstructured.Unstructured, want any, fields ...string) {
	t.Helper()
	started := time.Now()
	if err := c.clients.await(t.Context(), obj, fmt.Sprint(want), 30*time.Second, func(live *unstructured.Unstructured) bool {
		got, _, _ := unstructured.NestedFieldNoCopy(live.Object, fields...)
		return got == want
	}); err != nil {
		t.Fatal(err)
	}
	t.Logf("%s is %v after %s", describe(obj), want, time.Since(started).Round(10*time.Millisecond))
}

// content returns the text that a claim's bytes begin with.
func content(t *testing.T, c *Cluster, namespace, claim string) string {
	t.Helper()
	text, err := c.ReadText(t.Context(), namespace, claim)
	if err != nil {
		t.Fatal(err)
	}
	return text
}

func write(t *testing.T, c *Cluster, namespace, claim, text string) {
	t.Helper()
	if err := c.WriteText(t.Context(), namespace, claim, text); err != nil {
		t.Fatal(err)
	}
}

const (
	claimYAML = `
apiVersion: v1
kind: PersistentVolumeClaim
metadata: {namespace: %s, name: %s, labels: {group: one}}
spec: {accessModes: [ReadWriteOnce], resources: {requests: {storage: 8Mi}}, dataSource: %s}
`
	snapshotYAML = `
apiVersion: snapshot.storage.k8s.io/v1
kind: VolumeSnapshot
metadata: {namespace: %s, name: %s}
spec: {volumeSnapshotClassName: files, source: {persistentVolumeClaimName: %s}}
`
	consumerYAML = `
apiVersion: v1
kind: Pod
metadata: {namespace: %s, name: consumer}
spec:
  containers: [{name: main, image: none}]
  volumes: [{name: disk, persistentVolumeClaim: {claimName: %s}}]
`
	ofSnapshot = "{apiGroup: snapshot.storage.k8s.io, kind: VolumeSnapshot, name: %s}"
)

func volumeSnapshot(namespace, name string) *unstructured.Unstructured {
	return object("snapshot.storage.k8s.io/v1", "VolumeSnapshot", namespace, name)
}

func testVolumes(t *testing.T, c *Cluster) {
	load(t, c, claimYAML, "bytes", "original", "null")
	write(t, c, "bytes", "original", "before")
	load(t, c, snapshotYAML, "bytes", "shot", "original")
	until(t, c, volumeSnapshot("bytes", "shot"), true, "status", "readyToUse")
	write(t, c, "bytes", "original", "AFTER!")
	load(t, c, claimYAML, "bytes", "restored", fmt.Sprintf(ofSnapshot, "shot"))
	load(t, c, claimYAML, "bytes", "clone", "{kind: PersistentVolumeClaim, name: original}")
	for claim, want := range map[string]string{"original": "AFTER!", "restored": "before", "clone": "AFTER!"} {
		if got := content(t, c, "bytes", claim); got != want {
			t.Errorf("%s has %q, want %q", claim, got, want)
		}
	}
	path, err := c.Bytes(t.Context(), "bytes", "restored")
	if err != nil {
		t.Fatal(err)
	}
	if info, err := os.Stat(path); err != nil || info.Size() != 8<<20 {
		t.Errorf("the disk is %v, %v", info, err)
	}
}

func testGroupSnapshot(t *testing.T, c *Cluster) {
	for _, claim := range []string{"first", "second"} {
		load(t, c, claimYAML, "group", claim, "null")
		write(t, c, "group", claim, "of "+claim)
	}
	load(t, c, `
apiVersion: groupsnapshot.storage.k8s.io/v1beta2
kind: VolumeGroupSnapshot
metadata: {namespace: group, name: both}
spec: {volumeGroupSnapshotClassName: files, source: {selector: {matchLabels: {group: one}}}}
`)
	until(t, c, object("groupsnapshot.storage.k8s.io/v1beta2", "VolumeGroupSnapshot", "group", "both"), true, "status", "readyToUse")
	resource, _, err := c.clients.resource(volumeSnapshot("group", ""))
	if err != nil {
		t.Fatal(err)
	}
	snapshots, err := resource.List(t.Context(), metav1.ListOptions{})
	if err != nil {
		t.Fatal(err)
	}
	if len(snapshots.Items) != 2 {
		t.Fatalf("there are %d snapshots", len(snapshots.Items))
	}
	for _, snapshot := range snapshots.Items {
		claim := nestedString(&snapshot, "spec", "source", "persistentVolumeClaimName")
		load(t, c, claimYAML, "group", "restored-"+claim, fmt.Sprintf(ofSnapshot, snapshot.GetName()))
		if got := content(t, c, "group", "restored-"+claim); got != "of "+claim {
			t.Errorf("restored %s has %q", claim, got)
		}
	}
}

func testOnDemand(t *testing.T, c *Cluster) {
	load(t, c, strings.Replace(claimYAML, "spec: {", "spec: {storageClassName: files-on-demand, ", 1), "demand", "late", "null")
	time.Sleep(time.Second)
	claim := object("v1", "PersistentVolumeClaim", "demand", "late")
	until(t, c, claim, "Pending", "status", "phase")
	load(t, c, consumerYAML, "demand", "late")
	until(t, c, claim, "Bound", "status", "phase")
	until(t, c, object("v1", "Pod", "demand", "consumer"), "Running", "status", "phase")
}

func testCSIFaults(t *testing.T, c *Cluster) {
	load(t, c, claimYAML, "faults", "disk", "null")
	fail := func(faults CSIFaults) {
		t.Helper()
		if err := c.FailCSI(faults); err != nil {
			t.Fatal(err)
		}
	}
	fail(CSIFaults{Fail: map[string]string{"CreateSnapshot": "no space left"}})
	load(t, c, snapshotYAML, "faults", "failing", "disk")
	if err := c.clients.await(t.Context(), volumeSnapshot("faults", "failing"), "failed", 10*time.Second, func(live *unstructured.Unstructured) bool {
		return strings.Contains(nestedString(live, "status", "error", "message"), "no space left")
	}); err != nil {
		t.Error(err)
	}
	fail(CSIFaults{SnapshotDelay: time.Hour})
	until(t, c, volumeSnapshot("faults", "failing"), false, "status", "readyToUse")
	fail(CSIFaults{})
	until(t, c, volumeSnapshot("faults", "failing"), true, "status", "readyToUse")
}
