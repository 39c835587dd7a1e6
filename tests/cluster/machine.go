package cluster

import (
	"context"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"sigs.k8s.io/yaml"
)

// A Machine is a real node: containerd and a kubelet run the pods, KubeVirt's virt-handler runs as a pod, and the CSI driver
// mounts its volumes. It takes over the machine: whoever starts it must be root, have MachineAddress and be in namespaces of mounts,
// processes and network that nobody else needs, with whose end everything ends. See tests/guest.
type Machine struct {
	// Dir is where containers and the kubelet keep their files. It may be removed when the namespaces are gone.
	Dir string
	// Cgroup names the parent of the containers' cgroups.
	Cgroup string
	// Images are from BuildImages.
	Images Images
	// Plugin is the archive of the plugin's image, which "make test-image" makes.
	Plugin string
}

// A Machine has these addresses.
const (
	// MachineAddress is that of the node. A kubelet does not take a loopback address, but any other of the loopback device.
	MachineAddress = "10.99.0.1"
	// ServiceAddress is where pods look for the API server: the first address of the service range, which the API server gives to its
	// own service. It listens there itself, so that nothing has to forward.
	ServiceAddress = "10.0.0.1"
)

// machine runs containers on the one node.
var machine = part{
	name: realNode,
	programs: []Program{
		{Name: "kubelet", Module: "kubelet", Package: "k8s.io/kubernetes/cmd/kubelet", LDFlags: stamped(kubernetesVersion, "kubernetes")},
		storePluginProgram("hack/" + storePluginCopy),
	},
	start: startMachine,
}

// stamped returns linker flags with the version of the only release that a Machine can have.
func stamped(flags, component string) string {
	return strings.ReplaceAll(flags, releaseMark, releases[component][0])
}

const (
	realNode         = "machine"
	kubeletRoot      = "/var/lib/kubelet"
	containerdSocket = "/run/containerd/containerd.sock"
	// virtHandlerPort is where virt-handler listens unless it is told otherwise.
	virtHandlerPort = 8186
)

func startMachine(ctx context.Context, c *Cluster) error {
	if err := c.startContainerd(ctx); err != nil {
		return err
	}
	if err := c.loadImage(ctx, c.options.Machine.Images.Launcher); err != nil {
		return err
	}
	return c.startRealKubelet(ctx)
}

// loadImage makes an image known to containerd, from its archive.
func (c *Cluster) loadImage(ctx context.Context, archive string) error {
	_, err := runProgram(ctx, "ctr", c.supervisor.environment(), "--address", containerdSocket, "--namespace", "k8s.io", "images", "import", archive)
	if err != nil {
		return fmt.Errorf("loading the image %s: %w", archive, err)
	}
	return nil
}

const containerdConfig = `version = 2
root = %q
state = "/run/containerd"
[grpc]
address = %q
[plugins."io.containerd.grpc.v1.cri"]
sandbox_image = %q
# Not every machine lets root lower it.
restrict_oom_score_adj = true
[plugins."io.containerd.grpc.v1.cri".cni]
bin_dir = "/usr/lib/cni"
conf_dir = %q
[plugins."io.containerd.grpc.v1.cri".containerd.runtimes.runc]
runtime_type = "io.containerd.runc.v2"
`

// podNetwork gives each pod an address. Pods reach the node's addresses, and nothing else.
const podNetwork = `{"cniVersion": "0.4.0", "name": "pods", "plugins": [
  {"type": "bridge", "bridge": "cni0", "isGateway": true, "ipMasq": false, "ipam": {
    "type": "host-local", "dataDir": "/run/cni-ipam", "ranges": [[{"subnet": "10.98.0.0/16"}]], "routes": [{"dst": "0.0.0.0/0"}]}},
  {"type": "loopback"}]}
`

func (c *Cluster) startContainerd(ctx context.Context) error {
	network := c.path("machine", "net.d")
	if err := os.MkdirAll(network, 0o755); err != nil {
		return err
	}
	config := fmt.Sprintf(containerdConfig, filepath.Join(c.options.Machine.Dir, "containerd"), containerdSocket, launcherImage("virt-launcher"), network)
	for path, content := range map[string]string{c.path("machine", "containerd.toml"): config, filepath.Join(network, "pods.conflist"): podNetwork} {
		if err := os.WriteFile(path, []byte(content), 0o644); err != nil {
			return fmt.Errorf("configuring containerd: %w", err)
		}
	}
	_, err := c.supervisor.start(ctx, command{
		name:   "containerd",
		binary: "containerd",
		args:   []string{"--config", c.path("machine", "containerd.toml")},
		ready: func(ctx context.Context) error {
			connection, err := (&net.Dialer{}).DialContext(ctx, "unix", containerdSocket)
			if err != nil {
				return err
			}
			return connection.Close()
		},
	})
	return err
}

func (c *Cluster) startRealKubelet(ctx context.Context) error {
	id, err := c.authority.issue("system:node:"+NodeName, "system:nodes", "system:masters")
	if err != nil {
		return err
	}
	kubeconfig, err := c.writeKubeconfig("kubelet.kubeconfig", id)
	if err != nil {
		return err
	}
	config, err := yaml.Marshal(map[string]any{
		"apiVersion": "kubelet.config.k8s.io/v1beta1", "kind": "KubeletConfiguration",
		"address": MachineAddress, "port": 10250, "readOnlyPort": 0, "healthzPort": 0,
		"authentication": map[string]any{
			"anonymous": map[string]any{"enabled": false}, "webhook": map[string]any{"enabled": false},
			"x509": map[string]any{"clientCAFile": c.authority.bundle()},
		},
		"authorization":            map[string]any{"mode": "AlwaysAllow"},
		"containerRuntimeEndpoint": "unix://" + containerdSocket,
		"tlsCertFile":              id.cert, "tlsPrivateKeyFile": id.key,
		// It takes machines as they are, and their cgroups of either version.
		"cgroupDriver": "cgroupfs", "cgroupsPerQOS": false, "cgroupRoot": c.options.Machine.Cgroup, "resolvConf": "", "enforceNodeAllocatable": []string{}, "failCgroupV1": false, "failSwapOn": false,
		"evictionHard": map[string]any{}, "imageGCHighThresholdPercent": 100,
		"podLogsDir": c.path("logs", "pods"),
	})
	if err != nil {
		return err
	}
	path := c.path("machine", "kubelet.yaml")
	if err := os.WriteFile(path, config, 0o644); err != nil {
		return fmt.Errorf("configuring the kubelet: %w", err)
	}
	_, err = c.supervisor.start(ctx, command{
		name:   "kubelet",
		binary: c.binaries["kubelet"],
		args: []string{
			"--kubeconfig", kubeconfig, "--config", path, "--root-dir", kubeletRoot, "--cert-dir", c.path("machine", "pki"),
			"--hostname-override", NodeName, "--node-ip", MachineAddress, "--v", "2",
		},
		ready: func(ctx context.Context) error {
			return c.clients.await(ctx, object("v1", "Node", "", NodeName), "ready", 4*time.Second,
				func(live *unstructured.Unstructured) bool { return conditionTrue(live, "Ready") })
		},
		within: 3 * time.Minute,
	})
	return err
}

// onMachine changes the DaemonSet of virt-handler as far as a Machine needs it.
func (k *kubeVirtSite) onMachine(daemonSet *unstructured.Unstructured) error {
	spec, _, err := unstructured.NestedMap(daemonSet.Object, "spec", "template", "spec")
	if err != nil {
		return err
	}
	for _, kind := range []string{"containers", "initContainers"} {
		containers, _ := spec[kind].([]any)
		for _, item := range containers {
			environment, _ := item.(map[string]any)["env"].([]any)
			for _, variable := range environment {
				// Where the hypervisor's device is listed as there, the node labeller makes it; whether it works is another matter.
				if v := variable.(map[string]any); v["name"] == "HYPERVISOR_DEVICE" {
					v["value"] = "none"
				}
			}
		}
	}
	return unstructured.SetNestedMap(daemonSet.Object, spec, "spec", "template", "spec")
}

// PublishRootCA creates what the pods of a namespace check the API server by, if they have a token for it: those of virt-handler and of
// hotplugged disks.
func (c *Cluster) PublishRootCA(ctx context.Context, namespace string) error {
	config := object("v1", "ConfigMap", namespace, "kube-root-ca.crt")
	config.Object["data"] = map[string]any{"ca.crt": string(c.authority.pem)}
	_, err := c.clients.create(ctx, config)
	return err
}

// driverArgs returns the CSI driver's arguments on a Machine.
func (c *Cluster) driverArgs() []string {
	if c.options.Machine == nil {
		return nil
	}
	return []string{"--mount", "--register", filepath.Join(kubeletRoot, "plugins_registry", CSIDriver+"-reg.sock")}
}

// awaitDriver waits until the kubelet knows the CSI driver.
func (c *Cluster) awaitDriver(ctx context.Context) error {
	if c.options.Machine == nil {
		return nil
	}
	return c.clients.await(ctx, object("storage.k8s.io/v1", "CSINode", "", NodeName), "aware of "+CSIDriver, time.Minute, func(live *unstructured.Unstructured) bool {
		drivers, _, _ := unstructured.NestedSlice(live.Object, "spec", "drivers")
		return len(drivers) > 0
	})
}

// handlerPort returns where virt-handler listens.
func (c *Cluster) handlerPort() (int, error) {
	if c.options.Machine != nil {
		return virtHandlerPort, nil
	}
	return c.port()
}

// serverPort returns where the API server listens: on a Machine at the port of its service.
func (c *Cluster) serverPort() (int, error) {
	if c.options.Machine != nil {
		return 443, nil
	}
	return c.port()
}

// serverAddress returns the address at which the API server listens: on a Machine at all of them.
func (c *Cluster) serverAddress() string {
	if c.options.Machine != nil {
		return "0.0.0.0"
	}
	return "127.0.0.1"
}

// address returns where something listens that pods use, too.
func (c *Cluster) address(port int) string {
	if c.options.Machine != nil {
		return net.JoinHostPort(MachineAddress, strconv.Itoa(port))
	}
	return loopback(port)
}

// nodes is how many the cluster has.
func (c *Cluster) nodes() int64 {
	if c.options.Machine != nil {
		return 1
	}
	return 2
}
