// Command cdi-controller runs CDI's controllers. CDI's own main package reads
// the signing key from fixed paths and listens on port 8443 of every address
// (CDI v1.65.0, cmd/cdi-controller); this one takes both as flags.
package main

import (
	"context"
	"crypto/rsa"
	"errors"
	"flag"
	"fmt"
	"net/http"
	"os"
	"path/filepath"

	snapshotv1 "github.com/kubernetes-csi/external-snapshotter/client/v6/apis/volumesnapshot/v1"
	configv1 "github.com/openshift/api/config/v1"
	imagev1 "github.com/openshift/api/image/v1"
	routev1 "github.com/openshift/api/route/v1"
	batchv1 "k8s.io/api/batch/v1"
	corev1 "k8s.io/api/core/v1"
	networkingv1 "k8s.io/api/networking/v1"
	apiextensionsv1 "k8s.io/apiextensions-apiserver/pkg/apis/apiextensions/v1"
	"k8s.io/apimachinery/pkg/fields"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/client-go/kubernetes"
	clientgoscheme "k8s.io/client-go/kubernetes/scheme"
	"k8s.io/klog/v2"
	cdiv1 "kubevirt.io/containerized-data-importer-api/pkg/apis/core/v1beta1"
	forkliftv1 "kubevirt.io/containerized-data-importer-api/pkg/apis/forklift/v1beta1"
	"sigs.k8s.io/controller-runtime/pkg/cache"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/client/config"
	crcontroller "sigs.k8s.io/controller-runtime/pkg/controller"
	logf "sigs.k8s.io/controller-runtime/pkg/log"
	"sigs.k8s.io/controller-runtime/pkg/manager"
	"sigs.k8s.io/controller-runtime/pkg/manager/signals"
	metricsserver "sigs.k8s.io/controller-runtime/pkg/metrics/server"

	"kubevirt.io/containerized-data-importer/pkg/common"
	"kubevirt.io/containerized-data-importer/pkg/controller"
	dvc "kubevirt.io/containerized-data-importer/pkg/controller/datavolume"
	"kubevirt.io/containerized-data-importer/pkg/controller/populators"
	"kubevirt.io/containerized-data-importer/pkg/controller/transfer"
	"kubevirt.io/containerized-data-importer/pkg/keys"
	metrics "kubevirt.io/containerized-data-importer/pkg/monitoring/metrics/cdi-controller"
	"kubevirt.io/containerized-data-importer/pkg/util"
	"kubevirt.io/containerized-data-importer/pkg/util/cert"
	"kubevirt.io/containerized-data-importer/pkg/util/cert/fetcher"
	"kubevirt.io/containerized-data-importer/pkg/util/cert/generator"
)

const (
	// version must be the one required in go.mod: it names the images in the
	// pods that the controllers create.
	version  = "v1.65.0"
	registry = "quay.io/kubevirt"

	importerImage = registry + "/cdi-importer:" + version
	clonerImage   = registry + "/cdi-cloner:" + version
	uploadImage   = registry + "/cdi-uploadserver:" + version
	pullPolicy    = string(corev1.PullIfNotPresent)

	// podVerbosity is the log level passed on to importer and cloner pods.
	podVerbosity = "1"

	// ovirtImage is for imports from oVirt, which nobody starts here.
	ovirtImage = importerImage
)

type options struct {
	keyDir        string
	certDir       string
	metricsAddr   string
	readinessAddr string
}

func main() {
	// --kubeconfig is defined by controller-runtime's config package.
	var o options
	flag.StringVar(&o.keyDir, "key-dir", "", "folder with the signing key: "+keys.KeyStorePrivateKeyFile+" and "+keys.KeyStorePublicKeyFile)
	flag.StringVar(&o.certDir, "cert-dir", "", "folder with cdi-uploadserver-signer and cdi-uploadserver-client-signer, each with tls.crt and tls.key")
	flag.StringVar(&o.metricsAddr, "metrics-bind-address", "0", "address of the metrics endpoint; 0 for none")
	flag.StringVar(&o.readinessAddr, "health-probe-bind-address", "0", "address of /readyz, which succeeds once the caches have synced; 0 for none")
	klog.InitFlags(nil)
	flag.Parse()
	if err := run(o); err != nil {
		fmt.Fprintln(os.Stderr, "cdi-controller:", err)
		os.Exit(1)
	}
}

func run(o options) error {
	logf.SetLogger(klog.NewKlogr())
	config, err := config.GetConfig()
	if err != nil {
		return fmt.Errorf("reading the kubeconfig: %w", err)
	}
	kube, err := kubernetes.NewForConfig(config)
	if err != nil {
		return fmt.Errorf("creating the Kubernetes client: %w", err)
	}
	// The OpenShift types are never found here, but the controllers ask for
	// them to learn that.
	scheme := runtime.NewScheme()
	for _, add := range []func(*runtime.Scheme) error{
		clientgoscheme.AddToScheme, apiextensionsv1.AddToScheme, cdiv1.AddToScheme, forkliftv1.AddToScheme,
		snapshotv1.AddToScheme, configv1.Install, imagev1.Install, routev1.Install,
	} {
		if err := add(scheme); err != nil {
			return fmt.Errorf("registering types: %w", err)
		}
	}
	if err := metrics.SetupMetrics(); err != nil {
		return fmt.Errorf("registering metrics: %w", err)
	}
	// No leader election: there is one process, and the lease of one that was
	// killed would hold up its successor for as long as the lease lasts.
	mgr, err := manager.New(config, manager.Options{
		Scheme:                 scheme,
		Cache:                  cacheOptions(),
		Metrics:                metricsserver.Options{BindAddress: o.metricsAddr},
		HealthProbeBindAddress: o.readinessAddr,
	})
	if err != nil {
		return fmt.Errorf("creating the manager: %w", err)
	}
	if err := mgr.AddReadyzCheck("caches", func(r *http.Request) error {
		if !mgr.GetCache().WaitForCacheSync(r.Context()) {
			return errors.New("caches have not synced")
		}
		return nil
	}); err != nil {
		return fmt.Errorf("adding the readiness check: %w", err)
	}
	ctx := signals.SetupSignalHandler()
	if err := addControllers(ctx, mgr, kube, o); err != nil {
		return fmt.Errorf("adding the controllers: %w", err)
	}
	if err := mgr.Start(ctx); err != nil {
		return fmt.Errorf("running the controllers: %w", err)
	}
	return nil
}

// addControllers adds what CDI's own main package adds, in the same order.
func addControllers(ctx context.Context, mgr manager.Manager, kube kubernetes.Interface, o options) error {
	publicKey, privateKey, err := signingKey(o.keyDir)
	if err != nil {
		return err
	}
	serverCerts, serverBundle := signer(kube, o.certDir, "cdi-uploadserver-signer")
	clientCerts, clientBundle := signer(kube, o.certDir, "cdi-uploadserver-client-signer")
	log := logf.Log.WithName("controller")
	var labels map[string]string // of the installer, of which there is none
	if err := errors.Join(dvc.CreateCommonIndexes(mgr), populators.CreateCommonPopulatorIndexes(mgr)); err != nil {
		return fmt.Errorf("creating indexes: %w", err)
	}
	return errors.Join(
		errorOf(controller.NewConfigController(mgr, log, common.CDIUploadProxyResourceName, common.ConfigName, labels)),
		errorOf(controller.NewStorageProfileController(mgr, log, labels)),

		errorOf(dvc.NewImportController(ctx, mgr, log, labels)),
		errorOf(dvc.NewUploadController(ctx, mgr, log, labels)),
		errorOf(dvc.NewPvcCloneController(ctx, mgr, log, clonerImage, importerImage, pullPolicy, publicKey, privateKey, labels)),
		errorOf(dvc.NewSnapshotCloneController(ctx, mgr, log, clonerImage, importerImage, pullPolicy, publicKey, privateKey, labels)),
		errorOf(dvc.NewPopulatorController(ctx, mgr, log, labels)),

		errorOf(controller.NewImportController(mgr, log, importerImage, pullPolicy, podVerbosity, labels)),
		errorOf(controller.NewCloneController(mgr, log, clonerImage, pullPolicy, podVerbosity, clientCerts, serverBundle, publicKey, labels)),
		errorOf(controller.NewUploadController(mgr, log, uploadImage, pullPolicy, podVerbosity, serverCerts, clientBundle, labels)),
		errorOf(transfer.NewObjectTransferController(mgr, log, labels)),
		errorOf(controller.NewDataImportCronController(mgr, log, importerImage, pullPolicy, labels)),
		errorOf(controller.NewDataSourceController(mgr, log, labels)),

		errorOf(populators.NewImportPopulator(ctx, mgr, log, labels)),
		errorOf(populators.NewUploadPopulator(ctx, mgr, log, labels)),
		errorOf(populators.NewClonePopulator(ctx, mgr, log, clonerImage, pullPolicy, labels, publicKey)),
		errorOf(populators.NewForkliftPopulator(ctx, mgr, log, importerImage, ovirtImage, labels)),
	)
}

func errorOf(_ crcontroller.Controller, err error) error { return err }

// cacheOptions limits the caches of the kinds that CDI only uses in its own
// namespace to that namespace, as CDI does.
func cacheOptions() cache.Options {
	own := cache.ByObject{Field: fields.OneTermEqualSelector("metadata.namespace", util.GetNamespace())}
	return cache.Options{ByObject: map[client.Object]cache.ByObject{
		&networkingv1.Ingress{}: own,
		&batchv1.CronJob{}:      own,
		&batchv1.Job{}:          own,
		&corev1.ConfigMap{}:     own,
		&corev1.Secret{}:        own,
	}}
}

func signer(kube kubernetes.Interface, dir, name string) (generator.CertGenerator, fetcher.CertBundleFetcher) {
	certs := &generator.FetchCertGenerator{Fetcher: &fetcher.FileCertFetcher{
		CertFileName: filepath.Join(dir, name, corev1.TLSCertKey),
		KeyFileName:  filepath.Join(dir, name, corev1.TLSPrivateKeyKey),
	}}
	bundle := &fetcher.ConfigMapCertBundleFetcher{
		Name:   name + "-bundle",
		Client: kube.CoreV1().ConfigMaps(util.GetNamespace()),
	}
	return certs, bundle
}

func signingKey(dir string) (*rsa.PublicKey, *rsa.PrivateKey, error) {
	content, err := os.ReadFile(filepath.Join(dir, keys.KeyStorePublicKeyFile))
	if err != nil {
		return nil, nil, fmt.Errorf("reading the public signing key: %w", err)
	}
	public, err := controller.DecodePublicKey(content)
	if err != nil {
		return nil, nil, fmt.Errorf("decoding the public signing key: %w", err)
	}
	content, err = os.ReadFile(filepath.Join(dir, keys.KeyStorePrivateKeyFile))
	if err != nil {
		return nil, nil, fmt.Errorf("reading the private signing key: %w", err)
	}
	parsed, err := cert.ParsePrivateKeyPEM(content)
	if err != nil {
		return nil, nil, fmt.Errorf("decoding the private signing key: %w", err)
	}
	private, ok := parsed.(*rsa.PrivateKey)
	if !ok {
		return nil, nil, fmt.Errorf("decoding the private signing key: it is a %T", parsed)
	}
	return public, private, nil
}
