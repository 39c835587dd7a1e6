package cluster

import (
	"context"
	"crypto/tls"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"strconv"
	"time"

	"golang.org/x/sync/errgroup"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	clientcmdapi "k8s.io/client-go/tools/clientcmd/api"
)

// kubeVirt is KubeVirt's virt-api and virt-controller as they are, set up as virt-operator would, and a stand-in for
// what runs on nodes.
var kubeVirt = part{
	name: KubeVirt,
	programs: []Program{
		kubeVirtManifests,
		{Name: "virt-api", Module: "kubevirt", Package: "kubevirt.io/kubevirt/cmd/virt-api", LDFlags: kubeVirtVersion},
		{Name: "virt-controller", Module: "kubevirt", Package: "kubevirt.io/kubevirt/cmd/virt-controller", LDFlags: kubeVirtVersion},
		{Name: "virt-freezer", Module: "kubevirt", Package: "kubevirt.io/kubevirt/cmd/virt-freezer", LDFlags: kubeVirtVersion},
		{Name: "handler", Module: "kubevirt", Package: "./handler"},
		{Name: "container", Module: "kubevirt", Package: "./container"},
	},
	start: startKubeVirt,
}

var kubeVirtManifests = Program{Name: "kubevirt-manifests", Module: "kubevirt", Package: "./manifests", LDFlags: "-X main.version=" + releaseMark}

const (
	kubeVirtVersion = "-X kubevirt.io/client-go/version.gitVersion=" + releaseMark
	// kubeVirtNamespace is what KubeVirt's programs take for their namespace outside of pods (client-go, GetNamespace).
	kubeVirtNamespace = "kubevirt"
)

// A kubeVirtSite is what KubeVirt's processes of one cluster share.
type kubeVirtSite struct {
	cluster                *Cluster
	api, handler, metrics  int               // ports
	kubeconfigs            map[string]string // by ServiceAccount
	certificates, manifest string            // folders
}

func startKubeVirt(ctx context.Context, c *Cluster) error {
	k := &kubeVirtSite{cluster: c, kubeconfigs: map[string]string{}, manifest: c.path("kubevirt"), certificates: c.path("kubevirt", "certs")}
	var err error
	for _, port := range []*int{&k.api, &k.metrics} {
		if *port, err = c.port(); err != nil {
			return err
		}
	}
	if k.handler, err = c.handlerPort(); err != nil {
		return err
	}
	_, err = runProgram(ctx, c.binaries[kubeVirtManifests.Name], c.supervisor.environment(),
		"--out", k.manifest, "--virt-api-port", strconv.Itoa(k.api), "--vm-state-storage-class", StorageClass)
	if err != nil {
		return err
	}
	if err := k.install(ctx); err != nil {
		return err
	}
	for _, account := range []string{"kubevirt-apiserver", "kubevirt-controller", "kubevirt-handler"} {
		if k.kubeconfigs[account], err = c.tokenKubeconfig(ctx, account); err != nil {
			return err
		}
	}
	if err := k.startProcesses(ctx); err != nil {
		return err
	}
	// Nothing can be written that a webhook guards before virt-api answers.
	if err := k.apply(ctx, "40-apiservices.yaml", "50-webhooks.yaml"); err != nil {
		return err
	}
	return k.awaitWork(ctx)
}

// install creates what the processes need before they start.
func (k *kubeVirtSite) install(ctx context.Context) error {
	// The first file has the namespace.
	if err := k.apply(ctx, "10-rbac.yaml"); err != nil {
		return err
	}
	if k.cluster.options.Machine != nil {
		if err := k.cluster.PublishRootCA(ctx, kubeVirtNamespace); err != nil {
			return err
		}
	}
	if err := k.apply(ctx, "15-policies.yaml", "20-certificates.yaml", "30-services.yaml", "kubevirt.yaml", "90-virt-handler.yaml"); err != nil {
		return err
	}
	content, err := os.ReadFile(filepath.Join(k.manifest, "kubevirt-status.yaml"))
	if err != nil {
		return fmt.Errorf("reading KubeVirt's status: %w", err)
	}
	status, err := decode(content)
	if err != nil {
		return err
	}
	live, err := k.cluster.clients.get(ctx, object("kubevirt.io/v1", "KubeVirt", kubeVirtNamespace, "kubevirt"))
	if err != nil {
		return err
	}
	live.Object["status"] = status[0].Object["status"]
	resource, _, err := k.cluster.clients.resource(live)
	if err != nil {
		return err
	}
	if _, err := resource.UpdateStatus(ctx, live, metav1.UpdateOptions{}); err != nil {
		return fmt.Errorf("setting KubeVirt's status: %w", err)
	}
	return nil
}

// apply creates the objects of manifests: a namespace first, the others in any order.
func (k *kubeVirtSite) apply(ctx context.Context, files ...string) error {
	group, groupCtx := errgroup.WithContext(ctx)
	group.SetLimit(8)
	for _, file := range files {
		content, err := os.ReadFile(filepath.Join(k.manifest, file))
		if err != nil {
			return fmt.Errorf("reading KubeVirt's manifests: %w", err)
		}
		objects, err := decode(content)
		if err != nil {
			return err
		}
		for _, obj := range objects {
			if obj.GetKind() == "DaemonSet" && k.cluster.options.Machine != nil {
				if err := k.onMachine(obj); err != nil {
					return err
				}
			}
			create := func() error {
				_, err := k.cluster.clients.create(groupCtx, obj)
				return err
			}
			if obj.GetKind() != "Namespace" {
				group.Go(create)
			} else if err := create(); err != nil {
				return err
			}
		}
	}
	return group.Wait()
}

// tokenKubeconfig writes the kubeconfig of one of KubeVirt's ServiceAccounts, with a token as a pod would have it.
func (c *Cluster) tokenKubeconfig(ctx context.Context, account string) (string, error) {
	request := object("authentication.k8s.io/v1", "TokenRequest", kubeVirtNamespace, account)
	request.Object["spec"] = map[string]any{"expirationSeconds": int64(365 * 24 * 3600)}
	resource, _, err := c.clients.resource(object("v1", "ServiceAccount", kubeVirtNamespace, account))
	if err != nil {
		return "", err
	}
	answer, err := resource.Create(ctx, request, metav1.CreateOptions{}, "token")
	if err != nil {
		return "", fmt.Errorf("getting a token of ServiceAccount %s: %w", account, err)
	}
	return c.writeUserKubeconfig(account+".kubeconfig", &clientcmdapi.AuthInfo{Token: nestedString(answer, "status", "token")})
}

func (k *kubeVirtSite) startProcesses(ctx context.Context) error {
	group, groupCtx := errgroup.WithContext(ctx)
	commands := []command{k.controllerCommand(), k.apiCommand()}
	if k.cluster.options.Machine == nil {
		commands = append(commands, k.handlerCommand())
	}
	for _, command := range commands {
		group.Go(func() error {
			_, err := k.cluster.supervisor.start(groupCtx, command)
			return err
		})
	}
	return group.Wait()
}

// cert returns the flags that name a certificate and its key.
func (k *kubeVirtSite) cert(certFlag, keyFlag, secret string) []string {
	folder := filepath.Join(k.certificates, secret)
	return []string{certFlag, filepath.Join(folder, "tls.crt"), keyFlag, filepath.Join(folder, "tls.key")}
}

func (k *kubeVirtSite) controllerCommand() command {
	release := k.cluster.options.release("kubevirt")
	return command{
		name:   "virt-controller",
		binary: k.cluster.binaries["virt-controller"],
		args: append([]string{
			"--kubeconfig", k.kubeconfigs["kubevirt-controller"], "-v", "2", "--listen", "127.0.0.1", "--port", strconv.Itoa(k.metrics),
			"--launcher-image", "quay.io/kubevirt/virt-launcher:" + release, "--exporter-image", "quay.io/kubevirt/virt-exportserver:" + release,
		}, k.cert("--prom-cert-file", "--prom-key-file", "kubevirt-controller-certs")...),
		ready:   answers("https://"+loopback(k.metrics)+"/leader", `"true"`),
		restart: true, // it begins anew when the CRDs of CDI come or go
	}
}

func (k *kubeVirtSite) apiCommand() command {
	args := []string{
		"--kubeconfig", k.kubeconfigs["kubevirt-apiserver"], "-v", "2", "--listen", "127.0.0.1", "--port", strconv.Itoa(k.api),
		"--console-server-port", strconv.Itoa(k.handler), "--subresources-only",
	}
	args = append(args, k.cert("--tls-cert-file", "--tls-key-file", "kubevirt-virt-api-certs")...)
	return command{
		name:    "virt-api",
		binary:  k.cluster.binaries["virt-api"],
		args:    append(args, k.cert("--handler-cert-file", "--handler-key-file", "kubevirt-virt-handler-certs")...),
		ready:   answers("https://"+loopback(k.api)+"/healthz", ""),
		grace:   200 * time.Millisecond, // it waits 5 s for requests that nobody sends any more
		restart: true,                   // it begins anew when a CRD of CDI comes or goes
	}
}

func (k *kubeVirtSite) handlerCommand() command {
	c := k.cluster
	return command{
		name:   "handler",
		binary: c.binaries["handler"],
		args: append([]string{
			"--handler-kubeconfig", k.kubeconfigs["kubevirt-handler"], "--node-kubeconfig", c.Kubeconfig,
			"--sockets", c.launcherSockets(), "--events", c.path("kubevirt", journalFile), "--listen", loopback(k.handler),
			"--client-ca", filepath.Join(k.certificates, "kubevirt-ca", "tls.crt"),
		}, k.cert("--tls-cert", "--tls-key", "kubevirt-virt-handler-server-certs")...),
	}
}

// answers returns a check that one of KubeVirt's programs answers a request with 200 and a certain text. Who it is does
// not matter here, and its certificate is for another name.
func answers(url, text string) func(context.Context) error {
	transport := &http.Transport{TLSClientConfig: &tls.Config{InsecureSkipVerify: true}, DisableKeepAlives: true}
	return func(ctx context.Context) error { return answersOK(ctx, &http.Client{Transport: transport}, url, text) }
}

// awaitWork waits until the API server asks virt-api: for the subresources and before it stores a VM. The answer to the
// latter shows that virt-api has read the KubeVirt CR, too.
func (k *kubeVirtSite) awaitWork(ctx context.Context) error {
	clients := k.cluster.clients
	for _, name := range []string{"v1.subresources.kubevirt.io", "v1alpha3.subresources.kubevirt.io"} {
		err := clients.await(ctx, object("apiregistration.k8s.io/v1", "APIService", "", name), "available", 30*time.Second,
			func(live *unstructured.Unstructured) bool { return conditionTrue(live, "Available") })
		if err != nil {
			return err
		}
	}
	ready := func(live *unstructured.Unstructured) bool {
		number, _, _ := unstructured.NestedInt64(live.Object, "status", "numberReady")
		return number == k.cluster.nodes()
	}
	if err := clients.await(ctx, object("apps/v1", "DaemonSet", kubeVirtNamespace, "virt-handler"), "on every node", 5*time.Minute, ready); err != nil {
		return err
	}
	return poll(ctx, "virt-api to default VMs", k.defaultsVMs)
}

// defaultsVMs creates a VM that is not stored, and looks for what virt-api adds.
func (k *kubeVirtSite) defaultsVMs(ctx context.Context) error {
	vm := object("kubevirt.io/v1", "VirtualMachine", kubeVirtNamespace, "probe")
	vm.Object["spec"] = map[string]any{
		"runStrategy": "Halted",
		"template":    map[string]any{"spec": map[string]any{"domain": map[string]any{"devices": map[string]any{}}}},
	}
	resource, _, err := k.cluster.clients.resource(vm)
	if err != nil {
		return err
	}
	answer, err := resource.Create(ctx, vm, metav1.CreateOptions{DryRun: []string{metav1.DryRunAll}})
	if err != nil {
		return err
	}
	if nestedString(answer, "spec", "template", "spec", "architecture") == "" {
		return fmt.Errorf("no architecture in %v", answer.Object["spec"])
	}
	return nil
}
