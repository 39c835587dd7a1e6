package cluster

import (
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"k8s.io/client-go/rest"

	"velero-plugin-for-kubevirt/pkg/graph"
	"velero-plugin-for-kubevirt/pkg/kubevirt"
)

// answers is an API server with two secrets, on two pages.
func answers(t *testing.T, lists *atomic.Int32, fail *atomic.Bool) *Live {
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Type", "application/json")
		body := ""
		switch {
		case r.URL.Path == "/api":
			body = `{"kind": "APIVersions", "versions": ["v1"]}`
		case r.URL.Path == "/apis":
			body = `{"kind": "APIGroupList", "apiVersion": "v1", "groups": []}`
		case r.URL.Path == "/api/v1":
			body = `{"kind": "APIResourceList", "groupVersion": "v1", "resources": [{"name": "secrets", "kind": "Secret", "namespaced": true, "verbs": ["list"]}]}`
		case fail.Load():
			w.WriteHeader(http.StatusForbidden)
			body = `{"kind": "Status", "apiVersion": "v1", "status": "Failure", "message": "not today", "reason": "Forbidden", "code": 403}`
		case strings.HasSuffix(r.URL.Path, "/late") && lists.Add(1) == 1:
			w.WriteHeader(http.StatusNotFound)
			body = `{"kind": "Status", "apiVersion": "v1", "status": "Failure", "message": "not there", "reason": "NotFound", "code": 404}`
		case strings.HasSuffix(r.URL.Path, "/late"):
			body = `{"kind": "Secret", "apiVersion": "v1", "metadata": {"name": "late", "namespace": "shop"}}`
		case r.URL.Query().Get("continue") == "":
			lists.Add(1)
			body = `{"kind": "PartialObjectMetadataList", "apiVersion": "meta.k8s.io/v1", "metadata": {"continue": "more"}, "items": [{"metadata": {"name": "one"}}]}`
		default:
			body = `{"kind": "PartialObjectMetadataList", "apiVersion": "meta.k8s.io/v1", "items": [{"metadata": {"name": "two"}}]}`
		}
		if _, err := w.Write([]byte(body)); err != nil {
			t.Error(err)
		}
	}))
	t.Cleanup(server.Close)
	live, err := NewLive(&rest.Config{Host: server.URL})
	if err != nil {
		t.Fatal(err)
	}
	return live
}

func TestParallelAskersShareOneListOfAllPages(t *testing.T) {
	var lists atomic.Int32
	live := answers(t, &lists, &atomic.Bool{})
	var group sync.WaitGroup
	for range 20 {
		group.Go(func() {
			items, err := live.List(t.Context(), graph.Query{GroupResource: kubevirt.Secrets, Namespace: "shop"})
			if err != nil || len(items.All) != 2 {
				t.Errorf("got %v, %v", items, err)
			}
		})
	}
	group.Wait()
	if lists.Load() != 1 {
		t.Errorf("%d lists for one question", lists.Load())
	}
}

func TestAFailureIsAnErrorAndIsNotKept(t *testing.T) {
	var fail atomic.Bool
	live := answers(t, &atomic.Int32{}, &fail)
	query := graph.Query{GroupResource: kubevirt.Secrets, Namespace: "shop"}
	fail.Store(true)
	if _, err := live.List(t.Context(), query); err == nil || !strings.Contains(err.Error(), `listing secrets in namespace "shop"`) {
		t.Errorf("got %v", err)
	}
	fail.Store(false)
	if items, err := live.List(t.Context(), query); err != nil || len(items.All) != 2 {
		t.Errorf("got %v, %v", items, err)
	}
}

func TestAResourceTheClusterDoesNotHaveIsEmpty(t *testing.T) {
	live := answers(t, &atomic.Int32{}, &atomic.Bool{})
	items, err := live.List(t.Context(), graph.Query{GroupResource: kubevirt.DataVolumes, Namespace: "shop"})
	if err != nil || len(items.All) != 0 {
		t.Errorf("got %v, %v", items, err)
	}
}

// A restore brings objects while the reader lives.
func TestThatAnObjectIsNotThereIsNotKept(t *testing.T) {
	live := answers(t, &atomic.Int32{}, &atomic.Bool{})
	id := kubevirt.ID{GroupResource: kubevirt.Secrets, Namespace: "shop", Name: "late"}
	if obj, err := live.Get(t.Context(), id); obj != nil || err != nil {
		t.Errorf("got %v, %v", obj, err)
	}
	if obj, err := live.Get(t.Context(), id); obj == nil || err != nil {
		t.Errorf("got %v, %v", obj, err)
	}
}
