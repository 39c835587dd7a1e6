package scenarios

import (
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/sirupsen/logrus"
	velerov1 "github.com/vmware-tanzu/velero/pkg/apis/velero/v1"
	"github.com/vmware-tanzu/velero/pkg/plugin/velero"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/labels"
	kyaml "sigs.k8s.io/yaml"
)

// A Plugin answers requests: the actions in this process, or the built binary.
type Plugin interface {
	// Call hands over an item, which the plugin may edit, and for a restore the item as it is in the backup.
	Call(request Request, item, fromBackup *unstructured.Unstructured) (Reply, error)
}

// A Reply is what a plugin returned and logged.
type Reply struct {
	Item            *unstructured.Unstructured // nil for an ItemBlock
	LeftOut         bool
	AdditionalItems []velero.ResourceIdentifier
	Log             []*logrus.Entry
}

// A RestoreAction is what Velero calls for an item that it restores.
type RestoreAction interface {
	velero.Applicable
	Execute(input *velero.RestoreItemActionExecuteInput) (*velero.RestoreItemActionExecuteOutput, error)
}

// RestoreBy calls, in their order, the actions that apply to an item, as Velero does, until one leaves it out.
func RestoreBy[Action RestoreAction](actions []Action, item, fromBackup *unstructured.Unstructured, restore *velerov1.Restore, reply *Reply) error {
	applied := 0
	for _, action := range actions {
		applies, err := Applies(action, item)
		if err != nil {
			return err
		}
		if !applies {
			continue
		}
		applied++
		output, err := action.Execute(&velero.RestoreItemActionExecuteInput{Item: item, ItemFromBackup: fromBackup, Restore: restore})
		if err != nil {
			return err
		}
		item = &unstructured.Unstructured{Object: output.UpdatedItem.UnstructuredContent()}
		reply.Item, reply.AdditionalItems = item, append(reply.AdditionalItems, output.AdditionalItems...)
		if reply.LeftOut = output.SkipRestore; reply.LeftOut {
			return nil
		}
	}
	if applied == 0 {
		return fmt.Errorf("no action applies to a %s", item.GetKind())
	}
	return nil
}

// Applies tells whether Velero would call an action for an item.
func Applies(action velero.Applicable, item *unstructured.Unstructured) (bool, error) {
	resource, _ := Resource(item)
	selector, err := action.AppliesTo()
	if err != nil {
		return false, err
	}
	byLabel, err := labels.Parse(selector.LabelSelector)
	if err != nil {
		return false, err
	}
	return slices.Contains(selector.IncludedResources, resource.String()) && byLabel.Matches(labels.Set(item.GetLabels())), nil
}

// Run runs every scenario below root against the plugins that start makes of a scenario's objects.
func Run(t *testing.T, root string, start func(t *testing.T, objects []*unstructured.Unstructured) Plugin) {
	folders, err := filepath.Glob(filepath.Join(root, "*", "request.yaml"))
	if err != nil || len(folders) == 0 {
		t.Fatalf("no scenarios below %s: %v", root, err)
	}
	for _, folder := range folders {
		dir := filepath.Dir(folder)
		t.Run(filepath.Base(dir), func(t *testing.T) {
			objects, err := Objects(dir)
			if err != nil {
				t.Fatal(err)
			}
			requests, err := Requests(dir)
			if err != nil {
				t.Fatal(err)
			}
			checkEveryWantHasItsRequest(t, dir, requests)
			plugin := start(t, objects)
			backedUp := map[string]*unstructured.Unstructured{}
			for _, request := range requests {
				t.Run(request.Name, func(t *testing.T) {
					item := backedUp[request.From]
					if item == nil {
						if item, err = Find(objects, request); err != nil {
							t.Fatal(err)
						}
					}
					want, err := Want(dir, request.Name)
					if err != nil {
						t.Fatal(err)
					}
					got, after := answer(plugin, request, item)
					if err := backUpSnapshot(plugin, request, item); err != nil {
						t.Error(err)
					}
					if diff := cmp.Diff(want, normalize(t, got)); diff != "" {
						t.Errorf("%s (-want +got):\n%s", request.Name, diff)
					}
					backedUp[request.Name] = after
				})
			}
		})
	}
}

// backUpSnapshot asks for the VolumeSnapshot that Velero has taken of a claim, as Velero does next.
func backUpSnapshot(plugin Plugin, request Request, item *unstructured.Unstructured) error {
	snapshot := SnapshotOf(item)
	if request.Phase != "backup" || snapshot == nil {
		return nil
	}
	_, err := plugin.Call(request, snapshot, snapshot.DeepCopy())
	return err
}

// SnapshotOf returns the VolumeSnapshot that Velero has taken of an item, nil when the item is no claim or has none.
func SnapshotOf(item *unstructured.Unstructured) *unstructured.Unstructured {
	name := item.GetAnnotations()[velerov1.VolumeSnapshotLabel]
	if item.GetKind() != "PersistentVolumeClaim" || name == "" {
		return nil
	}
	snapshot := &unstructured.Unstructured{Object: map[string]any{
		"apiVersion": "snapshot.storage.k8s.io/v1", "kind": "VolumeSnapshot",
		"spec": map[string]any{"source": map[string]any{"persistentVolumeClaimName": item.GetName()}},
	}}
	snapshot.SetNamespace(item.GetNamespace())
	snapshot.SetName(name)
	snapshot.SetLabels(map[string]string{velerov1.BackupNameLabel: item.GetLabels()[velerov1.BackupNameLabel]})
	return snapshot
}

// freezeWindow is a time that is measured.
const freezeWindow = "metadata.annotations[velero.kubevirt.io/freeze-window]"

func answer(plugin Plugin, request Request, fromBackup *unstructured.Unstructured) (Answer, *unstructured.Unstructured) {
	before := fromBackup.DeepCopy()
	if request.Phase == "restore" {
		before = AsRestored(fromBackup)
	}
	reply, err := plugin.Call(request, before.DeepCopy(), fromBackup.DeepCopy())
	if err != nil {
		return Answer{Error: err.Error()}, nil
	}
	got := Answer{LeftOut: reply.LeftOut}
	if reply.Item != nil && !reply.LeftOut {
		got.Changes = Compare(before.Object, reply.Item.Object)
		hideRandom(got.Changes)
		if window, measured := got.Changes[freezeWindow]; measured && window.After != nil {
			got.Changes[freezeWindow] = Change{Before: window.Before, After: "measured"}
		}
	}
	for _, item := range reply.AdditionalItems {
		got.AdditionalItems = append(got.AdditionalItems, fmt.Sprintf("%s %s/%s", item.GroupResource, item.Namespace, item.Name))
	}
	for _, entry := range reply.Log {
		if rule, ok := entry.Data["rule"].(string); ok && !slices.Contains(got.Rules, rule) {
			got.Rules = append(got.Rules, rule)
		}
		if entry.Level <= logrus.WarnLevel {
			about := entry.Data["neighbour"]
			if about == nil {
				about = entry.Data["error"]
			}
			got.Warnings = append(got.Warnings, fmt.Sprintf("%s (%v)", entry.Message, about))
		}
	}
	return got, reply.Item
}

// random is how a UUID looks that was drawn, not derived: version 4.
var random = regexp.MustCompile(`^[0-9a-f]{8}-[0-9a-f]{4}-4[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}$`)

// hideRandom puts words for values that differ each time.
func hideRandom(changes map[string]Change) {
	for path, change := range changes {
		changes[path] = Change{Before: change.Before, After: withoutRandom(change.After)}
	}
}

func withoutRandom(value any) any {
	switch value := value.(type) {
	case string:
		if random.MatchString(value) {
			return "a random UUID"
		}
	case map[string]any:
		hidden := map[string]any{}
		for key, below := range value {
			hidden[key] = withoutRandom(below)
		}
		return hidden
	}
	return value
}

// normalize gives the answer the types and the empty fields that reading it from YAML would give.
func normalize(t *testing.T, got Answer) Answer {
	data, err := kyaml.Marshal(got)
	if err != nil {
		t.Fatal(err)
	}
	var normal Answer
	if err := kyaml.Unmarshal(data, &normal); err != nil {
		t.Fatal(err)
	}
	return normal
}

// checkEveryWantHasItsRequest fails for a file in want/ that no request uses.
func checkEveryWantHasItsRequest(t *testing.T, dir string, requests []Request) {
	files, err := os.ReadDir(filepath.Join(dir, "want"))
	if err != nil {
		t.Fatal(err)
	}
	for _, file := range files {
		if !slices.ContainsFunc(requests, func(r Request) bool { return r.Name+".yaml" == file.Name() }) {
			t.Errorf("%s/want/%s: no request of that name", dir, file.Name())
		}
	}
}
