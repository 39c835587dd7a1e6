package objects

import (
	"reflect"
	"slices"
	"strings"
	"testing"

	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"

	"velero-plugin-for-kubevirt/pkg/kubevirt"
	"velero-plugin-for-kubevirt/pkg/options"
	"velero-plugin-for-kubevirt/pkg/rules"
	"velero-plugin-for-kubevirt/tests/scenarios"
)

// input returns what the rules may be told besides an item.
func (s *script) input(phase rules.Phase, original map[string]any, objects []*unstructured.Unstructured) rules.Input {
	in := rules.Input{
		Phase: phase, Original: original, NewUUID: func() string { return "6a1a24a1-4061-4607-8bf4-a3963d0c5895" },
		AdditionalItems: []kubevirt.ID{{GroupResource: kubevirt.Secrets, Namespace: "shop", Name: "key"}},
		Instance:        func() (map[string]any, error) { return nil, nil },
		Target:          kubevirt.ID{Namespace: "staging", Name: "web"},
	}
	if s.choose(2) == 1 {
		instance := s.object(objects)
		in.Instance = func() (map[string]any, error) { return instance, nil }
	}
	if s.choose(2) == 1 {
		in.DataSource = s.object(objects)
	}
	if s.choose(4) == 1 {
		in.Pool = s.object(objects)
	}
	if s.choose(2) == 1 {
		in.NamespaceMapping = map[string]string{"shop": "staging", "everything": "x"}
	}
	if s.choose(2) == 1 {
		in.StorageClasses = map[string]string{"standard": "fast"}
	}
	data := []rules.Data{rules.NoData, rules.FromSnapshot, rules.Coming, rules.There}
	refills := []rules.Refill{rules.NoRefill, rules.BySource, rules.Blank}
	in.Data = data[s.choose(4)]
	if s.choose(2) == 1 {
		in.Disks = []rules.Disk{{
			Claim: kubevirt.ID{GroupResource: kubevirt.PersistentVolumeClaims, Namespace: "staging", Name: "root"}, Path: "spec.template.spec.volumes[0]",
			Listed: s.choose(2) == 1, Data: data[s.choose(4)], Refill: refills[s.choose(3)],
		}}
	}
	in.WithoutVolumes = s.choose(4) == 1
	in.There = func(kubevirt.ID) (bool, error) { return true, nil }
	if s.choose(4) == 1 {
		in.Existing = []schema.GroupResource{kubevirt.VirtualMachines}
	}
	if s.choose(2) == 1 {
		in.Nodes = []map[string]string{{"kubernetes.io/hostname": "node-1"}}
	}
	asked := map[string]string{}
	for _, option := range options.All {
		if len(option.Values) > 0 && s.choose(6) == 1 {
			asked[option.Key] = option.Values[s.choose(len(option.Values))]
		}
	}
	in.Restore = options.Source{Place: options.OnRestore, Name: "velero/r", Labels: asked}
	return in
}

// FuzzRules: what no rule says that it has changed is as it was, and a second time changes nothing.
func FuzzRules(f *testing.F) {
	objects := known(f)
	addScripts(f)
	f.Fuzz(func(t *testing.T, bytes []byte) {
		s := script(bytes)
		phase := []rules.Phase{rules.Backup, rules.Restore}[s.choose(2)]
		original := s.object(objects)
		item := runtime.DeepCopyJSON(original)
		if phase == rules.Restore {
			item = scenarios.AsRestored(&unstructured.Unstructured{Object: original}).Object
		}
		in := s.input(phase, runtime.DeepCopyJSON(original), objects)
		before := runtime.DeepCopyJSON(item)
		applied, err := rules.Run(resourceOf(item), item, in)
		if err != nil || leftOut(applied) {
			return
		}
		checkExplained(t, before, item, applied)
		once := runtime.DeepCopyJSON(item)
		if _, err := rules.Run(resourceOf(item), item, in); err != nil {
			t.Fatalf("the second time: %v", err)
		}
		if !reflect.DeepEqual(once, item) {
			t.Fatalf("the second time changes %+v", scenarios.Compare(once, item))
		}
	})
}

// FuzzRestoreOfBackup: an object that was backed up and restored is the one that it was, but for what the rules say.
func FuzzRestoreOfBackup(f *testing.F) {
	objects := known(f)
	addScripts(f)
	f.Fuzz(func(t *testing.T, bytes []byte) {
		s := script(bytes)
		original := s.object(objects)
		resource := resourceOf(original)
		backedUp := runtime.DeepCopyJSON(original)
		applied, err := rules.Run(resource, backedUp, s.input(rules.Backup, original, objects))
		if err != nil {
			return
		}
		restored := scenarios.AsRestored(&unstructured.Unstructured{Object: backedUp}).Object
		more, err := rules.Run(resource, restored, s.input(rules.Restore, backedUp, objects))
		if err != nil || leftOut(more) {
			return
		}
		checkExplained(t, scenarios.AsRestored(&unstructured.Unstructured{Object: original}).Object, restored, append(applied, more...))
	})
}

func leftOut(applied []rules.Applied) bool {
	return slices.ContainsFunc(applied, func(a rules.Applied) bool { return a.LeaveOut != "" })
}

// checkExplained fails for a difference at a path that no change names.
func checkExplained(t *testing.T, before, after map[string]any, applied []rules.Applied) {
	t.Helper()
	var paths []string
	for _, a := range applied {
		for _, change := range a.Changes {
			paths = append(paths, change.Path)
		}
	}
	for path, change := range scenarios.Compare(before, after) {
		if !slices.ContainsFunc(paths, func(named string) bool { return isBelow(path, named) || isBelow(named, path) }) {
			t.Fatalf("%s was %#v and is %#v, and nothing is said of it; said is: %q", path, change.Before, change.After, paths)
		}
	}
}

// isBelow tells whether a path is another one or leads on from it.
func isBelow(path, above string) bool {
	rest, is := strings.CutPrefix(path, above)
	return is && (rest == "" || rest[0] == '.' || rest[0] == '[')
}
