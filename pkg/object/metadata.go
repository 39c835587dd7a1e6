package object

import (
	"fmt"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
)

// Name returns metadata.name.
func Name(obj map[string]any) string { return (&unstructured.Unstructured{Object: obj}).GetName() }

// Namespace returns metadata.namespace.
func Namespace(obj map[string]any) string {
	return (&unstructured.Unstructured{Object: obj}).GetNamespace()
}

// UID returns metadata.uid.
func UID(obj map[string]any) string {
	return string((&unstructured.Unstructured{Object: obj}).GetUID())
}

// Label returns the value of a label, "" when it is not set.
func Label(obj map[string]any, key string) string {
	value, _ := entries(obj, "labels")[key].(string)
	return value
}

// Labels returns the labels; a value that is not a string is left out.
func Labels(obj map[string]any) map[string]string { return texts(entries(obj, "labels")) }

// Annotations returns the annotations; a value that is not a string is left out.
func Annotations(obj map[string]any) map[string]string { return texts(entries(obj, "annotations")) }

// TextsAt returns the strings of a map at the top of an object, such as a ConfigMap's data.
func TextsAt(obj map[string]any, field string) map[string]string {
	values, _ := obj[field].(map[string]any)
	return texts(values)
}

func texts(values map[string]any) map[string]string {
	m := map[string]string{}
	for key, value := range values {
		if text, is := value.(string); is {
			m[key] = text
		}
	}
	return m
}

// Annotation returns the value of an annotation, "" when it is not set.
func Annotation(obj map[string]any, key string) string {
	value, _ := entries(obj, "annotations")[key].(string)
	return value
}

// HasAnnotation tells whether an annotation is set, be it to nothing.
func HasAnnotation(obj map[string]any, key string) bool {
	_, set := entries(obj, "annotations")[key]
	return set
}

// SetAnnotation sets an annotation and tells whether that changed anything.
func SetAnnotation(obj map[string]any, key, value string) (bool, error) {
	return set(obj, "annotations", key, value)
}

// SetLabel sets a label and tells whether that changed anything.
func SetLabel(obj map[string]any, key, value string) (bool, error) {
	return set(obj, "labels", key, value)
}

func set(obj map[string]any, field, key, value string) (bool, error) {
	if old, set := entries(obj, field)[key]; set && old == value {
		return false, nil
	}
	if _, err := Map(obj, "metadata."+field); err != nil {
		return false, err
	}
	return true, unstructured.SetNestedField(obj, value, "metadata", field, key)
}

// DeleteAnnotation removes an annotation and tells whether it was there.
func DeleteAnnotation(obj map[string]any, key string) bool {
	return deleteKey(entries(obj, "annotations"), key)
}

// DeleteLabel removes a label and tells whether it was there.
func DeleteLabel(obj map[string]any, key string) bool {
	return deleteKey(entries(obj, "labels"), key)
}

// entries does not go through unstructured's getters: they answer an empty map when any one value is not a string.
func entries(obj map[string]any, field string) map[string]any {
	metadata, _ := obj["metadata"].(map[string]any)
	m, _ := metadata[field].(map[string]any)
	return m
}

func deleteKey(m map[string]any, key string) bool {
	_, found := m[key]
	delete(m, key)
	return found
}

// Owner returns the controller among the object's owner references, nil when it has none.
func Owner(obj map[string]any) *metav1.OwnerReference {
	return metav1.GetControllerOf(&unstructured.Unstructured{Object: obj})
}

// Failed returns an error that says what was being done with which object: its kind, namespace and name.
func Failed(obj map[string]any, doing string, err error) error {
	kind, _ := obj["kind"].(string)
	return fmt.Errorf("%s %s %s/%s: %w", doing, kind, Namespace(obj), Name(obj), err)
}
