package objects

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"context"
	"encoding/json"
	"errors"
	"reflect"
	"strings"
	"testing"

	"k8s.io/apimachinery/pkg/runtime"

	"velero-plugin-for-kubevirt/pkg/cluster"
	"velero-plugin-for-kubevirt/pkg/graph"
	"velero-plugin-for-kubevirt/pkg/kubevirt"
	"velero-plugin-for-kubevirt/pkg/object"
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
