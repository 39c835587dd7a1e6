package cluster

import (
	"context"
	"crypto/rand"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"k8s.io/client-go/tools/clientcmd"
	clientcmdapi "k8s.io/client-go/tools/clientcmd/api"
)

// controlPlane is etcd and the API server.
var controlPlane = part{
	name: "control plane",
	programs: []Program{
		{Name: "etcd", Module: "etcd", Package: "go.etcd.io/etcd/server/v3"},
		{Name: "kube-apiserver", Module: "kubernetes", Package: "k8s.io/kubernetes/cmd/kube-apiserver", LDFlags: kubernetesVersion},
	},
	start: startControlPlane,
}

// controllers is the controller manager. It is needed even here: without it no namespace is ever deleted, no claim loses
// its protection finalizer, and no pod is admitted for want of a ServiceAccount. It starts when all definitions are there:
// its garbage collector looks for new kinds only every 30 s, and until then what they own outlives them.
var controllers = part{
	name: "controller manager",
	programs: []Program{
		{Name: "kube-controller-manager", Module: "kubernetes", Package: "k8s.io/kubernetes/cmd/kube-controller-manager", LDFlags: kubernetesVersion},
	},
	start: startControllerManager,
}

// kubernetesVersion stamps the version, without which /version says v0.0.0 and clients that ask for a minimum refuse.
const kubernetesVersion = "-X k8s.io/component-base/version.gitVersion=" + releaseMark

func startControlPlane(ctx context.Context, c *Cluster) error {
	var err error
	if c.authority, err = newAuthority(c.path("pki")); err != nil {
		return err
	}
	admin, err := c.authority.issue("admin", "system:masters")
	if err != nil {
		return err
	}
	etcd, err := startEtcd(ctx, c, admin)
	if err != nil {
		return err
	}
	if err := newKey(c.path("pki", "service-accounts.key")); err != nil {
		return err
	}
	port, err := c.serverPort()
	if err != nil {
		return err
	}
	c.server = "https://" + loopback(port)
	// With a certificate, the API server would verify its signature anew at every request.
	tokens, lines := c.path("pki", "tokens.csv"), ""
	for _, user := range []struct{ name, kubeconfig string }{{"admin", "kubeconfig"}, {veleroUser, "velero.kubeconfig"}} {
		token := rand.Text()
		lines += token + "," + user.name + "," + user.name + ",system:masters\n"
		if _, err := c.writeUserKubeconfig(user.kubeconfig, &clientcmdapi.AuthInfo{Token: token}); err != nil {
			return err
		}
	}
	if err := os.WriteFile(tokens, []byte(lines), 0o600); err != nil {
		return fmt.Errorf("writing tokens: %w", err)
	}
	if err := os.WriteFile(c.path("pki", "audit.yaml"), []byte(auditPolicy), 0o644); err != nil {
		return fmt.Errorf("writing the audit policy: %w", err)
	}
	c.Kubeconfig = c.path("kubeconfig")
	if c.RESTConfig, err = clientcmd.BuildConfigFromFlags("", c.Kubeconfig); err != nil {
		return fmt.Errorf("reading the kubeconfig: %w", err)
	}
	c.RESTConfig.QPS = -1 // no throttling on the client's side
	if err := startAPIServer(ctx, c, port, etcd, tokens, admin); err != nil {
		return err
	}
	c.clients, err = newClients(c.RESTConfig)
	return err
}

// startEtcd returns the address that etcd serves.
func startEtcd(ctx context.Context, c *Cluster, admin identity) (string, error) {
	id, err := c.authority.issue("etcd")
	if err != nil {
		return "", err
	}
	clientPort, err := c.port()
	if err != nil {
		return "", err
	}
	peerPort, err := c.port()
	if err != nil {
		return "", err
	}
	client, peer := "https://"+loopback(clientPort), "http://"+loopback(peerPort)
	_, err = c.supervisor.start(ctx, command{
		name:   "etcd",
		binary: c.binaries["etcd"],
		args: []string{
			"--name=etcd", "--data-dir=" + c.path("etcd"), "--log-level=warn",
			"--unsafe-no-fsync", // the data need not survive the machine
			"--listen-client-urls=" + client, "--advertise-client-urls=" + client,
			"--listen-peer-urls=" + peer, "--initial-advertise-peer-urls=" + peer, "--initial-cluster=etcd=" + peer,
			"--cert-file=" + id.cert, "--key-file=" + id.key,
			"--client-cert-auth", "--trusted-ca-file=" + c.authority.bundle(),
		},
		ready: c.answersOK(client+"/health", admin),
	})
	return client, err
}

func startAPIServer(ctx context.Context, c *Cluster, port int, etcd, tokens string, admin identity) error {
	server, err := c.authority.issue("kube-apiserver", "system:masters")
	if err != nil {
		return err
	}
	proxy, err := c.authority.issue("front-proxy-client")
	if err != nil {
		return err
	}
	serviceAccountKey := c.path("pki", "service-accounts.key")
	_, err = c.supervisor.start(ctx, command{
		name:   "kube-apiserver",
		binary: c.binaries["kube-apiserver"],
		args: append([]string{
			"--bind-address=" + c.serverAddress(), "--advertise-address=127.0.0.1", "--secure-port=" + strconv.Itoa(port),
			"--endpoint-reconciler-type=none", // a loopback address is not allowed in endpoints
			"--etcd-servers=" + etcd, "--etcd-cafile=" + c.authority.bundle(), "--etcd-certfile=" + server.cert, "--etcd-keyfile=" + server.key,
			"--tls-cert-file=" + server.cert, "--tls-private-key-file=" + server.key, "--client-ca-file=" + c.authority.bundle(),
			"--token-auth-file=" + tokens,
			"--kubelet-client-certificate=" + server.cert, "--kubelet-client-key=" + server.key, "--kubelet-certificate-authority=" + c.authority.bundle(),
			"--kubelet-preferred-address-types=InternalIP", // the nodes' names do not resolve
			"--service-account-key-file=" + serviceAccountKey, "--service-account-signing-key-file=" + serviceAccountKey,
			"--service-account-issuer=https://kubernetes.default.svc",
			"--service-cluster-ip-range=10.0.0.0/24",
			"--authorization-mode=RBAC", "--allow-privileged=true",
			"--audit-policy-file=" + c.path("pki", "audit.yaml"), "--audit-log-path=" + c.AuditLog(),
			// Aggregated API servers learn from the front proxy who is asking.
			"--requestheader-client-ca-file=" + c.authority.bundle(), "--requestheader-allowed-names=front-proxy-client",
			"--requestheader-username-headers=X-Remote-User", "--requestheader-uid-headers=X-Remote-Uid",
			"--requestheader-group-headers=X-Remote-Group", "--requestheader-extra-headers-prefix=X-Remote-Extra-",
			"--proxy-client-cert-file=" + proxy.cert, "--proxy-client-key-file=" + proxy.key,
		}, c.options.APIServer...),
		ready: c.answersOK(c.server+"/readyz", admin),
	})
	return err
}

func startControllerManager(ctx context.Context, c *Cluster) error {
	return c.startController(ctx, "kube-controller-manager",
		"--use-service-account-credentials=true",
		"--root-ca-file="+c.authority.bundle(), "--service-account-private-key-file="+c.path("pki", "service-accounts.key"),
		// Velero warns at every restore of a namespace that this controller was quicker with the ConfigMap kube-root-ca.crt;
		// hardly any pod here mounts it, see PublishRootCA.
		"--controllers=*,-root-ca-certificate-publisher-controller",
		// A claim is looked at again only then if the binder lost a race for changing it, as it does against CDI: by default
		// after 15 s.
		"--pvclaimbinder-sync-period=1s",
	)
}

// startController starts one of Kubernetes' own clients of the API server, as the user of its name.
func (c *Cluster) startController(ctx context.Context, name string, args ...string) error {
	id, err := c.authority.issue("system:" + name)
	if err != nil {
		return err
	}
	kubeconfig, err := c.writeKubeconfig(name+".kubeconfig", id)
	if err != nil {
		return err
	}
	port, err := c.port()
	if err != nil {
		return err
	}
	_, err = c.supervisor.start(ctx, command{
		name:   name,
		binary: c.binaries[name],
		args: append(args,
			"--kubeconfig="+kubeconfig, "--leader-elect=false",
			"--bind-address=127.0.0.1", "--secure-port="+strconv.Itoa(port), "--tls-cert-file="+id.cert, "--tls-private-key-file="+id.key,
			"--kube-api-qps=200", "--kube-api-burst=400", // the default would make a loaded namespace's deletion crawl
		),
		ready: c.answersOK("https://"+loopback(port)+"/healthz", id),
	})
	return err
}

// writeKubeconfig writes the kubeconfig of an identity into the cluster's folder.
func (c *Cluster) writeKubeconfig(name string, id identity) (string, error) {
	return c.writeUserKubeconfig(name, &clientcmdapi.AuthInfo{ClientCertificateData: id.certPEM, ClientKeyData: id.keyPEM})
}

// writeUserKubeconfig does the same for a user who shows something else.
func (c *Cluster) writeUserKubeconfig(name string, user *clientcmdapi.AuthInfo) (string, error) {
	config := clientcmdapi.NewConfig()
	config.Clusters["test"] = &clientcmdapi.Cluster{Server: c.server, CertificateAuthorityData: c.authority.pem}
	config.AuthInfos["test"] = user
	config.Contexts["test"] = &clientcmdapi.Context{Cluster: "test", AuthInfo: "test"}
	config.CurrentContext = "test"
	path := c.path(name)
	if err := clientcmd.WriteToFile(*config, path); err != nil {
		return "", fmt.Errorf("writing %s: %w", filepath.Base(path), err)
	}
	return path, nil
}

// answersOK returns a check that an HTTP server answers a request with 200.
func (c *Cluster) answersOK(url string, id identity) func(context.Context) error {
	return func(ctx context.Context) error {
		settings, err := c.authority.tls(id)
		if err != nil {
			return err
		}
		transport := &http.Transport{TLSClientConfig: settings}
		defer transport.CloseIdleConnections()
		return answersOK(ctx, &http.Client{Transport: transport}, url, "")
	}
}

// answersOK asks a server, and wants 200 and a certain text.
func answersOK(ctx context.Context, client *http.Client, url, text string) error {
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		return err
	}
	response, err := client.Do(request)
	if err != nil {
		return err
	}
	defer response.Body.Close()
	body, err := io.ReadAll(io.LimitReader(response.Body, 4096))
	if err != nil {
		return err
	}
	if response.StatusCode != http.StatusOK || !strings.Contains(string(body), text) {
		return fmt.Errorf("%s answers %s: %s", url, response.Status, body)
	}
	return nil
}
