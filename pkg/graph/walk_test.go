package graph_test

import (
	"context"
	"errors"
	"testing"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/runtime/schema"

	"velero-plugin-for-kubevirt/pkg/cluster"
	"velero-plugin-for-kubevirt/pkg/graph"
	"velero-plugin-for-kubevirt/pkg/kubevirt"

	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
)

// forbidding is a reader that must not see one resource, or only list it.
type forbidding struct {
	cluster.Memory
	resource schema.GroupResource
	mayGet   bool
}

func (f forbidding) List(ctx context.Context, query graph.Query) (*graph.Objects, error) {
	if query.GroupResource == f.resource {
		return nil, apierrors.NewForbidden(f.resource, "", errors.New("no role"))
	}
	return f.Memory.List(ctx, query)
}

func (f forbidding) Get(ctx context.Context, id kubevirt.ID) (map[string]any, error) {
	if id.GroupResource == f.resource && !f.mayGet {
		return nil, apierrors.NewForbidden(f.resource, id.Name, errors.New("no role"))
	}
	return f.Memory.Get(ctx, id)
}

func made(resource schema.GroupResource, name string, fields map[string]any) (schema.GroupResource, *unstructured.Unstructured) {
	obj := &unstructured.Unstructured{Object: fields}
	obj.SetNamespace("shop")
	obj.SetName(name)
	return resource, obj
}

func webWithASecret() cluster.Memory {
	memory := cluster.Memory{}
	add := func(resource schema.GroupResource, obj *unstructured.Unstructured) {
		memory[resource] = append(memory[resource], obj)
	}
	add(made(kubevirt.VirtualMachines, "web", map[string]any{
		"status": map[string]any{"printableStatus": "Running"},
		"spec": map[string]any{"template": map[string]any{"spec": map[string]any{"volumes": []any{
			map[string]any{"name": "root", "persistentVolumeClaim": map[string]any{"claimName": "root"}},
			map[string]any{"name": "tls", "secret": map[string]any{"secretName": "tls"}},
		}}}},
	}))
	add(made(kubevirt.PersistentVolumeClaims, "root", map[string]any{}))
	add(made(kubevirt.Secrets, "tls", map[string]any{}))
	return memory
}

func states(t *testing.T, reader graph.Reader) (map[string]graph.State, []graph.Question) {
	web := kubevirt.ID{GroupResource: kubevirt.VirtualMachines, Namespace: "shop", Name: "web"}
	nodes, err := graph.Walk(t.Context(), web, reader)
	if err != nil {
		t.Fatal(err)
	}
	found := map[string]graph.State{}
	var questions []graph.Question
	for _, node := range nodes {
		found[node.Resource+"/"+node.Name] = node.State
		questions = append(questions, node.Questions...)
	}
	return found, questions
}

func TestWhatMustNotBeReadIsUnknownAndTheRestIsShown(t *testing.T) {
	found, questions := states(t, forbidding{webWithASecret(), kubevirt.Secrets, false})
	if found["secrets/tls"] != graph.Unknown || found["persistentvolumeclaims/root"] != graph.Present || len(questions) != 0 {
		t.Errorf("%v, %v", found, questions)
	}
	// Without PVCs nobody knows whether the VM has backend storage.
	found, questions = states(t, forbidding{webWithASecret(), kubevirt.PersistentVolumeClaims, false})
	if found["secrets/tls"] != graph.Present || found["persistentvolumeclaims/root"] != graph.Unknown || len(questions) != 1 || !apierrors.IsForbidden(questions[0].Err) {
		t.Errorf("%v, %v", found, questions)
	}
}

func TestWhatMayNotBeListedIsAskedForByName(t *testing.T) {
	reader := forbidding{webWithASecret(), kubevirt.Secrets, true}
	if found, _ := states(t, reader); found["secrets/tls"] != graph.Present {
		t.Errorf("%v", found)
	}
	delete(reader.Memory, kubevirt.Secrets)
	if found, _ := states(t, reader); found["secrets/tls"] != graph.Missing {
		t.Errorf("%v", found)
	}
}

func TestARootThatMustNotBeReadIsAnError(t *testing.T) {
	web := kubevirt.ID{GroupResource: kubevirt.VirtualMachines, Namespace: "shop", Name: "web"}
	if nodes, err := graph.Walk(t.Context(), web, forbidding{webWithASecret(), kubevirt.VirtualMachines, false}); !apierrors.IsForbidden(err) {
		t.Errorf("%v, %v", nodes, err)
	}
}

func TestAWalkEndsWithItsContext(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	web := kubevirt.ID{GroupResource: kubevirt.VirtualMachines, Namespace: "shop", Name: "web"}
	if _, err := graph.Walk(ctx, web, webWithASecret()); !errors.Is(err, context.Canceled) {
		t.Error(err)
	}
}

// TestWhatIsNotThereIsExpectedOrMissing has a VM that KubeVirt has not seen yet, with disks in all states.
func TestWhatIsNotThereIsExpectedOrMissing(t *testing.T) {
	memory := cluster.Memory{}
	add := func(resource schema.GroupResource, obj *unstructured.Unstructured) {
		memory[resource] = append(memory[resource], obj)
	}
	var volumes []any
	for _, disk := range []string{"root", "importing", "finished", "gone"} {
		volumes = append(volumes, map[string]any{"name": disk, "dataVolume": map[string]any{"name": disk}})
	}
	volumes = append(volumes, map[string]any{"name": "secret", "secret": map[string]any{"secretName": "root"}})
	add(made(kubevirt.VirtualMachines, "web", map[string]any{"spec": map[string]any{
		"dataVolumeTemplates": []any{map[string]any{"metadata": map[string]any{"name": "root"}}},
		"preference":          map[string]any{"name": "linux", "kind": "VirtualMachinePreference"},
		"template":            map[string]any{"spec": map[string]any{"volumes": volumes}},
	}, "status": map[string]any{"preferenceRef": map[string]any{"controllerRevisionRef": map[string]any{"name": "revision"}}}}))
	add(made(kubevirt.DataVolumes, "importing", map[string]any{"status": map[string]any{"phase": "ImportInProgress"}}))
	add(made(kubevirt.DataVolumes, "finished", map[string]any{"status": map[string]any{"phase": "Succeeded"}}))
	found, questions := states(t, memory)
	for id, want := range map[string]graph.State{
		"datavolumes/root": graph.ToBeMade, "persistentvolumeclaims/root": graph.ToBeMade, "secrets/root": graph.Missing,
		"datavolumes/importing": graph.Present, "persistentvolumeclaims/importing": graph.ToBeMade,
		"datavolumes/finished": graph.Present, "persistentvolumeclaims/finished": graph.Missing,
		"datavolumes/gone": graph.NotNeeded, "persistentvolumeclaims/gone": graph.Missing, "virtualmachinepreferences/linux": graph.NotNeeded,
	} {
		if found[id] != want {
			t.Errorf("%s is %q, want %q", id, found[id], want)
		}
	}
	if len(questions) != 0 {
		t.Errorf("there are questions: %v", questions)
	}
}

// TestOfAVolumeThatNobodyMayListNothingIsExpected: whether CDI fills it is not known.
func TestOfAVolumeThatNobodyMayListNothingIsExpected(t *testing.T) {
	memory := webWithASecret()
	delete(memory, kubevirt.PersistentVolumeClaims)
	resource, importing := made(kubevirt.DataVolumes, "root", map[string]any{"status": map[string]any{"phase": "ImportInProgress"}})
	memory[resource] = append(memory[resource], importing)
	for reader, want := range map[graph.Reader]graph.State{&memory: graph.ToBeMade, &forbidding{memory, kubevirt.DataVolumes, true}: graph.Missing} {
		if found, _ := states(t, reader); found["persistentvolumeclaims/root"] != want {
			t.Errorf("%T: the claim is %q, want %q", reader, found["persistentvolumeclaims/root"], want)
		}
	}
}

// listing is a reader that must not read one resource in full.
type listing struct {
	cluster.Memory
	resource schema.GroupResource
}

func (l listing) Get(ctx context.Context, id kubevirt.ID) (map[string]any, error) {
	if id.GroupResource == l.resource {
		return nil, apierrors.NewForbidden(l.resource, id.Name, errors.New("no role"))
	}
	return l.Memory.Get(ctx, id)
}

func TestWhatRefersToNothingIsNotRead(t *testing.T) {
	if found, _ := states(t, listing{webWithASecret(), kubevirt.Secrets}); found["secrets/tls"] != graph.Present {
		t.Errorf("the secret is %q", found["secrets/tls"])
	}
}

// TestAMalformedFieldIsToldOnce has a field that several references and lookups read.
func TestAMalformedFieldIsToldOnce(t *testing.T) {
	memory := webWithASecret()
	resource, malformed := made(kubevirt.DataVolumes, "root", map[string]any{
		"spec":   map[string]any{"sourceRef": map[string]any{"kind": "DataSource", "name": "linux"}},
		"status": map[string]any{"phase": 5},
	})
	memory[resource] = append(memory[resource], malformed)
	found, questions := states(t, memory)
	if found["datavolumes/root"] != graph.Malformed || len(questions) != 0 {
		t.Errorf("the DataVolume is %q, with %v", found["datavolumes/root"], questions)
	}
}
