package cluster

import (
	"archive/tar"
	"bufio"
	"compress/gzip"
	"errors"
	"fmt"
	"io"
	"strings"

	"golang.org/x/text/encoding"
	"golang.org/x/text/encoding/unicode"
	"golang.org/x/text/transform"
	"k8s.io/apimachinery/pkg/api/meta"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/util/yaml"

	"velero-plugin-for-kubevirt/pkg/kubevirt"
)

// Read returns a reader of a file of objects or of a Velero backup file: it looks which it is.
func Read(r io.Reader) (Memory, error) {
	buffered := bufio.NewReader(r)
	magic, err := buffered.Peek(len(gzipMagic))
	if err == nil && string(magic) == gzipMagic {
		return ReadBackup(buffered)
	}
	objects, err := ReadObjects(buffered)
	return FromObjects(objects), err
}

const gzipMagic = "\x1f\x8b"

// ReadObjects reads YAML or JSON documents, each one object or a List of them, as kubectl prints them: in
// UTF-8, or what PowerShell makes of it, UTF-16.
func ReadObjects(r io.Reader) ([]*unstructured.Unstructured, error) {
	var objects []*unstructured.Unstructured
	decoder := yaml.NewYAMLOrJSONDecoder(transform.NewReader(r, unicode.BOMOverride(encoding.Nop.NewDecoder())), 4096)
	for n := 1; ; n++ {
		obj := &unstructured.Unstructured{}
		if err := decoder.Decode(obj); errors.Is(err, io.EOF) {
			return objects, nil
		} else if err != nil && strings.Contains(err.Error(), "Object 'Kind' is missing") { // an error that quotes the whole document
			return nil, fmt.Errorf("document %d is no Kubernetes object: it has no kind", n)
		} else if err != nil {
			return nil, fmt.Errorf("document %d: %w", n, err)
		}
		if len(obj.Object) == 0 {
			continue // nothing between two separators
		}
		if !obj.IsList() {
			objects = append(objects, obj)
			continue
		}
		list, err := obj.ToList()
		if err != nil {
			return nil, fmt.Errorf("document %d: %w", n, err)
		}
		for i := range list.Items {
			objects = append(objects, &list.Items[i])
		}
	}
}

// FromObjects returns a reader of objects that came without the names of their resources.
func FromObjects(objects []*unstructured.Unstructured) Memory {
	memory := Memory{}
	for _, obj := range objects {
		resource := resourceOf(obj)
		memory[resource] = append(memory[resource], obj)
	}
	return memory
}

// resourceOf names the resource of an object: as the plugin knows it, else by the rules of English that Kubernetes follows.
func resourceOf(obj *unstructured.Unstructured) schema.GroupResource {
	if resource, known := kubevirt.ResourceOf(obj.GetAPIVersion(), obj.GetKind()); known {
		return resource
	}
	if obj.GetKind() == "NetworkAttachmentDefinition" {
		return kubevirt.NetworkAttachmentDefinitions
	}
	plural, _ := meta.UnsafeGuessKindToResource(obj.GroupVersionKind())
	return plural.GroupResource()
}

// ReadBackup returns a reader of a Velero backup file. Velero keeps an item as resources/RESOURCE.GROUP/namespaces/NS/NAME.json
// or resources/RESOURCE.GROUP/cluster/NAME.json, and a copy of it below its version (Velero 1.18.1, pkg/archive/filesystem.go).
func ReadBackup(r io.Reader) (Memory, error) {
	zipped, err := gzip.NewReader(r)
	if err != nil {
		return nil, err
	}
	memory := Memory{}
	for archive := tar.NewReader(zipped); ; {
		header, err := archive.Next()
		switch {
		case errors.Is(err, io.EOF) && len(memory) == 0:
			return nil, errors.New("no backup: it has no items below resources/; \"velero backup download NAME\" makes one")
		case errors.Is(err, io.EOF):
			return memory, nil
		case errors.Is(err, io.ErrUnexpectedEOF):
			return nil, errors.New("the file ends in the middle: download it again")
		case err != nil:
			return nil, fmt.Errorf("no backup, which is a tar.gz file: %w", err)
		}
		parts := strings.Split(header.Name, "/")
		if len(parts) < 4 || parts[0] != "resources" || (parts[2] != "namespaces" && parts[2] != "cluster") {
			continue
		}
		data, err := io.ReadAll(archive)
		if errors.Is(err, io.ErrUnexpectedEOF) {
			return nil, errors.New("the file ends in the middle: download it again")
		}
		if err != nil {
			return nil, fmt.Errorf("%s: %w", header.Name, err)
		}
		item := &unstructured.Unstructured{}
		if err := item.UnmarshalJSON(data); err != nil {
			return nil, fmt.Errorf("%s: %w", header.Name, err)
		}
		resource := schema.ParseGroupResource(parts[1])
		memory[resource] = append(memory[resource], item)
	}
}
