//go:build e2e

package cluster

import (
	"context"
	"fmt"
	"maps"
	"strings"
	"testing"
	"time"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/util/wait"
	"k8s.io/client-go/dynamic"
)

// An editedCase is a restored DataVolume d and its claim with something that is different, and what CDI makes of them. Both
// have the annotation by which CDI leaves a volume's bytes alone, unless the case takes it away.
type editedCase struct {
	name        string
	first       string // an object that is there before, in YAML with the namespace left open
	disk        string // when a volume with the bytes comes for the claim: before it, or late
	volume      func(volume *unstructured.Unstructured)
	claim       func(claim *unstructured.Unstructured)
	volumeFirst bool
	noClaim     bool
	noVolume    bool
	late        bool   // the snapshot with the data comes after both
	status      string // put into the DataVolume's status
	missing     string // an object that comes when CDI has been seen to do nothing without it
	touched     bool   // the DataVolume is changed after both are there
	consumed    bool   // a pod comes for the claim, which has been waiting for one
	denied      string // the DataVolume is refused with this
	phase       string // of the DataVolume in the end
	bytes       string // in the end
	pending     bool   // the claim is never bound: there are no bytes
}

func annotate(key, value string) func(*unstructured.Unstructured) {
	return func(obj *unstructured.Unstructured) {
		annotations := obj.GetAnnotations()
		annotations[key] = value
		obj.SetAnnotations(annotations)
	}
}

func bare(annotation string) func(*unstructured.Unstructured) {
	return func(obj *unstructured.Unstructured) {
		annotations := obj.GetAnnotations()
		delete(annotations, annotation)
		obj.SetAnnotations(annotations)
	}
}

func both(edits ...func(*unstructured.Unstructured)) func(*unstructured.Unstructured) {
	return func(obj *unstructured.Unstructured) {
		for _, edit := range edits {
			edit(obj)
		}
	}
}

func sourced(source map[string]any) func(*unstructured.Unstructured) {
	return func(volume *unstructured.Unstructured) {
		spec := volume.Object["spec"].(map[string]any)
		delete(spec, "source")
		for key, value := range source {
			spec[key] = value
		}
	}
}

// filledFrom makes a claim name the source that CDI would fill it from.
func filledFrom(claim *unstructured.Unstructured) {
	spec := claim.Object["spec"].(map[string]any)
	delete(spec, "dataSource")
	spec["dataSourceRef"] = map[string]any{"apiGroup": "cdi.kubevirt.io", "kind": "VolumeImportSource", "name": "of-d"}
}

// legacy makes a claim one that CDI's import controller fills without a populator.
func legacy(phase string) func(*unstructured.Unstructured) {
	edits := []func(*unstructured.Unstructured){
		annotate("cdi.kubevirt.io/storage.usePopulator", "false"),
		annotate("cdi.kubevirt.io/storage.import.endpoint", goldenURL),
		annotate("cdi.kubevirt.io/storage.import.source", "http"),
		annotate("cdi.kubevirt.io/storage.pod.phase", phase),
	}
	if phase == "" {
		edits[3] = bare("cdi.kubevirt.io/storage.pod.phase")
	}
	return both(edits...)
}

const (
	prePopulated = "cdi.kubevirt.io/storage.prePopulated"
	populatedFor = "cdi.kubevirt.io/storage.populatedFor"

	importSourceYAML = `
apiVersion: cdi.kubevirt.io/v1beta1
kind: VolumeImportSource
metadata: {namespace: %s, name: of-d}
spec: {source: {http: {url: ` + goldenURL + `}}}
`
	dataSourceYAML = `
apiVersion: cdi.kubevirt.io/v1beta1
kind: DataSource
metadata: {namespace: %s, name: gone}
spec: {source: {pvc: {namespace: origin, name: d}}}
`
)

// instead makes an object another one, under its own name and with the marks that it has.
func instead(other *unstructured.Unstructured) func(*unstructured.Unstructured) {
	return func(obj *unstructured.Unstructured) {
		annotations := maps.Clone(other.GetAnnotations())
		for _, key := range []string{prePopulated, populatedFor} {
			if value := obj.GetAnnotations()[key]; value != "" {
				annotations[key] = value
			}
		}
		obj.SetAnnotations(annotations)
		obj.Object["spec"] = other.DeepCopy().Object["spec"]
	}
}

func onDemand(claim *unstructured.Unstructured) {
	claim.Object["spec"].(map[string]any)["storageClassName"] = StorageClassOnDemand
}

func empty(claim *unstructured.Unstructured) {
	delete(claim.Object["spec"].(map[string]any), "dataSource")
}

// forVolume makes a claim one of the volume with the bytes, by its name.
func forVolume(claim *unstructured.Unstructured) {
	claim.Object["spec"].(map[string]any)["volumeName"] = "volume-for-" + claim.GetNamespace()
}

// selecting makes a claim one of the volume with the bytes, by its label: so Velero's data mover leaves it.
func selecting(claim *unstructured.Unstructured) {
	empty(claim)
	claim.Object["spec"].(map[string]any)["selector"] = map[string]any{"matchLabels": map[string]any{"for": claim.GetNamespace()}}
}

// testFurtherRestoredDataVolumes has the cases that are not told by the order of objects alone. The last two arguments are a
// DataVolume and its claim while CDI was importing.
func testFurtherRestoredDataVolumes(t *testing.T, c *Cluster, unfinished, unfinishedClaim *unstructured.Unstructured) {
	for _, test := range []editedCase{
		{name: "b3", volume: both(bare(prePopulated), annotate("cdi.kubevirt.io/allowClaimAdoption", "true")), claim: bare(populatedFor), phase: "Succeeded", bytes: "USER-DATA"},
		// A phase that is put back is no more than a wish.
		{name: "c1", status: "ImportInProgress", phase: "Succeeded", bytes: "USER-DATA"},
		{name: "c2", volume: bare(prePopulated), noClaim: true, status: "ImportInProgress", phase: "Succeeded", bytes: "GOLDEN-IMAGE"},
		{name: "c3", noClaim: true, status: "Succeeded", phase: "Pending", pending: true},
		{name: "c4", volume: bare(prePopulated), noClaim: true, status: "Succeeded", phase: "Succeeded", bytes: "GOLDEN-IMAGE"},
		{
			name: "c5", first: importSourceYAML, claim: both(filledFrom, bare(populatedFor)), volume: bare(prePopulated),
			denied: "Destination PVC c5/d already exists", bytes: "GOLDEN-IMAGE",
		},
		// Succeeded without any data.
		{name: "c7", volume: instead(unfinished), claim: instead(unfinishedClaim), phase: "Succeeded", pending: true},
		{name: "d1", claim: filledFrom, phase: "Succeeded", pending: true},
		// Wrong data, although both are marked.
		{name: "d2", first: importSourceYAML, claim: filledFrom, phase: "Succeeded", bytes: "GOLDEN-IMAGE"},
		// A claim that has its volume is not filled.
		{name: "d3", disk: "before", claim: both(filledFrom, forVolume), phase: "Succeeded", bytes: "USER-DATA"},
		// Succeeded before there is data.
		{name: "e", late: true, phase: "Succeeded", bytes: "USER-DATA"},
		{name: "e2", late: true, claim: onDemand, consumed: true, phase: "Succeeded", bytes: "USER-DATA"},
		{name: "e3", claim: onDemand, consumed: true, phase: "Succeeded", bytes: "USER-DATA"},
		{name: "f2", volumeFirst: true, claim: bare(populatedFor), phase: "Pending", bytes: "USER-DATA"},
		// CDI looks again, refuses the claim ("already exists and is not managed by DataVolume"), and says Succeeded.
		{name: "h", volumeFirst: true, claim: bare(populatedFor), touched: true, phase: "Succeeded", bytes: "USER-DATA"},
		{name: "j1", volume: sourced(map[string]any{"source": map[string]any{"pvc": map[string]any{"namespace": "gone", "name": "gone"}}}), phase: "Succeeded", bytes: "USER-DATA"},
		{name: "j1b", volume: sourced(map[string]any{"source": map[string]any{"pvc": map[string]any{"namespace": "j1b", "name": "gone"}}}), phase: "Succeeded", bytes: "USER-DATA"},
		{name: "j3", volume: sourced(map[string]any{"source": map[string]any{"snapshot": map[string]any{"namespace": "j3", "name": "gone"}}}), phase: "Succeeded", bytes: "USER-DATA"},
		// CDI never looks at it.
		{name: "j2", volume: sourced(map[string]any{"sourceRef": map[string]any{"kind": "DataSource", "namespace": "j2", "name": "gone"}}), phase: "", bytes: "USER-DATA"},
		{
			name: "j2b", volume: sourced(map[string]any{"sourceRef": map[string]any{"kind": "DataSource", "namespace": "j2b", "name": "gone"}}),
			missing: dataSourceYAML, touched: true, phase: "Succeeded", bytes: "USER-DATA",
		},
		{name: "j4", volume: sourced(map[string]any{"source": map[string]any{"upload": map[string]any{}}}), phase: "Succeeded", bytes: "USER-DATA"},
		// Succeeded with an empty disk.
		{name: "p", claim: empty, phase: "Succeeded", bytes: ""},
		{name: "p2", claim: selecting, disk: "late", phase: "Succeeded", bytes: "USER-DATA"},
		{name: "q0", claim: legacy("Succeeded"), volume: annotate("cdi.kubevirt.io/storage.usePopulator", "false"), phase: "Succeeded", bytes: "USER-DATA"},
		// The import controller does not look at the mark.
		{name: "q1", claim: legacy(""), volume: annotate("cdi.kubevirt.io/storage.usePopulator", "false"), phase: "Succeeded", bytes: "GOLDEN-IMAGE"},
		{name: "q3", claim: both(legacy(""), bare(populatedFor)), noVolume: true, phase: "", bytes: "GOLDEN-IMAGE"},
		{name: "q2", claim: legacy("Running"), volume: annotate("cdi.kubevirt.io/storage.usePopulator", "false"), phase: "Succeeded", bytes: "GOLDEN-IMAGE"},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel() // most of the time it waits for nothing to happen
			test.run(t, c)
		})
	}
	t.Run("g", func(t *testing.T) { testClaimWithItsOldOwner(t, c) })
	t.Run("k", func(t *testing.T) { testClaimOfADeletedDataVolume(t, c) })
}

func (test editedCase) run(t *testing.T, c *Cluster) {
	if test.late {
		load(t, c, "{apiVersion: v1, kind: Namespace, metadata: {name: %s}}", test.name)
	} else {
		provideSnapshot(t, c, test.name)
	}
	if test.first != "" {
		load(t, c, test.first, test.name)
	}
	if test.disk == "before" {
		provideVolume(t, c, test.name)
	}
	test.restore(t, c)
	if test.phase == "Succeeded" {
		until(t, c, dataVolume(test.name, "d"), test.phase, "status", "phase")
	}
	claim := object("v1", "PersistentVolumeClaim", test.name, "d")
	if test.late || test.disk == "late" || test.consumed {
		time.Sleep(time.Second)
		if phase := phaseOf(t, c, claim); phase != "Pending" {
			t.Errorf("the claim is %s before there is what it waits for", phase)
		}
	}
	if test.late {
		provideSnapshot(t, c, test.name)
	}
	if test.disk == "late" {
		provideVolume(t, c, test.name)
	}
	if test.consumed {
		load(t, c, consumerYAML, test.name, "d")
	}
	if !test.pending {
		until(t, c, claim, "Bound", "status", "phase")
		awaitBytes(t, c, test.name, test.bytes)
	}
	time.Sleep(time.Second) // what happens for ever has not happened after this, either
	if phase := phaseOf(t, c, dataVolume(test.name, "d")); phase != test.phase {
		t.Errorf("the DataVolume is %q, want %q", phase, test.phase)
	}
	if phase := phaseOf(t, c, claim); test.pending && phase == "Bound" {
		t.Errorf("the claim is %s", phase)
	}
}

// restore makes the claim and the DataVolume of the case.
func (test editedCase) restore(t *testing.T, c *Cluster) {
	t.Helper()
	volume := asRestored(live(t, c, dataVolume("origin", "d")), test.name)
	claim := restoredClaim(t, c, test.name)
	mark(volume, "prePopulated")
	mark(claim, "populatedFor")
	if test.volume != nil {
		test.volume(volume)
	}
	if test.claim != nil {
		test.claim(claim)
	}
	objects := []*unstructured.Unstructured{claim, volume}
	switch {
	case test.volumeFirst:
		objects = []*unstructured.Unstructured{volume, claim}
	case test.noClaim:
		objects = objects[1:]
	case test.noVolume:
		objects = objects[:1]
	}
	for n, obj := range objects {
		if n == 1 && test.volumeFirst { // CDI has done with it what it does
			until(t, c, volume, "Pending", "status", "phase")
			time.Sleep(time.Second)
		}
		_, err := c.clients.create(t.Context(), obj)
		if obj == volume && test.denied != "" {
			if err == nil || !strings.Contains(err.Error(), test.denied) {
				t.Fatalf("the DataVolume gives %v, want %q", err, test.denied)
			}
			return
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	resource, _, err := c.clients.resource(volume)
	if err != nil {
		t.Fatal(err)
	}
	if test.status != "" {
		patch := fmt.Appendf(nil, `{"status":{"phase":%q}}`, test.status)
		if _, err := resource.Patch(t.Context(), "d", types.MergePatchType, patch, metav1.PatchOptions{}, "status"); err != nil {
			t.Fatal(err)
		}
	}
	if test.missing != "" {
		time.Sleep(time.Second)
		if phase := phaseOf(t, c, volume); phase != "" {
			t.Errorf("the DataVolume is %s without what it names", phase)
		}
		load(t, c, test.missing, test.name)
	}
	if test.touched {
		patch := []byte(`{"metadata":{"annotations":{"touched":"yes"}}}`)
		if _, err := resource.Patch(t.Context(), "d", types.MergePatchType, patch, metav1.PatchOptions{}); err != nil {
			t.Fatal(err)
		}
	}
}

// phaseOf returns the phase of an object, "" when there is none.
func phaseOf(t *testing.T, c *Cluster, obj *unstructured.Unstructured) string {
	t.Helper()
	found, err := c.clients.get(t.Context(), obj)
	if err != nil && !apierrors.IsNotFound(err) {
		t.Fatal(err)
	}
	if found == nil {
		return ""
	}
	return nestedString(found, "status", "phase")
}

func awaitBytes(t *testing.T, c *Cluster, namespace, want string) {
	t.Helper()
	got := ""
	err := wait.PollUntilContextTimeout(t.Context(), 100*time.Millisecond, 30*time.Second, true, func(context.Context) (bool, error) {
		got = content(t, c, namespace, "d")
		return got == want, nil
	})
	if err != nil {
		t.Errorf("the bytes are %q, want %q", got, want)
	}
}

// testClaimWithItsOldOwner restores a claim with the reference to an owner that is no more.
func testClaimWithItsOldOwner(t *testing.T, c *Cluster) {
	provideSnapshot(t, c, "g")
	claim := restoredClaim(t, c, "g")
	claim.SetOwnerReferences(live(t, c, object("v1", "PersistentVolumeClaim", "origin", "d")).GetOwnerReferences())
	if len(claim.GetOwnerReferences()) == 0 {
		t.Fatal("the claim had no owner")
	}
	if _, err := c.clients.create(t.Context(), claim); err != nil {
		t.Fatal(err)
	}
	resource, _, err := c.clients.resource(claim)
	if err != nil {
		t.Fatal(err)
	}
	awaitGone(t, resource)
}

// testClaimOfADeletedDataVolume deletes a restored DataVolume, which has taken over its claim.
func testClaimOfADeletedDataVolume(t *testing.T, c *Cluster) {
	editedCase{name: "k", phase: "Succeeded", bytes: "USER-DATA"}.run(t, c)
	volumes, _, err := c.clients.resource(dataVolume("k", "d"))
	if err != nil {
		t.Fatal(err)
	}
	if err := volumes.Delete(t.Context(), "d", metav1.DeleteOptions{}); err != nil {
		t.Fatal(err)
	}
	claims, _, err := c.clients.resource(object("v1", "PersistentVolumeClaim", "k", "d"))
	if err != nil {
		t.Fatal(err)
	}
	awaitGone(t, claims)
}

func awaitGone(t *testing.T, claims dynamic.ResourceInterface) {
	t.Helper()
	err := wait.PollUntilContextTimeout(t.Context(), 100*time.Millisecond, 30*time.Second, true, func(ctx context.Context) (bool, error) {
		_, err := claims.Get(ctx, "d", metav1.GetOptions{})
		return apierrors.IsNotFound(err), nil
	})
	if err != nil {
		t.Error("the claim is still there")
	}
}
