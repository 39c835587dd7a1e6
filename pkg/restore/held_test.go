package restore

import (
	"context"
	"errors"
	"slices"
	"strings"
	"testing"

	logtest "github.com/sirupsen/logrus/hooks/test"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"

	"velero-plugin-for-kubevirt/pkg/cluster"
	"velero-plugin-for-kubevirt/pkg/graph"
	"velero-plugin-for-kubevirt/pkg/kubevirt"
)

const heldVM = `{apiVersion: kubevirt.io/v1, kind: VirtualMachine, metadata: {namespace: shop, name: web, annotations: {velero.kubevirt.io/held-run-strategy: Always}},
  spec: {runStrategy: Halted, template: {spec: {volumes: [
    {name: tls, secret: {secretName: tls}}, {name: root, persistentVolumeClaim: {claimName: root}}, {name: data, persistentVolumeClaim: {claimName: data}}]}}}}`

// A moved claim is one that the data mover fills; a claim of its own is not waited for.
const (
	movedClaim = `{apiVersion: v1, kind: PersistentVolumeClaim, metadata: {namespace: shop, name: NAME}, spec: {selector: {matchLabels: {velero.io/dynamic-pv-restore: shop.NAME}}}, status: {phase: PHASE}}`
	ownClaim   = `{apiVersion: v1, kind: PersistentVolumeClaim, metadata: {namespace: shop, name: NAME}, status: {phase: Pending}}`
)

// patches remembers what was changed, or refuses to.
type patches struct {
	*storage
	made []string
	err  error
}

func (p *patches) Patch(_ context.Context, id kubevirt.ID, patch []byte) error {
	if p.err == nil {
		p.made = append(p.made, id.String()+" "+string(patch))
	}
	return p.err
}

// silent is a reader that does not get one kind.
type silent struct {
	graph.Reader
	id kubevirt.ID
}

func (s silent) Get(ctx context.Context, id kubevirt.ID) (map[string]any, error) {
	if id == s.id {
		return nil, errors.New("no answer")
	}
	return s.Reader.Get(ctx, id)
}

func TestAHeldVMIsReleasedWhenItsDataIsThere(t *testing.T) {
	const released = `virtualmachines.kubevirt.io/shop/web {"metadata":{"annotations":{"velero.kubevirt.io/held-run-strategy":null}},"spec":{"runStrategy":"Always"}}`
	web := kubevirt.ID{GroupResource: kubevirt.VirtualMachines, Namespace: "shop", Name: "web"}
	root := kubevirt.ID{GroupResource: kubevirt.PersistentVolumeClaims, Namespace: "shop", Name: "root"}
	claim := func(text, name, phase string) *unstructured.Unstructured {
		obj := item(t, text)
		obj.SetName(name)
		if phase != "" {
			_ = unstructured.SetNestedField(obj.Object, phase, "status", "phase") // it has a status
		}
		return obj
	}
	for name, c := range map[string]struct {
		objects         []*unstructured.Unstructured
		silent          kubevirt.ID
		refused         error
		completed       bool
		description     string
		total, done     int64
		patched, cancel []string
		notCancelled    bool
	}{
		"both are there": {
			objects:   []*unstructured.Unstructured{item(t, heldVM), claim(movedClaim, "root", "Bound"), claim(movedClaim, "data", "Bound")},
			completed: true, total: 2, done: 2, patched: []string{released}, cancel: []string{released},
		},
		"one is on its way": {
			objects:     []*unstructured.Unstructured{item(t, heldVM), claim(movedClaim, "root", "Bound"), claim(movedClaim, "data", "Pending")},
			description: "waiting for the data of data", total: 2, done: 1, cancel: []string{released},
		},
		"both are on their way": {
			objects:     []*unstructured.Unstructured{item(t, heldVM), claim(movedClaim, "root", "Pending"), claim(movedClaim, "data", "Pending")},
			description: "waiting for the data of data, root", total: 2, cancel: []string{released},
		},
		"nobody moves them": {
			objects:   []*unstructured.Unstructured{item(t, heldVM), claim(ownClaim, "root", ""), claim(ownClaim, "data", "")},
			completed: true, total: 2, done: 2, patched: []string{released}, cancel: []string{released},
		},
		"the VM is gone": {completed: true},
		"somebody has released it": {
			objects: []*unstructured.Unstructured{item(t, `{apiVersion: kubevirt.io/v1, kind: VirtualMachine, metadata: {namespace: shop, name: web}, spec: {runStrategy: Always}}`)}, completed: true,
		},
		"the VM cannot be read":  {objects: []*unstructured.Unstructured{item(t, heldVM)}, silent: web, description: "no answer", notCancelled: true},
		"a claim cannot be read": {objects: []*unstructured.Unstructured{item(t, heldVM)}, silent: root, description: "no answer", cancel: []string{released}},
		"a claim is not what it says": {
			objects:     []*unstructured.Unstructured{item(t, heldVM), item(t, `{apiVersion: v1, kind: PersistentVolumeClaim, metadata: {namespace: shop, name: root}, spec: {selector: {matchLabels: 5}}}`)},
			description: "reading persistentvolumeclaims/shop/root: ", cancel: []string{released},
		},
		"the VM cannot be read in full": {
			objects:     []*unstructured.Unstructured{item(t, `{apiVersion: kubevirt.io/v1, kind: VirtualMachine, metadata: {namespace: shop, name: web, annotations: {velero.kubevirt.io/held-run-strategy: Always}}, spec: {template: 5}}`)},
			description: "spec.template", cancel: []string{released},
		},
		"it cannot be released": {
			objects: []*unstructured.Unstructured{item(t, heldVM), claim(movedClaim, "root", "Bound"), claim(movedClaim, "data", "Bound")},
			refused: errors.New("refused"), description: "refused", total: 2, done: 2, notCancelled: true,
		},
	} {
		t.Run(name, func(t *testing.T) {
			log, _ := logtest.NewNullLogger()
			writer := &patches{err: c.refused}
			r := NewRun(silent{cluster.FromObjects(c.objects), c.silent}, writer, log)
			got := r.Progress(t.Context(), "shop/web")
			if got.Completed != c.completed || got.NTotal != c.total || got.NCompleted != c.done || !strings.Contains(got.Description, c.description) || (got.Description == "") != (c.description == "") || got.Err != "" {
				t.Errorf("%+v", got)
			}
			if !slices.Equal(writer.made, c.patched) {
				t.Errorf("changed %v", writer.made)
			}
			writer.made = nil
			if err := r.Cancel(t.Context(), "shop/web"); (err != nil) != c.notCancelled {
				t.Errorf("cancelled: %v", err)
			}
			if !slices.Equal(writer.made, c.cancel) {
				t.Errorf("cancelled, and changed %v", writer.made)
			}
		})
	}
}
