package cluster

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strconv"
	"syscall"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
)

// veleroServer is Velero's server with its S3 plugin and a backup location in the object store.
var veleroServer = part{
	name: "Velero server",
	programs: []Program{
		veleroProgram,
		storePluginProgram(objectStorePlugin),
	},
	start: startVelero,
}

var veleroProgram = Program{
	Name: "velero", Module: "velero", Package: "github.com/vmware-tanzu/velero/cmd/velero",
	// The second flag: Velero leaves a library's second metrics server at its default, port 8080 on all addresses, and
	// has no option to change it. Two servers on one machine need it off.
	LDFlags: "-X github.com/vmware-tanzu/velero/pkg/buildinfo.Version=" + releaseMark + " -X sigs.k8s.io/controller-runtime/pkg/metrics/server.DefaultBindAddress=0",
}

// storePluginProgram returns a program of the S3 plugin.
func storePluginProgram(folder string) Program {
	// Pinned, because the module proxy has no older one.
	return Program{Name: filepath.Base(folder), Module: "velero", Package: "github.com/vmware-tanzu/velero-plugin-for-aws/" + folder, Pinned: true}
}

const (
	objectStorePlugin = "velero-plugin-for-aws"
	// VeleroNamespace is where Velero keeps its objects.
	VeleroNamespace = "velero"
)

func startVelero(ctx context.Context, c *Cluster) error {
	credentials := fmt.Sprintf("[default]\naws_access_key_id=%s\naws_secret_access_key=%s\n", c.store.accessKey, c.store.secretKey)
	// A Secret will not do: Velero writes each to /tmp/credentials, where that of another cluster takes its place.
	if err := os.WriteFile(c.path("credentials"), []byte(credentials), 0o600); err != nil {
		return fmt.Errorf("writing the credentials: %w", err)
	}
	start := c.startVeleroProcess
	if c.options.Machine != nil {
		start = c.installVelero
	}
	if err := start(ctx); err != nil {
		return err
	}
	return c.awaitLocation(ctx)
}

// awaitLocation waits until Velero has seen that it can use the object store.
func (c *Cluster) awaitLocation(ctx context.Context) error {
	location := object("velero.io/v1", "BackupStorageLocation", VeleroNamespace, "default")
	err := c.clients.await(ctx, location, "Available", 2*time.Minute, func(live *unstructured.Unstructured) bool {
		return nestedString(live, "status", "phase") == "Available"
	})
	if err != nil && c.velero != nil {
		return fmt.Errorf("%w%s", err, c.velero.logTail())
	}
	return err
}

// startVeleroProcess starts the server outside of the cluster.
func (c *Cluster) startVeleroProcess(ctx context.Context) error {
	if err := c.clients.createAll(ctx, veleroObjects(c.store, !c.options.VeleroDefaults)...); err != nil {
		return err
	}
	if err := copyProgram(c.binaries[objectStorePlugin], c.path("plugins")); err != nil {
		return err
	}
	if c.options.FaultyAPI {
		if err := startFaultyAPI(c); err != nil {
			return fmt.Errorf("coming between Velero and the API server: %w", err)
		}
	}
	return c.startVeleroServer(ctx)
}

// frequentPolling is the variable of Velero's server by which it looks at a snapshot every second.
const frequentPolling = "CSI_SNAPSHOT_EARLY_FREQUENT_POLLING"

func veleroObjects(s store, frequently bool) []map[string]any {
	meta := func(name string) map[string]any { return map[string]any{"name": name, "namespace": VeleroNamespace} }
	labels := map[string]any{"component": "velero"}
	return []map[string]any{
		{"apiVersion": "v1", "kind": "Namespace", "metadata": map[string]any{"name": VeleroNamespace}},
		{
			"apiVersion": "velero.io/v1", "kind": "BackupStorageLocation", "metadata": meta("default"),
			"spec": map[string]any{
				"provider": "velero.io/aws", "default": true,
				"objectStorage": map[string]any{"bucket": bucket},
				"config":        map[string]any{"region": region, "s3ForcePathStyle": "true", "s3Url": s.url, "checksumAlgorithm": ""},
			},
		},
		{ // A restore reads from it the image for the init containers it adds, "check" how the server is set up. Nothing has to run.
			"apiVersion": "apps/v1", "kind": "Deployment", "metadata": meta("velero"),
			"spec": map[string]any{
				"replicas": int64(0),
				"selector": map[string]any{"matchLabels": labels},
				"template": map[string]any{
					"metadata": map[string]any{"labels": labels},
					"spec": map[string]any{
						"serviceAccountName": "velero",
						"containers": []any{map[string]any{
							"name": "velero", "image": "velero", "env": []any{map[string]any{"name": frequentPolling, "value": strconv.FormatBool(frequently)}},
						}},
					},
				},
			},
		},
	}
}

// Velero polls and asks the API server more often than by default, or tests would wait: a restore of many VMs crawls, what a plugin does afterwards is looked
// at every 10 s, and every snapshot takes 5 s.
var (
	hurryArguments   = []string{"--client-qps", "1000", "--client-burst", "2000", "--item-operation-sync-frequency", "2s"}
	hurryEnvironment = []string{frequentPolling + "=true"}
)

// startVeleroServer starts the server with the plugins that are in its folder and further arguments, and waits until it works.
func (c *Cluster) startVeleroServer(ctx context.Context, args ...string) error {
	metrics, err := c.port()
	if err != nil {
		return err
	}
	arguments := []string{
		"server", "--namespace", VeleroNamespace, "--plugin-dir", c.path("plugins"), "--features", "EnableCSI",
		"--metrics-address", loopback(metrics), "--profiler-address", "", "--log-level", "info",
	}
	environment := []string{
		"KUBECONFIG=" + c.path("velero.kubeconfig"), "AWS_SHARED_CREDENTIALS_FILE=" + c.path("credentials"),
		"GOGC=100", // as people run it, and its plugins: the bench measures them
	}
	if !c.options.VeleroDefaults {
		arguments, environment = append(arguments, hurryArguments...), append(environment, hurryEnvironment...)
	}
	server, err := c.supervisor.start(ctx, command{
		name:   "velero",
		binary: c.binaries["velero"],
		args:   append(arguments, args...),
		env:    environment,
		ready:  c.veleroAnswers,
		grace:  8 * time.Second,
	})
	if server != nil { // even if it did not become ready, it has to be stopped before the next
		c.velero = server
	}
	return err
}

// veleroAnswers asks the server for its status. The request is an object that only a working server fills in; the state
// of the backup location, by contrast, survives the server.
func (c *Cluster) veleroAnswers(ctx context.Context) (err error) {
	request := object("velero.io/v1", "ServerStatusRequest", VeleroNamespace, "")
	request.SetGenerateName("cluster-")
	request.Object["spec"] = map[string]any{}
	created, err := c.clients.create(ctx, request)
	if err != nil {
		return err
	}
	defer func() {
		resource, _, resourceErr := c.clients.resource(created)
		if resourceErr == nil {
			resourceErr = resource.Delete(context.WithoutCancel(ctx), created.GetName(), metav1.DeleteOptions{})
		}
		err = errors.Join(err, resourceErr)
	}()
	return c.clients.await(ctx, created, "processed", 4*time.Second, func(live *unstructured.Unstructured) bool {
		return nestedString(live, "status", "phase") == "Processed"
	})
}

func nestedString(obj *unstructured.Unstructured, fields ...string) string {
	value, _, _ := unstructured.NestedString(obj.Object, fields...)
	return value
}

// InstallPlugin copies a plugin's binary into Velero's plugin folder, replacing one of the same name, and restarts the
// server with it.
func (c *Cluster) InstallPlugin(ctx context.Context, binary string) error {
	return c.ReplacePlugin(ctx, "", binary)
}

// RemovePlugin undoes InstallPlugin. The name is that of the binary, without folder.
func (c *Cluster) RemovePlugin(ctx context.Context, name string) error {
	return c.ReplacePlugin(ctx, name, "")
}

// ReplacePlugin is RemovePlugin and InstallPlugin, and restarts the server once, with further arguments. Either may be empty.
func (c *Cluster) ReplacePlugin(ctx context.Context, name, binary string, args ...string) error {
	if c.options.Machine != nil {
		return errors.New("changing Velero's plugins: on a Machine they come from images when it starts")
	}
	if err := c.supervisor.stop(c.velero); err != nil {
		return err
	}
	if err := c.changePlugins(name, binary); err != nil {
		// The server comes back with those that are left.
		return errors.Join(fmt.Errorf("changing Velero's plugins: %w", err), c.startVeleroServer(ctx, args...))
	}
	return c.startVeleroServer(ctx, args...)
}

func (c *Cluster) changePlugins(name, binary string) error {
	if name != "" {
		if err := os.Remove(c.path("plugins", filepath.Base(name))); err != nil {
			return err
		}
	}
	if binary == "" {
		return nil
	}
	return copyProgram(binary, c.path("plugins"))
}

// KillPlugin kills the processes of a plugin of Velero, as the kernel does when memory runs out, and returns how many there were.
// The name is that of the binary, without folder.
func (c *Cluster) KillPlugin(name string) (int, error) {
	return KillCommands(func(args []string) bool { return args[0] == c.Plugin(name) })
}

// KillVelero kills the server, as the kernel does when memory runs out, with its plugins, and starts it again.
func (c *Cluster) KillVelero(ctx context.Context) error {
	if c.options.Machine != nil {
		return c.killVeleroInPod(ctx)
	}
	if err := errors.Join(c.velero.end(syscall.SIGKILL, 5*time.Second), c.supervisor.remove(c.velero)); err != nil {
		return err
	}
	return c.startVeleroServer(ctx)
}

// Velero runs the velero command line against this cluster and returns what it printed.
func (c *Cluster) Velero(ctx context.Context, args ...string) (string, error) {
	output, err := runProgram(ctx, c.binaries["velero"], c.supervisor.environment("KUBECONFIG="+c.Kubeconfig),
		append([]string{"--namespace", VeleroNamespace}, args...)...)
	return string(output), err
}

// copyProgram puts an executable file into a folder.
func copyProgram(source, folder string) error {
	in, err := os.Open(source)
	if err != nil {
		return fmt.Errorf("copying a program: %w", err)
	}
	defer in.Close()
	target := filepath.Join(folder, filepath.Base(source))
	// A new file: a plugin still running keeps the old one open and would make writing to it fail.
	if err := os.RemoveAll(target); err != nil {
		return fmt.Errorf("copying a program: %w", err)
	}
	out, err := os.OpenFile(target, os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o755)
	if err != nil {
		return fmt.Errorf("copying a program: %w", err)
	}
	_, err = io.Copy(out, in)
	if err := errors.Join(err, out.Close()); err != nil {
		return fmt.Errorf("copying %s: %w", filepath.Base(source), err)
	}
	return nil
}
