package graph

import (
	"fmt"
	"testing"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
)

func pods(n int) *Objects {
	yes := true
	objects := &Objects{}
	for i := range n {
		pod := metav1.PartialObjectMetadata{}
		pod.Name, pod.UID = fmt.Sprintf("pod-%d", i), types.UID(fmt.Sprintf("uid-%d", i))
		pod.Labels = map[string]string{"created-by": fmt.Sprintf("vmi-%d", i/2)}
		pod.OwnerReferences = []metav1.OwnerReference{{UID: "other"}, {UID: types.UID(fmt.Sprintf("vmi-%d", i/2)), Controller: &yes}}
		objects.All = append(objects.All, pod)
	}
	return objects
}

func TestObjectsAreFoundByWhatTheyHave(t *testing.T) {
	objects := pods(10)
	for what, found := range map[string][]*metav1.PartialObjectMetadata{
		"label": objects.Labelled("created-by", "vmi-2"), "controller": objects.ControlledBy("vmi-2"),
	} {
		if len(found) != 2 || found[0].Name != "pod-4" || found[1].Name != "pod-5" {
			t.Errorf("by %s: %v", what, found)
		}
	}
	if pod := objects.Named("pod-7"); pod == nil || pod.UID != "uid-7" {
		t.Errorf("got %v", pod)
	}
	if pod := objects.WithUID("uid-7"); pod == nil || pod.Name != "pod-7" {
		t.Errorf("got %v", pod)
	}
	if pod := objects.Named("pod-10"); pod != nil {
		t.Errorf("got %v", pod)
	}
	if found := objects.Labelled("nowhere", ""); len(found) != 0 {
		t.Errorf("everything that has not the label has it: %v", found)
	}
}

// BenchmarkFind tells whether a search takes longer in a longer list.
func BenchmarkFind(b *testing.B) {
	for _, n := range []int{200, 3200, 50_000} {
		objects := pods(n)
		b.Run(fmt.Sprintf("pods=%d", n), func(b *testing.B) {
			objects.ControlledBy("none") // makes the index
			b.ReportAllocs()
			for i := 0; b.Loop(); i++ {
				objects.ControlledBy(fmt.Sprintf("vmi-%d", i%n/2))
			}
		})
	}
}
