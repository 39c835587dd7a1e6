// Command cdi-apiserver runs CDI's API server: the admission webhooks and the
// upload token API. CDI's own main package listens on port 8443 of every
// address and offers no flag for it (CDI v1.65.0, cmd/cdi-apiserver), which
// leaves no room for a second component on the same machine.
package main

import (
	"flag"
	"fmt"
	"os"

	snapshotv1 "github.com/kubernetes-csi/external-snapshotter/client/v6/apis/volumesnapshot/v1"
	snapshotclient "github.com/kubernetes-csi/external-snapshotter/client/v6/clientset/versioned"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/kubernetes/scheme"
	"k8s.io/client-go/tools/clientcmd"
	"k8s.io/klog/v2"
	aggregatorclient "k8s.io/kube-aggregator/pkg/client/clientset_generated/clientset"
	cdiv1 "kubevirt.io/containerized-data-importer-api/pkg/apis/core/v1beta1"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/manager/signals"

	"kubevirt.io/containerized-data-importer/pkg/apiserver"
	cdiclient "kubevirt.io/containerized-data-importer/pkg/client/clientset/versioned"
	certwatcher "kubevirt.io/containerized-data-importer/pkg/util/cert/watcher"
	cryptowatch "kubevirt.io/containerized-data-importer/pkg/util/tls-crypto-watch"
)

type options struct {
	kubeconfig        string
	host              string
	port              uint
	certFile, keyFile string
}

func main() {
	var o options
	flag.StringVar(&o.kubeconfig, "kubeconfig", os.Getenv("KUBECONFIG"), "kubeconfig file")
	flag.StringVar(&o.host, "host", "127.0.0.1", "address to listen on")
	flag.UintVar(&o.port, "port", 8443, "port to listen on")
	flag.StringVar(&o.certFile, "tls-cert-file", "", "serving certificate")
	flag.StringVar(&o.keyFile, "tls-private-key-file", "", "key of the serving certificate")
	klog.InitFlags(nil)
	flag.Parse()
	if err := run(o); err != nil {
		fmt.Fprintln(os.Stderr, "cdi-apiserver:", err)
		os.Exit(1)
	}
}

func run(o options) error {
	for _, add := range []func(*runtime.Scheme) error{cdiv1.AddToScheme, snapshotv1.AddToScheme} {
		if err := add(scheme.Scheme); err != nil {
			return fmt.Errorf("registering types: %w", err)
		}
	}
	config, err := clientcmd.BuildConfigFromFlags("", o.kubeconfig)
	if err != nil {
		return fmt.Errorf("reading the kubeconfig: %w", err)
	}
	kube, err := kubernetes.NewForConfig(config)
	if err != nil {
		return fmt.Errorf("creating the Kubernetes client: %w", err)
	}
	aggregator, err := aggregatorclient.NewForConfig(config)
	if err != nil {
		return fmt.Errorf("creating the aggregator client: %w", err)
	}
	cdi, err := cdiclient.NewForConfig(config)
	if err != nil {
		return fmt.Errorf("creating the CDI client: %w", err)
	}
	snapshots, err := snapshotclient.NewForConfig(config)
	if err != nil {
		return fmt.Errorf("creating the snapshot client: %w", err)
	}
	// CDI gives this client a cache with an index of volumes, which only the
	// PVC mutating webhook reads; that one is registered only under the
	// feature gate WebhookPvcRendering, which is off by default.
	uncached, err := client.New(config, client.Options{Scheme: scheme.Scheme})
	if err != nil {
		return fmt.Errorf("creating the uncached client: %w", err)
	}

	ctx := signals.SetupSignalHandler()
	authConfig, err := apiserver.NewAuthConfigWatcher(ctx, kube)
	if err != nil {
		return fmt.Errorf("watching the authentication configuration: %w", err)
	}
	tlsConfig, err := cryptowatch.NewCdiConfigTLSWatcher(ctx, cdi)
	if err != nil {
		return fmt.Errorf("watching the TLS configuration: %w", err)
	}
	authorizer, err := apiserver.NewAuthorizorFromConfig(config, authConfig)
	if err != nil {
		return fmt.Errorf("creating the authorizer: %w", err)
	}
	// Not started: nothing replaces the certificate while the process runs.
	certificate, err := certwatcher.New(o.certFile, o.keyFile)
	if err != nil {
		return fmt.Errorf("reading the serving certificate: %w", err)
	}
	server, err := apiserver.NewCdiAPIServer(o.host, o.port, kube, aggregator, cdi, snapshots, uncached,
		authorizer, authConfig, tlsConfig, certificate, nil)
	if err != nil {
		return fmt.Errorf("creating the server: %w", err)
	}
	if err := server.Start(ctx.Done()); err != nil {
		return fmt.Errorf("serving: %w", err)
	}
	return nil
}
