// Package plugin drives the built binary the way Velero does: through Velero's own plugin client, over gRPC, with an API
// server behind it that serves a scenario's objects.
package plugin

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/types"
	remotecommandconsts "k8s.io/apimachinery/pkg/util/remotecommand"
	"k8s.io/apimachinery/pkg/version"
	"k8s.io/client-go/tools/clientcmd"
	clientcmdapi "k8s.io/client-go/tools/clientcmd/api"
	"k8s.io/client-go/tools/remotecommand"
	streaming "k8s.io/kubelet/pkg/cri/streaming/remotecommand"

	"velero-plugin-for-kubevirt/pkg/cluster"
	"velero-plugin-for-kubevirt/pkg/graph"
	"velero-plugin-for-kubevirt/pkg/kubevirt"
	"velero-plugin-for-kubevirt/tests/scenarios"
)

// page is how many objects the API server returns at a time, whatever the limit asked for: few, so that a reader that does
// not turn the page misses some.
const page = 2

// An apiServer answers lists of metadata, as the real one does, from objects in memory.
type apiServer struct {
	*httptest.Server
	objects cluster.Memory
	// failures are the status codes to answer, by resource. A resource with status 404 is not installed.
	failures map[string]int

	mu       sync.Mutex
	requests []string // path and query of each request
}

func startAPIServer(t testing.TB, objects cluster.Memory) *apiServer {
	s := &apiServer{objects: objects, failures: map[string]int{}}
	s.Server = httptest.NewServer(s)
	t.Cleanup(s.Close)
	return s
}

// kubeconfig writes a kubeconfig for the server and returns its path.
func (s *apiServer) kubeconfig(t testing.TB) string {
	config := clientcmdapi.NewConfig()
	config.Clusters["test"] = &clientcmdapi.Cluster{Server: s.URL}
	config.Contexts["test"] = &clientcmdapi.Context{Cluster: "test"}
	config.CurrentContext = "test"
	path := filepath.Join(t.TempDir(), "kubeconfig")
	if err := clientcmd.WriteToFile(*config, path); err != nil {
		t.Fatal(err)
	}
	return path
}

func (s *apiServer) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	s.mu.Lock()
	s.requests = append(s.requests, r.URL.String())
	s.mu.Unlock()
	if s.discover(w, r.URL.Path) {
		return
	}
	if strings.HasSuffix(r.URL.Path, "/exec") {
		s.exec(w, r)
		return
	}
	query, single, err := parse(r)
	if err != nil {
		fail(w, http.StatusBadRequest, err.Error())
		return
	}
	if code := s.failures[query.Resource]; code != 0 {
		fail(w, code, "the test says so")
		return
	}
	if single != "" {
		s.sendObject(w, r, kubevirt.ID{GroupResource: query.GroupResource, Namespace: query.Namespace, Name: single})
		return
	}
	if !strings.Contains(r.Header.Get("Accept"), "as=PartialObjectMetadataList") {
		s.sendWhole(w, r, query)
		return
	}
	items, err := s.objects.List(r.Context(), query)
	if err != nil {
		fail(w, http.StatusBadRequest, err.Error())
		return
	}
	start, _ := strconv.Atoi(r.URL.Query().Get("continue"))
	end := min(start+page, len(items.All))
	list := metav1.PartialObjectMetadataList{TypeMeta: metav1.TypeMeta{APIVersion: "meta.k8s.io/v1", Kind: "PartialObjectMetadataList"}, Items: items.All[start:end]}
	if end < len(items.All) {
		list.Continue = strconv.Itoa(end)
	}
	send(w, http.StatusOK, list)
}

// whole are the resources of which whole objects may be listed: a restore looks through the VMs of the cluster.
var whole = []string{"virtualmachines", "virtualmachineinstances"}

// sendWhole answers a list of whole objects of all namespaces.
func (s *apiServer) sendWhole(w http.ResponseWriter, r *http.Request, query graph.Query) {
	if !slices.Contains(whole, query.Resource) || query != (graph.Query{GroupResource: query.GroupResource}) {
		fail(w, http.StatusBadRequest, "a list of whole objects was asked for: "+r.URL.String())
		return
	}
	items := s.objects[query.GroupResource]
	start, _ := strconv.Atoi(r.URL.Query().Get("continue"))
	end := min(start+page, len(items))
	list := &unstructured.UnstructuredList{Object: map[string]any{"apiVersion": "kubevirt.io/v1", "kind": "List"}}
	for _, item := range items[start:end] {
		list.Items = append(list.Items, *item)
	}
	if end < len(items) {
		list.SetContinue(strconv.Itoa(end))
	}
	send(w, http.StatusOK, list)
}

// discover answers what is served: /api, /apis, and the resources of a group's version.
func (s *apiServer) discover(w http.ResponseWriter, path string) bool {
	groups := metav1.APIGroupList{TypeMeta: metav1.TypeMeta{APIVersion: "v1", Kind: "APIGroupList"}}
	served := map[string]*metav1.APIResourceList{}
	for _, kind := range scenarios.Resources {
		if s.failures[kind.Resource] == http.StatusNotFound {
			continue
		}
		version := kind.GroupVersion()
		at := "/apis/" + version.String()
		if version.Group == "" {
			at = "/api/" + version.Version
		}
		if served[at] == nil {
			served[at] = &metav1.APIResourceList{TypeMeta: metav1.TypeMeta{APIVersion: "v1", Kind: "APIResourceList"}, GroupVersion: version.String()}
			preferred := metav1.GroupVersionForDiscovery{GroupVersion: version.String(), Version: version.Version}
			if version.Group != "" {
				groups.Groups = append(groups.Groups, metav1.APIGroup{Name: version.Group, Versions: []metav1.GroupVersionForDiscovery{preferred}, PreferredVersion: preferred})
			}
		}
		served[at].APIResources = append(served[at].APIResources, metav1.APIResource{Name: kind.Resource, Kind: kind.Kind, Namespaced: kind.Namespaced, ShortNames: kind.ShortNames, Verbs: metav1.Verbs{"create", "delete", "get", "list"}})
	}
	switch {
	case path == "/api":
		send(w, http.StatusOK, metav1.APIVersions{TypeMeta: metav1.TypeMeta{APIVersion: "v1", Kind: "APIVersions"}, Versions: []string{"v1"}})
	case path == "/apis":
		send(w, http.StatusOK, groups)
	case path == "/version":
		send(w, http.StatusOK, version.Info{Major: "1", Minor: "36", GitVersion: "v1.36.0"})
	case served[path] != nil:
		send(w, http.StatusOK, served[path])
	default:
		return false
	}
	return true
}

func (s *apiServer) sendObject(w http.ResponseWriter, r *http.Request, id kubevirt.ID) {
	switch obj, err := s.objects.Get(r.Context(), id); {
	case err != nil:
		fail(w, http.StatusInternalServerError, err.Error())
	case obj == nil:
		fail(w, http.StatusNotFound, "no "+id.String())
	default:
		send(w, http.StatusOK, obj)
	}
}

// exec runs a command in a pod, as far as objects in memory can.
func (s *apiServer) exec(w http.ResponseWriter, r *http.Request) {
	if r.URL.Query().Get("stdout") != "true" || r.URL.Query().Get("stdin") != "true" {
		fail(w, http.StatusBadRequest, "nobody listens to what the command prints, or talks to it")
		return
	}
	if r.Method == http.MethodGet { // a WebSocket, whose newest protocol is not among those that the package below serves
		fail(w, http.StatusBadRequest, "like Kubernetes before 1.31, this server speaks SPDY alone")
		return
	}
	options := &streaming.Options{Stdin: true, Stdout: true, Stderr: true}
	streaming.ServeExec(w, r, executor{s.objects}, r.URL.Path, "", "", r.URL.Query()["command"], options, time.Minute, time.Minute,
		remotecommandconsts.SupportedStreamingProtocols)
}

type executor struct{ objects cluster.Memory }

// ExecInContainer runs one command.
func (e executor) ExecInContainer(ctx context.Context, pod string, _ types.UID, container string, command []string, stdin io.Reader, stdout, _ io.WriteCloser, _ bool, _ <-chan remotecommand.TerminalSize, _ time.Duration) error {
	answer, err := e.objects.Exec(ctx, kubevirt.ID{GroupResource: kubevirt.Pods, Name: pod}, container, command, stdin)
	if err == nil {
		_, err = io.WriteString(stdout, answer)
	}
	return err
}

// parse reads /api/v1/namespaces/NS/R and /apis/G/V/namespaces/NS/R, the same without a namespace, and each of them with
// the name of a single object behind it.
func parse(r *http.Request) (query graph.Query, name string, err error) {
	query = graph.Query{Labels: r.URL.Query().Get("labelSelector"), Fields: r.URL.Query().Get("fieldSelector")}
	parts := strings.Split(strings.Trim(r.URL.Path, "/"), "/")
	group := ""
	switch {
	case parts[0] == "apis" && len(parts) > 3:
		group, parts = parts[1], parts[3:]
	case parts[0] == "api" && len(parts) > 2:
		parts = parts[2:]
	default:
		return query, "", fmt.Errorf("no resource in %s", r.URL.Path)
	}
	if parts[0] == "namespaces" && len(parts) >= 3 {
		query.Namespace, parts = parts[1], parts[2:]
	}
	query.GroupResource = schema.GroupResource{Group: group, Resource: parts[0]}
	switch {
	case len(parts) == 3 && parts[2] == "guestosinfo":
		query.GroupResource = kubevirt.GuestAgentInfos
		return query, parts[1], nil
	case len(parts) == 2:
		return query, parts[1], nil
	case len(parts) > 2:
		return query, "", fmt.Errorf("neither a list nor an object: %s", r.URL.Path)
	}
	return query, "", nil
}

func fail(w http.ResponseWriter, code int, message string) {
	send(w, code, metav1.Status{
		TypeMeta: metav1.TypeMeta{APIVersion: "v1", Kind: "Status"},
		Status:   metav1.StatusFailure, Code: int32(code), Message: message, Reason: reasons[code],
	})
}

var reasons = map[int]metav1.StatusReason{
	http.StatusForbidden: metav1.StatusReasonForbidden,
	http.StatusNotFound:  metav1.StatusReasonNotFound,
}

func send(w http.ResponseWriter, code int, body any) {
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(code)
	if err := json.NewEncoder(w).Encode(body); err != nil {
		fmt.Fprintln(os.Stderr, "the test's API server:", err)
	}
}
