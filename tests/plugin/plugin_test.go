package plugin

import (
	"errors"
	"flag"
	"fmt"
	"io"
	"maps"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/sirupsen/logrus"
	logtest "github.com/sirupsen/logrus/hooks/test"
	"github.com/spf13/pflag"
	"github.com/vmware-tanzu/velero/pkg/plugin/clientmgmt"
	"github.com/vmware-tanzu/velero/pkg/plugin/clientmgmt/process"
	"github.com/vmware-tanzu/velero/pkg/plugin/framework"
	"github.com/vmware-tanzu/velero/pkg/plugin/velero"
	biav2 "github.com/vmware-tanzu/velero/pkg/plugin/velero/backupitemaction/v2"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"

	"velero-plugin-for-kubevirt/pkg/cluster"
	"velero-plugin-for-kubevirt/tests/scenarios"
)

// folder holds the built binary and nothing else, as Velero's plugin folder does.
var folder string

func TestMain(m *testing.M) {
	if len(os.Args) > 1 && os.Args[1] == "run-plugins" {
		// Velero's registry also asks the running program, which is normally the velero server, for its plugins.
		framework.NewServer().BindFlags(pflag.CommandLine).Serve()
		return
	}
	flag.Parse()
	os.Args = append(os.Args, "--log-level", "debug") // Velero passes its server's flags on
	os.Exit(run(m))
}

func run(m *testing.M) (code int) {
	var err error
	if folder, err = os.MkdirTemp("", "velero-plugins-"); err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	defer func() {
		if err := os.RemoveAll(folder); err != nil {
			fmt.Fprintln(os.Stderr, err)
			code = 1
		}
	}()
	build := exec.Command("go", "build", "-o", filepath.Join(folder, "velero-plugin-for-kubevirt"), "velero-plugin-for-kubevirt")
	build.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := build.CombinedOutput(); err != nil {
		fmt.Fprintf(os.Stderr, "building the plugin: %v\n%s", err, out)
		return 1
	}
	return m.Run()
}

// overGRPC calls the built binary.
type overGRPC struct {
	clientmgmt.Manager
	log *logtest.Hook
}

// start discovers the binary as the server does and returns it connected to an API server with these objects.
func start(t testing.TB, server *apiServer) *overGRPC {
	t.Setenv("KUBECONFIG", server.kubeconfig(t))
	log := logrus.New()
	log.SetOutput(io.Discard)
	log.SetLevel(logrus.DebugLevel)
	hook := logtest.NewLocal(log)
	registry := process.NewRegistry(folder, log, log.Level)
	if err := registry.DiscoverPlugins(); err != nil {
		t.Fatal(err)
	}
	manager := clientmgmt.NewManager(log, log.Level, registry)
	t.Cleanup(manager.CleanupClients)
	return &overGRPC{manager, hook}
}

func (p *overGRPC) Call(request scenarios.Request, item, fromBackup *unstructured.Unstructured) (scenarios.Reply, error) {
	p.log.Reset()
	reply := scenarios.Reply{}
	err := p.call(request, item, fromBackup, &reply)
	if err != nil {
		err = errors.New(strings.TrimPrefix(err.Error(), "rpc error: code = Unknown desc = "))
	}
	reply.Log = p.logged()
	return reply, err
}

func (p *overGRPC) call(request scenarios.Request, item, fromBackup *unstructured.Unstructured, reply *scenarios.Reply) error {
	switch request.Phase {
	case "backup", "consistency":
		action, err := p.backupAction(request.Phase, item)
		if err != nil {
			return err
		}
		updated, additional, _, _, err := action.Execute(item, scenarios.Backup(request))
		if err != nil {
			return err
		}
		reply.Item = &unstructured.Unstructured{Object: updated.UnstructuredContent()}
		reply.AdditionalItems = additional
	case "itemblock":
		all, err := p.GetItemBlockActions()
		if err != nil {
			return err
		}
		action, err := forItem(all, item)
		if err != nil {
			return err
		}
		reply.AdditionalItems, err = action.GetRelatedItems(item, scenarios.Backup(request))
		return err
	case "restore":
		all, err := p.GetRestoreItemActionsV2()
		if err != nil {
			return err
		}
		return scenarios.RestoreBy(all, item, fromBackup, scenarios.Restore(request), reply)
	}
	return nil
}

// backupAction picks the action for the verdict on an item, or else the one that Velero would call for it first.
func (p *overGRPC) backupAction(phase string, item *unstructured.Unstructured) (biav2.BackupItemAction, error) {
	all, err := p.GetBackupItemActionsV2()
	if err != nil {
		return nil, err
	}
	return forItem(slices.DeleteFunc(all, func(action biav2.BackupItemAction) bool {
		return strings.HasSuffix(action.Name(), "/consistency") != (phase == "consistency")
	}), item)
}

// forItem picks the one action that Velero would call for the item, by its selector.
func forItem[Action velero.Applicable](all []Action, item *unstructured.Unstructured) (Action, error) {
	var matching []Action
	for _, action := range all {
		applies, err := scenarios.Applies(action, item)
		if err != nil {
			return action, err
		}
		if applies {
			matching = append(matching, action)
		}
	}
	if len(matching) != 1 {
		var none Action
		return none, fmt.Errorf("%d actions apply to a %s, want 1", len(matching), item.GetKind())
	}
	return matching[0], nil
}

// logged returns what the plugin logged. Its lines come over a pipe of their own, so they may arrive after the answer.
func (p *overGRPC) logged() []*logrus.Entry {
	entries := p.log.AllEntries()
	for deadline := time.Now().Add(time.Second); time.Now().Before(deadline); {
		time.Sleep(20 * time.Millisecond)
		more := p.log.AllEntries()
		if len(more) == len(entries) {
			break
		}
		entries = more
	}
	return entries
}

func TestBinary(t *testing.T) {
	scenarios.Run(t, "../scenarios", func(t *testing.T, objects []*unstructured.Unstructured) scenarios.Plugin {
		return start(t, startAPIServer(t, cluster.FromObjects(objects)))
	})
}

const situation = "../scenarios/running-vm-with-every-volume-type"

var backupVM = scenarios.Request{Name: "backup-vm", Phase: "backup", Kind: "VirtualMachine", Namespace: "shop", Item: "web"}

// backUpWeb backs up VirtualMachine shop/web in a cluster in which reading the given resources fails.
func backUpWeb(t *testing.T, failures map[string]int) (scenarios.Reply, error) {
	objects, err := scenarios.Objects(situation)
	if err != nil {
		t.Fatal(err)
	}
	server := startAPIServer(t, cluster.FromObjects(objects))
	maps.Copy(server.failures, failures)
	item, err := scenarios.Find(objects, backupVM)
	if err != nil {
		t.Fatal(err)
	}
	reply, err := start(t, server).Call(backupVM, item.DeepCopy(), item)
	return reply, err
}

func TestARefusedLookupIsAnErrorThatNamesIt(t *testing.T) {
	_, err := backUpWeb(t, map[string]int{"persistentvolumeclaims": http.StatusForbidden})
	if err == nil {
		t.Fatal("the backend storage of the VM could not be looked up, and nobody was told")
	}
	for _, part := range []string{"VirtualMachine shop/web", `listing persistentvolumeclaims in namespace "shop"`, "the test says so"} {
		if !strings.Contains(err.Error(), part) {
			t.Errorf("%q is missing in: %v", part, err)
		}
	}
}

func TestARefusedCheckIsAWarningAndTheNeighbourIsKept(t *testing.T) {
	reply, err := backUpWeb(t, map[string]int{"secrets": http.StatusForbidden})
	if err != nil {
		t.Fatal(err)
	}
	secrets := 0
	for _, item := range reply.AdditionalItems {
		if item.Resource == "secrets" {
			secrets++
		}
	}
	if secrets != 4 {
		t.Errorf("want 4 secrets among the additional items, got %v", reply.AdditionalItems)
	}
	warnings := 0
	for _, entry := range reply.Log {
		if entry.Level == logrus.WarnLevel && strings.Contains(entry.Message, "could not check that the neighbour exists") {
			warnings++
		}
	}
	if warnings != 4 {
		t.Errorf("want 4 warnings, got %d in %v", warnings, reply.Log)
	}
}

func TestAResourceThatIsNotInstalledIsNoError(t *testing.T) {
	reply, err := backUpWeb(t, map[string]int{"datavolumes": http.StatusNotFound})
	if err != nil {
		t.Fatal(err)
	}
	for _, item := range reply.AdditionalItems {
		if item.Resource == "datavolumes" {
			t.Errorf("%v cannot be there", item)
		}
	}
}

func TestListsAreSharedByAllItemsOfABackup(t *testing.T) {
	objects, err := scenarios.Objects(situation)
	if err != nil {
		t.Fatal(err)
	}
	server := startAPIServer(t, cluster.FromObjects(objects))
	plugin := start(t, server)
	item, err := scenarios.Find(objects, backupVM)
	if err != nil {
		t.Fatal(err)
	}
	count := func() int {
		if _, err := plugin.Call(backupVM, item.DeepCopy(), item); err != nil {
			t.Fatal(err)
		}
		server.mu.Lock()
		defer server.mu.Unlock()
		return len(server.requests)
	}
	if first, second := count(), count(); first == 0 || second != first {
		t.Errorf("%d requests after one item, %d after two", first, second)
	}
}

// The VMs of the cluster are read once for all items of a restore, and not at all when nothing depends on them.
func TestTheClusterIsReadOnceForIdentities(t *testing.T) {
	const dir = "../scenarios/a-vm-restored-beside-its-original"
	objects, err := scenarios.Objects(dir)
	if err != nil {
		t.Fatal(err)
	}
	requests, err := scenarios.Requests(dir)
	if err != nil {
		t.Fatal(err)
	}
	server := startAPIServer(t, cluster.FromObjects(objects))
	plugin := start(t, server)
	lists := func(name string) int {
		request := requests[slices.IndexFunc(requests, func(r scenarios.Request) bool { return r.Name == name })]
		item, err := scenarios.Find(objects, request)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := plugin.Call(request, scenarios.AsRestored(item), item.DeepCopy()); err != nil {
			t.Fatal(err)
		}
		server.mu.Lock()
		defer server.mu.Unlock()
		count := 0
		for _, url := range server.requests {
			if strings.Contains(url, "/virtualmachines?") || strings.Contains(url, "/virtualmachineinstances?") {
				count++
			}
		}
		return count
	}
	if n := lists("beside-keep"); n != 0 {
		t.Errorf("%d lists although the identity is kept", n)
	}
	first := lists("beside")
	if second := lists("over-itself"); first < 2 || second != first {
		t.Errorf("%d lists after one item, %d after two", first, second)
	}
}

// The mark is put into every object of every item; no rule knows it.
func TestUnknownFieldsComeOutUnchanged(t *testing.T) {
	objects, err := scenarios.Objects(situation)
	if err != nil {
		t.Fatal(err)
	}
	for _, obj := range objects {
		mark(obj.Object)
	}
	plugin := start(t, startAPIServer(t, cluster.FromObjects(objects)))
	requests, err := scenarios.Requests(situation)
	if err != nil {
		t.Fatal(err)
	}
	checked := 0
	for _, request := range requests {
		if request.From != "" || request.Phase == "itemblock" {
			continue
		}
		fromBackup, err := scenarios.Find(objects, request)
		if err != nil {
			t.Fatal(err)
		}
		item := fromBackup
		if request.Phase == "restore" {
			item = scenarios.AsRestored(fromBackup)
			mark(item.Object["metadata"])
		}
		reply, err := plugin.Call(request, item.DeepCopy(), fromBackup.DeepCopy())
		if err != nil {
			t.Fatal(err)
		}
		checked++
		for path, change := range scenarios.Compare(item.Object, reply.Item.Object) {
			if strings.Contains(path, unknownField) || change.Before != nil {
				t.Errorf("%s: %s was %v, is %v", request.Name, path, change.Before, change.After)
			}
		}
	}
	if checked == 0 {
		t.Error("no request was checked")
	}
}

const unknownField = "fieldOfTomorrow"

// mark adds an unknown field to every object in value. Labels and annotations hold strings only.
func mark(value any) {
	switch value := value.(type) {
	case map[string]any:
		for key, below := range value {
			if key != "labels" && key != "annotations" {
				mark(below)
			}
		}
		value[unknownField] = map[string]any{"deep": []any{int64(1), "two", nil, map[string]any{"three": 3.5}}}
	case []any:
		for _, element := range value {
			mark(element)
		}
	}
}

// TestWhatAVMNeedsComesBeforeItsRules: Velero restores what an action names before it calls the next one.
func TestWhatAVMNeedsComesBeforeItsRules(t *testing.T) {
	actions, err := start(t, startAPIServer(t, cluster.FromObjects(nil))).GetRestoreItemActionsV2()
	if err != nil {
		t.Fatal(err)
	}
	var order []string
	for _, action := range actions {
		if name := action.Name(); strings.HasSuffix(name, "/bring-first") || strings.HasSuffix(name, "/restore") {
			order = append(order, name)
		}
	}
	if want := []string{"velero-plugin-for-kubevirt/bring-first", "velero-plugin-for-kubevirt/restore"}; !slices.Equal(order, want) {
		t.Errorf("the actions are called in the order %q, want %q", order, want)
	}
}
