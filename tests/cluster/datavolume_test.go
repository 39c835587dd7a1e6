//go:build e2e

package cluster

import (
	"fmt"
	"strings"
	"testing"
	"time"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/types"
)

const (
	goldenURL      = "http://images.test/golden.img"
	golden         = "{http: {url: " + goldenURL + "}}"
	dataVolumeYAML = `
apiVersion: cdi.kubevirt.io/v1beta1
kind: DataVolume
metadata: {namespace: %s, name: %s}
spec: {source: %s, storage: {storageClassName: %s, resources: {requests: {storage: 8Mi}}}}
`
	copiedClassYAML = `
apiVersion: storage.k8s.io/v1
kind: StorageClass
metadata: {name: files-copied}
provisioner: files.csi.test
`
)

func dataVolume(namespace, name string) *unstructured.Unstructured {
	return object("cdi.kubevirt.io/v1beta1", "DataVolume", namespace, name)
}

func testDataVolumes(t *testing.T, c *Cluster) {
	c.Importer.Serve(goldenURL, []byte("GOLDEN-IMAGE"))
	addCopiedClass(t, c)
	load(t, c, dataVolumeYAML, "disks", "http", golden, StorageClass)
	until(t, c, dataVolume("disks", "http"), "Succeeded", "status", "phase")
	load(t, c, snapshotYAML, "disks", "shot", "http")
	until(t, c, volumeSnapshot("disks", "shot"), true, "status", "readyToUse")
	for _, test := range []struct{ name, source, want string }{
		{"blank", "{blank: {}}", ""},
		{"upload", "{upload: {}}", "UPLOADED"},
		{"pvc", "{pvc: {namespace: disks, name: http}}", "GOLDEN-IMAGE"},
		{"copy", "{pvc: {namespace: disks, name: http}}", "GOLDEN-IMAGE"},
		{"snapshot", "{snapshot: {namespace: disks, name: shot}}", "GOLDEN-IMAGE"},
	} {
		class := StorageClass
		if test.name == "copy" { // byte by byte, through two pods
			class = "files-copied"
		}
		load(t, c, dataVolumeYAML, "disks", test.name, test.source, class)
		if test.name == "upload" {
			until(t, c, dataVolume("disks", test.name), "UploadReady", "status", "phase")
			c.Importer.Upload("disks", test.name, []byte("UPLOADED"))
		}
		until(t, c, dataVolume("disks", test.name), "Succeeded", "status", "phase")
		if got := content(t, c, "disks", test.name); got != test.want {
			t.Errorf("%s has %q, want %q", test.name, got, test.want)
		}
	}
	testVolumeOnDemand(t, c)
}

// addCopiedClass makes a class whose volumes CDI clones byte by byte.
func addCopiedClass(t *testing.T, c *Cluster) {
	load(t, c, copiedClassYAML)
	profile := object("cdi.kubevirt.io/v1beta1", "StorageProfile", "", "files-copied")
	until(t, c, profile, "files-copied", "status", "storageClass")
	resource, _, err := c.clients.resource(profile)
	if err != nil {
		t.Fatal(err)
	}
	patch := `{"spec":{"cloneStrategy":"copy","claimPropertySets":[{"volumeMode":"Filesystem","accessModes":["ReadWriteOnce"]}]}}`
	if _, err := resource.Patch(t.Context(), "files-copied", types.MergePatchType, []byte(patch), metav1.PatchOptions{}); err != nil {
		t.Fatal(err)
	}
	until(t, c, profile, "copy", "status", "cloneStrategy")
}

// testVolumeOnDemand lets CDI wait for the first consumer.
func testVolumeOnDemand(t *testing.T, c *Cluster) {
	load(t, c, dataVolumeYAML, "disks", "late", golden, StorageClassOnDemand)
	until(t, c, dataVolume("disks", "late"), "PendingPopulation", "status", "phase")
	load(t, c, consumerYAML, "disks", "late")
	until(t, c, dataVolume("disks", "late"), "Succeeded", "status", "phase")
	if got := content(t, c, "disks", "late"); got != "GOLDEN-IMAGE" {
		t.Errorf("it has %q", got)
	}
}

// A restoredCase is an order in which the objects of a DataVolume d come back, and what CDI makes of it. A plus marks an
// object that has the annotation by which CDI leaves a volume's bytes alone.
type restoredCase struct {
	name   string
	from   string // the DataVolume as it was backed up: d, or unfinished
	steps  []string
	bytes  string
	denied string // the last step is refused with this
}

func testRestoredDataVolumes(t *testing.T, c *Cluster) {
	c.Importer.Serve(goldenURL, []byte("GOLDEN-IMAGE"))
	load(t, c, dataVolumeYAML, "origin", "d", golden, StorageClass)
	load(t, c, dataVolumeYAML, "origin", "unfinished", "{http: {url: http://images.test/not-yet.img}}", StorageClass)
	until(t, c, dataVolume("origin", "d"), "Succeeded", "status", "phase")
	write(t, c, "origin", "d", "USER-DATA")
	load(t, c, snapshotYAML, "origin", "shot", "d")
	until(t, c, volumeSnapshot("origin", "shot"), true, "status", "readyToUse")
	until(t, c, dataVolume("origin", "unfinished"), "ImportInProgress", "status", "phase")
	unfinished := live(t, c, dataVolume("origin", "unfinished"))
	unfinishedClaim := live(t, c, object("v1", "PersistentVolumeClaim", "origin", "unfinished"))
	c.Importer.Serve("http://images.test/not-yet.img", []byte("NEW-IMAGE"))
	for _, test := range []restoredCase{
		{name: "a", from: "d", steps: []string{"claim+", "volume+"}, bytes: "USER-DATA"},
		{name: "a2", from: "d", steps: []string{"claim+", "volume"}, bytes: "USER-DATA"},
		{name: "a3", from: "d", steps: []string{"claim", "volume+"}, bytes: "USER-DATA", denied: "Destination PVC a3/d already exists"},
		{name: "b", from: "d", steps: []string{"claim", "volume"}, bytes: "USER-DATA", denied: "Destination PVC b/d already exists"},
		// Data loss: the restored claim comes too late.
		{name: "b2", from: "d", steps: []string{"volume", "claim"}, bytes: "GOLDEN-IMAGE", denied: "already exists"},
		{name: "f", from: "d", steps: []string{"volume+", "claim+"}, bytes: "USER-DATA"},
		{name: "c6", from: "unfinished", steps: []string{"volume"}, bytes: "NEW-IMAGE"},
	} {
		t.Run(test.name, func(t *testing.T) {
			volume := unfinished
			if test.from == "d" {
				volume = live(t, c, dataVolume("origin", "d"))
			}
			test.run(t, c, volume)
		})
	}
	testFurtherRestoredDataVolumes(t, c, unfinished, unfinishedClaim)
}

func (test restoredCase) run(t *testing.T, c *Cluster, volume *unstructured.Unstructured) {
	provideSnapshot(t, c, test.name)
	var err error
	for _, step := range test.steps {
		if err != nil {
			t.Fatal(err)
		}
		kind, marked := strings.CutSuffix(step, "+")
		if kind == "volume" {
			err = restoreVolume(t, c, volume, test.name, marked)
		} else {
			err = restoreClaim(t, c, test.name, marked)
		}
	}
	if (test.denied == "") != (err == nil) || err != nil && !strings.Contains(err.Error(), test.denied) {
		t.Fatalf("the last step gives %v, want %q", err, test.denied)
	}
	if denied := err != nil; !denied || test.steps[0] == "volume" {
		until(t, c, dataVolume(test.name, volume.GetName()), "Succeeded", "status", "phase")
	}
	if got := content(t, c, test.name, volume.GetName()); got != test.bytes {
		t.Errorf("the bytes are %q, want %q", got, test.bytes)
	}
}

// provideSnapshot makes the snapshot of d known in another namespace, as Velero does.
func provideSnapshot(t *testing.T, c *Cluster, namespace string) {
	t.Helper()
	shot := live(t, c, volumeSnapshot("origin", "shot"))
	content := live(t, c, object("snapshot.storage.k8s.io/v1", "VolumeSnapshotContent", "", nestedString(shot, "status", "boundVolumeSnapshotContentName")))
	load(t, c, `
apiVersion: snapshot.storage.k8s.io/v1
kind: VolumeSnapshotContent
metadata: {name: restored-%[1]s}
spec: {deletionPolicy: Retain, driver: files.csi.test, source: {snapshotHandle: %[2]s}, volumeSnapshotRef: {namespace: %[1]s, name: shot}}
---
apiVersion: snapshot.storage.k8s.io/v1
kind: VolumeSnapshot
metadata: {namespace: %[1]s, name: shot}
spec: {source: {volumeSnapshotContentName: restored-%[1]s}}
`, namespace, nestedString(content, "status", "snapshotHandle"))
}

// provideVolume makes a volume with the bytes of the snapshot, for the claim d of a namespace.
func provideVolume(t *testing.T, c *Cluster, namespace string) {
	t.Helper()
	seed := restoredClaim(t, c, namespace)
	seed.SetName("seed")
	if _, err := c.clients.create(t.Context(), seed); err != nil {
		t.Fatal(err)
	}
	until(t, c, seed, "Bound", "status", "phase")
	seed = live(t, c, seed)
	volume := live(t, c, object("v1", "PersistentVolume", "", nestedString(seed, "spec", "volumeName")))
	restored := asRestored(volume, "")
	restored.SetName("volume-for-" + namespace)
	restored.SetLabels(map[string]string{"for": namespace})
	restored.SetAnnotations(nil)
	spec := restored.Object["spec"].(map[string]any)
	spec["persistentVolumeReclaimPolicy"] = "Retain" // its bytes are the seed's
	spec["claimRef"] = map[string]any{"apiVersion": "v1", "kind": "PersistentVolumeClaim", "namespace": namespace, "name": "d"}
	if _, err := c.clients.create(t.Context(), restored); err != nil {
		t.Fatal(err)
	}
}

// asRestored returns an object cut down to what Velero puts back.
func asRestored(obj *unstructured.Unstructured, namespace string) *unstructured.Unstructured {
	fresh := object(obj.GetAPIVersion(), obj.GetKind(), namespace, obj.GetName())
	fresh.SetLabels(obj.GetLabels())
	fresh.SetAnnotations(obj.GetAnnotations())
	fresh.Object["spec"] = obj.DeepCopy().Object["spec"]
	return fresh
}

func mark(obj *unstructured.Unstructured, annotation string) {
	annotations := obj.GetAnnotations()
	if annotations == nil {
		annotations = map[string]string{}
	}
	annotations["cdi.kubevirt.io/storage."+annotation] = obj.GetName()
	obj.SetAnnotations(annotations)
}

func restoreVolume(t *testing.T, c *Cluster, volume *unstructured.Unstructured, namespace string, marked bool) error {
	restored := asRestored(volume, namespace)
	if marked {
		mark(restored, "prePopulated")
	}
	if _, err := c.clients.create(t.Context(), restored); err != nil {
		return err
	}
	if marked {
		return nil
	}
	// CDI makes a claim of its own before the next object of a restore comes.
	claim := object("v1", "PersistentVolumeClaim", namespace, volume.GetName())
	return c.clients.await(t.Context(), claim, "there", 10*time.Second, func(*unstructured.Unstructured) bool { return true })
}

// restoredClaim returns the claim of d as Velero restores it from the snapshot.
func restoredClaim(t *testing.T, c *Cluster, namespace string) *unstructured.Unstructured {
	restored := asRestored(live(t, c, object("v1", "PersistentVolumeClaim", "origin", "d")), namespace)
	annotations := restored.GetAnnotations()
	for name := range annotations {
		if strings.Contains(name, "kubernetes.io/") {
			delete(annotations, name)
		}
	}
	restored.SetAnnotations(annotations)
	for _, field := range []string{"volumeName", "dataSourceRef"} {
		unstructured.RemoveNestedField(restored.Object, "spec", field)
	}
	restored.Object["spec"].(map[string]any)["dataSource"] = map[string]any{
		"apiGroup": "snapshot.storage.k8s.io", "kind": "VolumeSnapshot", "name": "shot",
	}
	return restored
}

func restoreClaim(t *testing.T, c *Cluster, namespace string, marked bool) error {
	restored := restoredClaim(t, c, namespace)
	if marked {
		mark(restored, "populatedFor")
	}
	_, err := c.clients.create(t.Context(), restored)
	if apierrors.IsAlreadyExists(err) {
		return fmt.Errorf("the claim already exists: %w", err)
	}
	return err
}
