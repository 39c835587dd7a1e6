// Package scenarios is the plugin's behaviour as data. A folder is one situation: objects.yaml is what is in the cluster,
// request.yaml the calls that Velero makes, want/NAME.yaml what must come of the call NAME. Every layer of tests uses them:
// the actions in this process, the built binary over gRPC, and a real API server.
package scenarios

import (
	"fmt"
	"os"
	"path/filepath"
	"reflect"
	"strings"

	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	kyaml "sigs.k8s.io/yaml"

	"velero-plugin-for-kubevirt/pkg/cluster"
)

// A Request is one call of Velero.
type Request struct {
	Name  string `json:"name"`
	Phase string `json:"phase"` // backup, consistency, itemblock or restore
	// The item: one of objects.yaml, or, to restore what was backed up, the item that the request From answered.
	Kind      string            `json:"kind"`
	Namespace string            `json:"namespace"`
	Item      string            `json:"item"`
	From      string            `json:"from"`
	Backup    map[string]any    `json:"backup"`  // spec of the Backup
	Labels    map[string]string `json:"labels"`  // of the Backup
	Restore   map[string]any    `json:"restore"` // the Restore: labels, annotations, spec
}

// An Answer is what came of a request.
type Answer struct {
	Error           string            `json:"error,omitempty"`
	LeftOut         bool              `json:"leftOut,omitempty"`
	Changes         map[string]Change `json:"changes,omitempty"` // by path; what is not here came out as it went in
	AdditionalItems []string          `json:"additionalItems,omitempty"`
	Rules           []string          `json:"rules,omitempty"`    // rules that logged a decision
	Warnings        []string          `json:"warnings,omitempty"` // the logged messages, with what they are about
}

// A Change is one difference between the item before and after.
type Change struct {
	Before any `json:"before,omitempty"`
	After  any `json:"after,omitempty"`
}

// Objects reads objects.yaml of a scenario.
func Objects(dir string) ([]*unstructured.Unstructured, error) {
	path := filepath.Join(dir, "objects.yaml")
	file, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer file.Close()
	objects, err := cluster.ReadObjects(file)
	if err != nil {
		return nil, fmt.Errorf("reading %s: %w", path, err)
	}
	return objects, nil
}

// Requests reads request.yaml of a scenario.
func Requests(dir string) ([]Request, error) {
	var requests []Request
	return requests, read(filepath.Join(dir, "request.yaml"), &requests)
}

// Want reads what must come of a request.
func Want(dir, name string) (Answer, error) {
	var want Answer
	return want, read(filepath.Join(dir, "want", name+".yaml"), &want)
}

func read(path string, into any) error {
	data, err := os.ReadFile(path)
	if err != nil {
		return err
	}
	if err := kyaml.UnmarshalStrict(data, into); err != nil {
		return fmt.Errorf("reading %s: %w", path, err)
	}
	return nil
}

// Find returns the object a request is about.
func Find(objects []*unstructured.Unstructured, request Request) (*unstructured.Unstructured, error) {
	for _, obj := range objects {
		if obj.GetKind() == request.Kind && obj.GetNamespace() == request.Namespace && obj.GetName() == request.Item {
			return obj, nil
		}
	}
	return nil, fmt.Errorf("request %s: objects.yaml has no %s %s/%s", request.Name, request.Kind, request.Namespace, request.Item)
}

// AsRestored returns the item as Velero hands it to a restore action: its metadata cut down to name, namespace, labels,
// annotations and finalizers, its status gone (Velero 1.18.1, pkg/restore/restore.go, resetMetadataAndStatus).
func AsRestored(fromBackup *unstructured.Unstructured) *unstructured.Unstructured {
	item := fromBackup.DeepCopy()
	metadata, _ := item.Object["metadata"].(map[string]any)
	for key := range metadata {
		switch key {
		case "name", "namespace", "labels", "annotations", "finalizers":
		default:
			delete(metadata, key)
		}
	}
	delete(item.Object, "status")
	return item
}

// Compare returns the differences between an item before and after a call, by path.
func Compare(before, after map[string]any) map[string]Change {
	changes := map[string]Change{}
	compare("", before, after, changes)
	return changes
}

func compare(path string, before, after any, changes map[string]Change) {
	was, isMap := before.(map[string]any)
	is, isMapStill := after.(map[string]any)
	if !isMap || !isMapStill {
		if !reflect.DeepEqual(before, after) {
			changes[path] = Change{Before: before, After: after}
		}
		return
	}
	keys := map[string]bool{}
	for key := range was {
		keys[key] = true
	}
	for key := range is {
		keys[key] = true
	}
	for key := range keys {
		below := key
		if strings.ContainsAny(key, "./") {
			below = "[" + key + "]"
		} else if path != "" {
			below = "." + key
		}
		compare(path+below, was[key], is[key], changes)
	}
}
