// Command manifests writes the objects that virt-operator would install, for a
// cluster in which KubeVirt's components run as plain processes and nothing
// runs virt-operator: CRDs, RBAC, certificates, services, API registrations,
// webhooks, and the KubeVirt CR with its status. Everything comes from
// KubeVirt's own generators, so that names, rules and certificate subjects are
// those of a real installation.
//
// The files are numbered in the order in which they are to be applied; the
// certificates are also written as PEM files below certs/, one folder for each
// Secret. With --crds it prints the CRDs alone.
package main

import (
	"crypto/tls"
	"flag"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"runtime"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	kubevirtv1 "kubevirt.io/api/core/v1"
	"kubevirt.io/client-go/log"
	"sigs.k8s.io/yaml"

	"kubevirt.io/kubevirt/pkg/certificates/triple/cert"
	"kubevirt.io/kubevirt/pkg/virt-operator/resource/generate/components"
	"kubevirt.io/kubevirt/pkg/virt-operator/resource/generate/install"
	"kubevirt.io/kubevirt/pkg/virt-operator/resource/generate/rbac"
	operatorutil "kubevirt.io/kubevirt/pkg/virt-operator/util"
)

// version is KubeVirt's: it names the images in the CR and in the pods that
// virt-controller creates. The linker sets it.
var version string

const (
	registry = "quay.io/kubevirt"

	// namespace is fixed because KubeVirt's processes, when they do not run
	// in a pod, take "kubevirt" for theirs (client-go util.GetNamespace).
	namespace = "kubevirt"

	// certificateLifetime only has to outlive a test cluster; nothing rotates
	// the certificates here.
	certificateLifetime = 365 * 24 * time.Hour
)

// featureGates turns on everything a VirtualMachine can carry that a backup has
// to cope with. HotplugVolumes is left out on purpose: with it and
// DeclarativeHotplugVolumes both on, edits of a VM's volumes have no effect
// (KubeVirt v1.8.4, pkg/virt-controller/watch/vm/vm.go).
var featureGates = []string{
	"Snapshot", "DeclarativeHotplugVolumes", "VMExport", "ExpandDisks",
	"VMPersistentState", "HostDisk", "UtilityVolumes", "IncrementalBackup",
	"DecentralizedLiveMigration", "Sidecar", "DownwardMetrics", "ObjectGraph",
}

func main() {
	out := flag.String("out", "", "folder to write the manifests and certificates to")
	crds := flag.Bool("crds", false, "print the CRDs and nothing else")
	stateClass := flag.String("vm-state-storage-class", "",
		"StorageClass for the state of persistent TPMs and EFI; empty means the default class")
	port := flag.Int("virt-api-port", 0, "port of 127.0.0.1 on which virt-api serves")
	flag.Parse()
	if err := run(*out, *crds, *stateClass, int32(*port)); err != nil {
		fmt.Fprintln(os.Stderr, "manifests:", err)
		os.Exit(1)
	}
}

func run(out string, crdsOnly bool, stateClass string, port int32) error {
	if !crdsOnly && (out == "" || port == 0) {
		return fmt.Errorf("either --crds, or --out and --virt-api-port are needed")
	}
	// The generators complain about settings that a plain installation leaves
	// out as well: a monitoring account and a synchronization port.
	log.Log.SetIOWriter(io.Discard)

	if err := setVersion(); err != nil {
		return err
	}
	kv := kubeVirt(stateClass)
	config := operatorutil.GetTargetConfigFromKV(kv)
	strategy, err := install.GenerateCurrentInstallStrategy(config, "", namespace)
	if err != nil {
		return fmt.Errorf("generating the install strategy: %w", err)
	}
	kubeVirtCRD, err := components.NewKubeVirtCrd()
	if err != nil {
		return fmt.Errorf("generating the KubeVirt CRD: %w", err)
	}
	crds := add([]any{kubeVirtCRD}, strategy.CRDs())
	if crdsOnly {
		return encode(os.Stdout, crds)
	}

	if err := os.MkdirAll(out, 0o755); err != nil {
		return fmt.Errorf("creating the output folder: %w", err)
	}
	certificates, caBundle, err := certificates(filepath.Join(out, "certs"))
	if err != nil {
		return fmt.Errorf("minting certificates: %w", err)
	}
	status, err := status(kv, config)
	if err != nil {
		return err
	}
	for name, objects := range map[string][]any{
		"00-crds.yaml":         crds,
		"10-rbac.yaml":         access(strategy),
		"15-policies.yaml":     policies(strategy),
		"20-certificates.yaml": certificates,
		"30-services.yaml":     services(strategy),
		"40-apiservices.yaml":  apiServices(strategy, caBundle, port),
		"50-webhooks.yaml":     webhooks(strategy, caBundle, port),
		"90-virt-handler.yaml": virtHandler(strategy),
		"kubevirt.yaml":        {kv},
		"kubevirt-status.yaml": {map[string]any{"status": status}},
	} {
		if err := writeFile(filepath.Join(out, name), objects); err != nil {
			return err
		}
	}
	return nil
}

// setVersion sets what virt-operator learns its version and its registry from
// (KubeVirt v1.8.4, pkg/virt-operator/util/config.go).
func setVersion() error {
	for name, value := range map[string]string{
		operatorutil.VirtOperatorImageEnvName: registry + "/virt-operator:" + version,
		operatorutil.KubeVirtVersionEnvName:   version,
	} {
		if err := os.Setenv(name, value); err != nil {
			return fmt.Errorf("setting %s: %w", name, err)
		}
	}
	return nil
}

// kubeVirt returns the CR. useEmulation keeps launcher pods from asking for
// /dev/kvm.
func kubeVirt(stateClass string) *kubevirtv1.KubeVirt {
	rollout := kubevirtv1.VMRolloutStrategyLiveUpdate
	eviction := kubevirtv1.EvictionStrategyNone
	return &kubevirtv1.KubeVirt{
		TypeMeta:   metav1.TypeMeta{APIVersion: kubevirtv1.GroupVersion.String(), Kind: "KubeVirt"},
		ObjectMeta: metav1.ObjectMeta{Name: "kubevirt", Namespace: namespace},
		Spec: kubevirtv1.KubeVirtSpec{
			ImageRegistry:   registry,
			ImageTag:        version,
			ImagePullPolicy: corev1.PullIfNotPresent,
			Configuration: kubevirtv1.KubeVirtConfiguration{
				DeveloperConfiguration: &kubevirtv1.DeveloperConfiguration{
					UseEmulation: true,
					FeatureGates: featureGates,
				},
				VMRolloutStrategy:   &rollout,
				EvictionStrategy:    &eviction,
				VMStateStorageClass: stateClass,
			},
		},
	}
}

// status returns what virt-operator writes when it is done, as far as it has an
// effect: without a phase the components ignore the whole configuration,
// without defaultArchitecture every VMI is refused, and the workload updater
// waits until the observed deployment is the target.
func status(kv *kubevirtv1.KubeVirt, config *operatorutil.KubeVirtDeploymentConfig) (*kubevirtv1.KubeVirtStatus, error) {
	kv = kv.DeepCopy()
	if err := config.SetTargetDeploymentConfig(kv); err != nil {
		return nil, fmt.Errorf("setting the target deployment: %w", err)
	}
	if err := config.SetObservedDeploymentConfig(kv); err != nil {
		return nil, fmt.Errorf("setting the observed deployment: %w", err)
	}
	kv.Status.DefaultArchitecture = runtime.GOARCH
	kv.Status.Phase = kubevirtv1.KubeVirtPhaseDeployed
	return &kv.Status, nil
}

func access(s *install.Strategy) []any {
	objects := []any{
		&corev1.Namespace{
			TypeMeta: metav1.TypeMeta{APIVersion: "v1", Kind: "Namespace"},
			ObjectMeta: metav1.ObjectMeta{Name: namespace, Labels: map[string]string{
				"kubevirt.io":                        "",
				"pod-security.kubernetes.io/enforce": "privileged",
			}},
		},
		components.NewKubeVirtPriorityClassCR(),
	}
	objects = add(objects, rbac.GetAllOperator(namespace))
	objects = add(objects, s.ServiceAccounts())
	objects = add(objects, s.ClusterRoles())
	objects = add(objects, s.ClusterRoleBindings())
	objects = add(objects, s.Roles())
	return add(objects, s.RoleBindings())
}

// policies returns what keeps a virt-handler to its own node. KubeVirt v1.8.4
// generates the objects with the apiVersion "v1".
func policies(s *install.Strategy) []any {
	const apiVersion = "admissionregistration.k8s.io/v1"
	for _, p := range s.ValidatingAdmissionPolicies() {
		p.APIVersion = apiVersion
	}
	for _, b := range s.ValidatingAdmissionPolicyBindings() {
		b.APIVersion = apiVersion
	}
	return add(add(nil, s.ValidatingAdmissionPolicies()), s.ValidatingAdmissionPolicyBindings())
}

// services returns KubeVirt's services without selectors: what they stand for
// are processes, not pods. The one of virt-api leads to this machine, by its
// name: a loopback address is allowed in no EndpointSlice. The API server
// follows such a service unless it runs with --enable-aggregator-routing
// (Kubernetes v1.36.3, staging/src/k8s.io/apiserver/pkg/util/proxy), and takes
// the port from whoever refers to the service.
func services(s *install.Strategy) []any {
	for _, service := range s.Services() {
		service.Spec.Selector = nil
		if service.Name == components.VirtApiServiceName {
			service.Spec = corev1.ServiceSpec{Type: corev1.ServiceTypeExternalName, ExternalName: "127.0.0.1"}
		}
	}
	return add(nil, s.Services())
}

func apiServices(s *install.Strategy, caBundle []byte, port int32) []any {
	for _, a := range s.APIServices() {
		a.Spec.CABundle = caBundle
		a.Spec.Service.Port = &port
	}
	return add(nil, s.APIServices())
}

// webhooks returns the webhooks that virt-api serves. Those of virt-operator are
// left out: nobody would answer them, and they guard the KubeVirt CR.
func webhooks(s *install.Strategy, caBundle []byte, port int32) []any {
	var objects []any
	for _, c := range s.ValidatingWebhookConfigurations() {
		if c.Name == components.KubeVirtOperatorValidatingWebhookName {
			continue
		}
		for i := range c.Webhooks {
			c.Webhooks[i].ClientConfig.CABundle = caBundle
			c.Webhooks[i].ClientConfig.Service.Port = &port
		}
		objects = append(objects, c)
	}
	for _, c := range s.MutatingWebhookConfigurations() {
		for i := range c.Webhooks {
			c.Webhooks[i].ClientConfig.CABundle = caBundle
			c.Webhooks[i].ClientConfig.Service.Port = &port
		}
		objects = append(objects, c)
	}
	return objects
}

// virtHandler returns the DaemonSet, for nodes that run nothing: its pods are
// how virt-api finds the address of a node's virt-handler, which has to be the
// node's own.
func virtHandler(s *install.Strategy) []any {
	for _, d := range s.DaemonSets() {
		d.Spec.Template.Spec.HostNetwork = true
	}
	return add(nil, s.DaemonSets())
}

// certificates mints every certificate of an installation, writes them below
// dir, and returns the Secrets, the ConfigMaps with the CA bundles, and the
// bundle that vouches for virt-api.
func certificates(dir string) (objects []any, caBundle []byte, err error) {
	lifetime := &metav1.Duration{Duration: certificateLifetime}
	cas := map[string]*tls.Certificate{}
	mint := func(secret *corev1.Secret, ca *tls.Certificate) error {
		if err := components.PopulateSecretWithCertificate(secret, ca, lifetime); err != nil {
			return fmt.Errorf("secret %s: %w", secret.Name, err)
		}
		objects = append(objects, secret)
		return writeData(filepath.Join(dir, secret.Name), secret.Data)
	}
	for _, secret := range components.NewCACertSecrets(namespace) {
		if err := mint(secret, nil); err != nil {
			return nil, nil, err
		}
		if cas[secret.Name], err = components.LoadCertificates(secret); err != nil {
			return nil, nil, fmt.Errorf("reading back the CA %s: %w", secret.Name, err)
		}
	}
	for _, secret := range components.NewCertSecrets(namespace, namespace) {
		if err := mint(secret, cas[components.KubeVirtCASecretName]); err != nil {
			return nil, nil, err
		}
	}
	for _, bundle := range components.NewCAConfigMaps(namespace) {
		// A CA's Secret and the ConfigMap with its bundle share a name. One
		// ConfigMap has no such Secret: it is for an administrator to fill.
		if ca := cas[bundle.Name]; ca != nil {
			bundle.Data = map[string]string{components.CABundleKey: string(cert.EncodeCertPEM(ca.Leaf))}
		}
		objects = append(objects, bundle)
	}
	return objects, cert.EncodeCertPEM(cas[components.KubeVirtCASecretName].Leaf), nil
}

func writeData(dir string, data map[string][]byte) error {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return fmt.Errorf("creating a certificate folder: %w", err)
	}
	for name, content := range data {
		if err := os.WriteFile(filepath.Join(dir, name), content, 0o600); err != nil {
			return fmt.Errorf("writing a certificate: %w", err)
		}
	}
	return nil
}

// writeFile keeps its result from others: one of the files holds private keys.
func writeFile(path string, objects []any) error {
	f, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_TRUNC, 0o600)
	if err != nil {
		return fmt.Errorf("creating a manifest: %w", err)
	}
	if err := encode(f, objects); err != nil {
		f.Close()
		return fmt.Errorf("writing %s: %w", path, err)
	}
	if err := f.Close(); err != nil {
		return fmt.Errorf("writing %s: %w", path, err)
	}
	return nil
}

func encode(w io.Writer, objects []any) error {
	for _, o := range objects {
		text, err := yaml.Marshal(o)
		if err != nil {
			return fmt.Errorf("encoding a %T: %w", o, err)
		}
		if _, err := fmt.Fprintf(w, "---\n%s", text); err != nil {
			return err
		}
	}
	return nil
}

func add[T any](objects []any, more []T) []any {
	for _, o := range more {
		objects = append(objects, o)
	}
	return objects
}
