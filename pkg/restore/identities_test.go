package restore

import (
	"fmt"
	"net/http"
	"net/http/httptest"
	"runtime"
	"strconv"
	"strings"
	"testing"

	velerov1 "github.com/vmware-tanzu/velero/pkg/apis/velero/v1"
	"k8s.io/client-go/rest"

	"velero-plugin-for-kubevirt/pkg/cluster"
	"velero-plugin-for-kubevirt/pkg/rules"
)

const many = 50_000

// serverOfManyVMs is an API server with many VMs, each with its instance, that answers page by page and remembers the largest.
func serverOfManyVMs(t *testing.T, largest *int) *cluster.Live {
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Type", "application/json")
		kind := map[string]string{"virtualmachines": "VirtualMachine", "virtualmachineinstances": "VirtualMachineInstance"}[r.URL.Path[strings.LastIndexByte(r.URL.Path, '/')+1:]]
		switch {
		case r.URL.Path == "/api":
			fmt.Fprint(w, `{"kind": "APIVersions", "versions": ["v1"]}`)
		case r.URL.Path == "/apis":
			fmt.Fprint(w, `{"kind": "APIGroupList", "apiVersion": "v1", "groups": [{"name": "kubevirt.io", "versions": [{"groupVersion": "kubevirt.io/v1", "version": "v1"}], "preferredVersion": {"groupVersion": "kubevirt.io/v1", "version": "v1"}}]}`)
		case r.URL.Path == "/apis/kubevirt.io/v1":
			fmt.Fprint(w, `{"kind": "APIResourceList", "groupVersion": "kubevirt.io/v1", "resources": [
				{"name": "virtualmachines", "kind": "VirtualMachine", "namespaced": true, "verbs": ["list"]},
				{"name": "virtualmachineinstances", "kind": "VirtualMachineInstance", "namespaced": true, "verbs": ["list"]}]}`)
		case kind == "":
			fmt.Fprint(w, `{"kind": "APIResourceList", "groupVersion": "v1", "resources": []}`)
		default:
			begin, _ := strconv.Atoi(r.URL.Query().Get("continue"))
			size, err := strconv.Atoi(r.URL.Query().Get("limit"))
			if err != nil {
				t.Errorf("a list without a limit: %s", r.URL)
				size = many
			}
			*largest = max(*largest, size)
			writePage(w, kind, begin, min(begin+size, many))
		}
	}))
	t.Cleanup(server.Close)
	live, err := cluster.NewLive(&rest.Config{Host: server.URL, QPS: -1})
	if err != nil {
		t.Fatal(err)
	}
	return live
}

func writePage(w http.ResponseWriter, kind string, begin, end int) {
	next := ""
	if end < many {
		next = strconv.Itoa(end)
	}
	fmt.Fprintf(w, `{"kind": "%sList", "apiVersion": "kubevirt.io/v1", "metadata": {"continue": %q}, "items": [`, kind, next)
	for i := begin; i < end; i++ {
		spec := fmt.Sprintf(`{"domain": {"firmware": {"uuid": "5d307ca9-b3ef-428c-8861-%012d", "serial": "serial-%d"}, "devices": {"interfaces": [{"name": "default", "macAddress": "02:00:00:%02x:%02x:%02x"}]}}}`,
			i, i, i>>16, i>>8&0xff, i&0xff)
		owner := fmt.Sprintf(`, "ownerReferences": [{"apiVersion": "kubevirt.io/v1", "kind": "VirtualMachine", "name": "vm-%d", "uid": "vm-%d", "controller": true}]`, i, i)
		if kind == "VirtualMachine" {
			spec, owner = `{"template": {"spec": `+spec+`}}`, ""
		}
		if i > begin {
			fmt.Fprint(w, ",")
		}
		// The annotation stands for all that a real VM has and the index has no use for.
		fmt.Fprintf(w, `{"kind": %q, "apiVersion": "kubevirt.io/v1", "metadata": {"name": "vm-%d", "namespace": "ns-%d", "uid": "%s-%d", "annotations": {"a": %q}%s}, "spec": %s}`,
			kind, i, i/20, map[string]string{"VirtualMachine": "vm", "VirtualMachineInstance": "vmi"}[kind], i, strings.Repeat("x", 100), owner, spec)
	}
	fmt.Fprint(w, `]}`)
}

func heap() uint64 {
	runtime.GC()
	var stats runtime.MemStats
	runtime.ReadMemStats(&stats)
	return stats.HeapAlloc
}

// Whoever restores one VM into a large cluster must not need its memory.
func TestTheIdentityIndexOfManyVMsIsSmallAndReadInPages(t *testing.T) {
	if testing.Short() {
		t.Skip("reads 100,000 objects")
	}
	largest := 0
	live := serverOfManyVMs(t, &largest)
	before := heap()
	restore := &velerov1.Restore{}
	restore.Name = "one-vm"
	found, err := identityOwners(t.Context(), live, restore)
	if err != nil {
		t.Fatal(err)
	}
	perVM := float64(heap()-before) / many
	if len(found) != 3*many {
		t.Errorf("%d identities of %d VMs", len(found), many)
	}
	if who := found[rules.Identifier{Kind: rules.MACAddress, Value: "02:00:00:00:00:07"}]; len(who) != 2 || who[0].Name != "vm-7" {
		t.Errorf("%v has the MAC address of vm-7", who)
	}
	if largest > 500 {
		t.Errorf("a page of %d", largest)
	}
	t.Logf("%.0f bytes per VM", perVM)
	if perVM > 2<<10 {
		t.Errorf("the index takes %.0f bytes per VM", perVM)
	}
	runtime.KeepAlive(found)
}
