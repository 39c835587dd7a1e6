package main

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"context"
	"encoding/json"
	"errors"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"k8s.io/apimachinery/pkg/runtime"
	kyaml "sigs.k8s.io/yaml"

	"velero-plugin-for-kubevirt/pkg/cli"
	"velero-plugin-for-kubevirt/pkg/cluster"
	"velero-plugin-for-kubevirt/pkg/consistency"
	"velero-plugin-for-kubevirt/pkg/graph"
	"velero-plugin-for-kubevirt/pkg/kubevirt"
	"velero-plugin-for-kubevirt/pkg/object"
	"velero-plugin-for-kubevirt/pkg/options"
)

// FuzzGraph: neighbours come once each, in order, the same each time, and the object stays as it is.
func FuzzGraph(f *testing.F) {
	objects := known(f)
	reader := cluster.FromObjects(objects)
	addScripts(f)
	f.Fuzz(func(t *testing.T, bytes []byte) {
		s := script(bytes)
		obj := s.object(objects)
		before := runtime.DeepCopyJSON(obj)
		neighbours, err := graph.Neighbours(context.Background(), resourceOf(obj), obj, reader)
		if !reflect.DeepEqual(before, obj) {
			t.Fatal("the object has changed")
		}
		if err != nil {
			return
		}
		again, err := graph.Neighbours(context.Background(), resourceOf(obj), obj, reader)
		if err != nil || !reflect.DeepEqual(neighbours, again) {
			t.Fatalf("first %+v, then %+v, %v", neighbours, again, err)
		}
		seen := map[kubevirt.ID]bool{}
		for _, n := range neighbours {
			if seen[n.ID] || n.Name == "" {
				t.Fatalf("%s comes twice, or has no name: %+v", n.ID, neighbours)
			}
			seen[n.ID] = true
		}
	})
}

// FuzzPath: what a path leads to is what stands there.
func FuzzPath(f *testing.F) {
	objects := known(f)
	for _, path := range []string{"spec.template.spec.volumes[].dataVolume.name", "metadata.labels", "", ".", "[]", "a[][]", "spec..template", "metadata.annotations.a/b"} {
		f.Add(path, []byte{1, 2, 3})
	}
	f.Fuzz(func(t *testing.T, path string, bytes []byte) {
		s := script(bytes)
		obj := s.object(objects)
		before := runtime.DeepCopyJSON(obj)
		fields, err := object.Find(obj, path)
		if err == nil {
			for _, field := range fields {
				if path != "" && field.Parent == nil {
					t.Fatalf("%q: %+v has no parent", path, field)
				}
			}
			if !strings.Contains(path, "[]") && len(fields) > 1 {
				t.Fatalf("%q leads to %d places", path, len(fields))
			}
		}
		_, _ = object.Strings(obj, path)
		_, _ = object.Map(obj, path)
		if !reflect.DeepEqual(before, obj) {
			t.Fatalf("%q has changed the object", path)
		}
	})
}

// FuzzOptions: what is asked is one of the valid values, or an error that names the key.
func FuzzOptions(f *testing.F) {
	for _, option := range options.All {
		for _, value := range append(slices.Clone(option.Values), "", "TRUE", "1", "yes", "30s", "-1s", "1e3h") {
			f.Add(value, "", 0)
			f.Add("true", value, 3)
		}
	}
	f.Fuzz(func(t *testing.T, label, annotation string, which int) {
		option := options.All[uint(which)%uint(len(options.All))]
		for _, place := range option.Places {
			value, err := option.Value(options.Source{
				Place: place, Name: "shop/web", Labels: map[string]string{option.Key: label}, Annotations: map[string]string{option.Key: annotation},
				Data: map[string]string{strings.TrimPrefix(option.Key, options.Prefix): label},
			})
			duration, noDuration := time.ParseDuration(value)
			isDuration := option.Values == nil && noDuration == nil && duration > 0
			if err == nil && !isDuration && !slices.Contains(option.Values, value) {
				t.Fatalf("%s: %q, %q give %q", option.Key, label, annotation, value)
			}
			if err != nil && !strings.Contains(err.Error(), strings.TrimPrefix(option.Key, options.Prefix)) {
				t.Fatalf("%s: %v", option.Key, err)
			}
		}
	})
}

// FuzzVolumePolicy: whatever drivers and classes are called, the policy is YAML that names them.
func FuzzVolumePolicy(f *testing.F) {
	f.Add("ebs.csi.aws.com", "fast", "one-cut")
	f.Add("", "a: b", "x\n---\nkind: Secret")
	f.Add("'\"", "- |", "{}")
	f.Fuzz(func(t *testing.T, driver, class, name string) {
		var out, stderr bytes.Buffer
		if cli.Run("v0", []string{"policy", "--name=" + name, "--driver=" + driver, "--storage-class=" + class}, &out, &stderr) != 0 {
			return
		}
		var policy struct {
			APIVersion string                           `json:"apiVersion"`
			Kind       string                           `json:"kind"`
			Metadata   struct{ Name, Namespace string } `json:"metadata"`
			Data       map[string]string                `json:"data"`
		}
		if err := kyaml.UnmarshalStrict(out.Bytes(), &policy); err != nil {
			t.Fatalf("%v in\n%s", err, &out)
		}
		if policy.Kind != "ConfigMap" || policy.Metadata.Name != name || len(policy.Data) != 1 {
			t.Fatalf("not a ConfigMap with one policy:\n%s", &out)
		}
		var content map[string]any
		if err := kyaml.UnmarshalStrict([]byte(policy.Data["policy.yaml"]), &content); err != nil {
			t.Fatalf("%v in\n%s", err, policy.Data["policy.yaml"])
		}
	})
}

// FuzzBackupFile: a file is read or refused; what is read of it is what is in it, in its order.
func FuzzBackupFile(f *testing.F) {
	f.Add("resources/virtualmachines.kubevirt.io/namespaces/shop/web.json", []byte(`{"apiVersion":"kubevirt.io/v1","kind":"VirtualMachine","metadata":{"name":"web","namespace":"shop"},"spec":{"unknown":[3,1,2]}}`), false)
	f.Add("resources/nodes/cluster/n.json", []byte(`{"kind":"List","items":[]}`), false)
	f.Add("resources/../../../etc/passwd", []byte(`{}`), false)
	f.Add("resources/pods/namespaces/a/b.json", []byte(`[]`), true)
	f.Fuzz(func(t *testing.T, name string, content []byte, raw bool) {
		var file bytes.Buffer
		zipped := gzip.NewWriter(&file)
		if raw {
			if _, err := zipped.Write(content); err != nil {
				t.Fatal(err)
			}
		} else {
			archive := tar.NewWriter(zipped)
			if err := errors.Join(archive.WriteHeader(&tar.Header{Name: name, Mode: 0o644, Size: int64(len(content))}), write(archive, content), archive.Close()); err != nil {
				return // no file of a tar archive is called so
			}
		}
		if err := zipped.Close(); err != nil {
			t.Fatal(err)
		}
		memory, err := cluster.ReadBackup(&file)
		if err != nil {
			return
		}
		for _, items := range memory {
			for _, item := range items {
				var want any
				if err := json.Unmarshal(content, &want); err != nil {
					t.Fatalf("%s was read from %q", item, content)
				}
				again, err := item.MarshalJSON()
				var got any
				if err != nil || json.Unmarshal(again, &got) != nil || !reflect.DeepEqual(want, got) {
					t.Fatalf("%q is read as %q, %v", content, again, err)
				}
			}
		}
	})
}

func write(archive *tar.Writer, content []byte) error {
	_, err := archive.Write(content)
	return err
}

// FuzzGuestAnswer: a guest is frozen only if its agent's answer says so, in so many words.
func FuzzGuestAnswer(f *testing.F) {
	for _, printed := range []string{
		"virsh # {\"return\":\"frozen\"}\n", "virsh # qemu-agent-command shop_web '{}'\n{\"return\":\"thawed\"}\n", "error: argument unsupported", `{"return": "frozen`, `{"return":{}}`, "",
	} {
		f.Add(printed)
	}
	f.Fuzz(func(t *testing.T, printed string) {
		frozen, err := consistency.SaysFrozen(printed)
		if frozen && (err != nil || !strings.Contains(printed, `"frozen"`)) {
			t.Fatalf("%q, %v", printed, err)
		}
		if err == nil && !frozen && !strings.Contains(printed, `"thawed"`) {
			t.Fatalf("%q is taken for an answer", printed)
		}
	})
}

// FuzzID: an ID that is written is read as the same.
func FuzzID(f *testing.F) {
	f.Add("secrets/shop/key")
	f.Add("virtualmachines.kubevirt.io/shop/web")
	f.Add("nodes/n")
	f.Add("//")
	f.Fuzz(func(t *testing.T, text string) {
		id, err := kubevirt.ParseID(text)
		if err != nil {
			return
		}
		if again, err := kubevirt.ParseID(id.String()); err != nil || again != id {
			t.Fatalf("%q is %+v, then %+v, %v", text, id, again, err)
		}
	})
}
