package graph

import (
	"sync"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// Objects are the metadata of what a query selects. They are found by index: with thousands of VMs in a namespace, looking
// through all of them for each would take longer than the backup. Callers must not change them. It is safe for parallel use.
type Objects struct {
	All []metav1.PartialObjectMetadata

	mu      sync.Mutex
	indexes map[indexed]map[string][]*metav1.PartialObjectMetadata
}

// An indexed is a kind of text that objects are found by.
type indexed struct{ what, key string }

// Named returns the object of this name, in a list of one namespace or of a cluster-scoped resource; nil when there is none. Of nil
// Objects there is none.
func (o *Objects) Named(name string) *metav1.PartialObjectMetadata {
	return first(o.find(indexed{what: "name"}, name, func(m *metav1.PartialObjectMetadata) string { return m.Name }))
}

// WithUID returns the object that has a UID, nil when there is none.
func (o *Objects) WithUID(uid string) *metav1.PartialObjectMetadata {
	return first(o.find(indexed{what: "uid"}, uid, func(m *metav1.PartialObjectMetadata) string { return string(m.UID) }))
}

// Labelled returns the objects on which a label has this value, which is not "", in the order of the list.
func (o *Objects) Labelled(key, value string) []*metav1.PartialObjectMetadata {
	return o.find(indexed{"label", key}, value, func(m *metav1.PartialObjectMetadata) string { return m.Labels[key] })
}

// ControlledBy returns the objects whose controller has this UID, in the order of the list.
func (o *Objects) ControlledBy(uid string) []*metav1.PartialObjectMetadata {
	return o.find(indexed{what: "controller"}, uid, func(m *metav1.PartialObjectMetadata) string {
		if controller := metav1.GetControllerOfNoCopy(m); controller != nil {
			return string(controller.UID)
		}
		return ""
	})
}

// find makes an index when it is needed for the first time.
func (o *Objects) find(by indexed, text string, of func(*metav1.PartialObjectMetadata) string) []*metav1.PartialObjectMetadata {
	if o == nil || text == "" {
		return nil
	}
	o.mu.Lock()
	defer o.mu.Unlock()
	index, made := o.indexes[by]
	if !made {
		index = map[string][]*metav1.PartialObjectMetadata{}
		for i := range o.All {
			if text := of(&o.All[i]); text != "" {
				index[text] = append(index[text], &o.All[i])
			}
		}
		if o.indexes == nil {
			o.indexes = map[indexed]map[string][]*metav1.PartialObjectMetadata{}
		}
		o.indexes[by] = index
	}
	return index[text]
}

func first(found []*metav1.PartialObjectMetadata) *metav1.PartialObjectMetadata {
	if len(found) == 0 {
		return nil
	}
	return found[0]
}
