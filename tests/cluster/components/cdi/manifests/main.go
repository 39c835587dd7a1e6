// Command manifests writes the objects that cdi-operator would install, for a
// cluster in which CDI's components run as plain processes and nothing runs
// cdi-operator: CRDs, RBAC, certificates, services, the API registration,
// webhooks and the CDI CR. All but the certificates come from CDI's own
// generators.
//
// The files are numbered in the order in which they are to be applied. The
// webhooks come last, and go first when CDI is taken down: they fail closed.
// What the processes read from files is written below certs/ (one folder for
// each Secret) and keys/. With --crds it prints the CRDs alone.
package main

import (
	"cmp"
	"crypto/rand"
	"crypto/rsa"
	"flag"
	"fmt"
	"io"
	"maps"
	"os"
	"path/filepath"
	"slices"

	admissionv1 "k8s.io/api/admissionregistration/v1"
	corev1 "k8s.io/api/core/v1"
	rbacv1 "k8s.io/api/rbac/v1"
	apiextensionsv1 "k8s.io/apiextensions-apiserver/pkg/apis/apiextensions/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	apiregistrationv1 "k8s.io/kube-aggregator/pkg/apis/apiregistration/v1"
	cdiv1 "kubevirt.io/containerized-data-importer-api/pkg/apis/core/v1beta1"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/yaml"

	"kubevirt.io/containerized-data-importer/pkg/apiserver"
	"kubevirt.io/containerized-data-importer/pkg/controller"
	featuregates "kubevirt.io/containerized-data-importer/pkg/feature-gates"
	"kubevirt.io/containerized-data-importer/pkg/keys"
	"kubevirt.io/containerized-data-importer/pkg/operator/resources"
	"kubevirt.io/containerized-data-importer/pkg/operator/resources/cert"
	"kubevirt.io/containerized-data-importer/pkg/operator/resources/cluster"
	"kubevirt.io/containerized-data-importer/pkg/operator/resources/namespaced"
	certutil "kubevirt.io/containerized-data-importer/pkg/util/cert"
	"kubevirt.io/containerized-data-importer/pkg/util/cert/triple"
)

// namespace is fixed because CDI's processes, when they do not run in a pod,
// take "cdi" for theirs (CDI v1.65.0, pkg/util/util.go).
const namespace = "cdi"

func main() {
	out := flag.String("out", "", "folder to write the manifests, certificates and keys to")
	crds := flag.Bool("crds", false, "print the CRDs and nothing else")
	url := flag.String("webhook-url", "https://127.0.0.1:8443",
		"where cdi-apiserver listens; its certificate is for 127.0.0.1 and localhost")
	flag.Parse()
	if err := run(*out, *crds, *url); err != nil {
		fmt.Fprintln(os.Stderr, "manifests:", err)
		os.Exit(1)
	}
}

func run(out string, crdsOnly bool, url string) error {
	if out == "" && !crdsOnly {
		return fmt.Errorf("one of --out and --crds is needed")
	}
	crds, err := crds()
	if err != nil {
		return err
	}
	if crdsOnly {
		return encode(os.Stdout, crds)
	}
	static, err := cluster.CreateAllStaticResources(&cluster.FactoryArgs{Namespace: namespace})
	if err != nil {
		return fmt.Errorf("generating the cluster's resources: %w", err)
	}
	dynamic, err := cluster.CreateAllDynamicResources(&cluster.FactoryArgs{Namespace: namespace})
	if err != nil {
		return fmt.Errorf("generating the API registrations: %w", err)
	}
	local, err := namespaced.CreateAllResources(&namespaced.FactoryArgs{Namespace: namespace})
	if err != nil {
		return fmt.Errorf("generating the namespace's resources: %w", err)
	}
	if err := os.MkdirAll(out, 0o755); err != nil {
		return fmt.Errorf("creating the output folder: %w", err)
	}
	certificates, caBundle, err := certificates(filepath.Join(out, "certs"))
	if err != nil {
		return fmt.Errorf("minting certificates: %w", err)
	}
	signingKey, err := signingKey(filepath.Join(out, "keys"))
	if err != nil {
		return fmt.Errorf("making the signing key: %w", err)
	}
	for name, objects := range map[string][]client.Object{
		"00-crds.yaml":         crds,
		"10-rbac.yaml":         access(append(static, local...)),
		"20-certificates.yaml": append(certificates, signingKey),
		"30-services.yaml":     services(local),
		"40-apiservices.yaml":  apiServices(dynamic, caBundle),
		"50-webhooks.yaml":     webhooks(dynamic, url, caBundle),
		"cdi.yaml":             {cdi()},
	} {
		if err := writeFile(filepath.Join(out, name), objects); err != nil {
			return err
		}
	}
	return nil
}

func crds() ([]client.Object, error) {
	var objects []client.Object
	for _, name := range slices.Sorted(maps.Keys(resources.CDICRDs)) {
		crd := &apiextensionsv1.CustomResourceDefinition{}
		if err := yaml.Unmarshal([]byte(resources.CDICRDs[name]), crd); err != nil {
			return nil, fmt.Errorf("reading the CRD %s: %w", name, err)
		}
		objects = append(objects, crd)
	}
	return objects, nil
}

// cdi returns the CR. The annotation makes the CR, not the CDIConfig, hold the
// configuration, as it is when cdi-operator has created it; the overhead is
// zero so that a filesystem volume has the size that was asked for.
func cdi() *cdiv1.CDI {
	return &cdiv1.CDI{
		TypeMeta: metav1.TypeMeta{APIVersion: cdiv1.SchemeGroupVersion.String(), Kind: "CDI"},
		ObjectMeta: metav1.ObjectMeta{
			Name:        "cdi",
			Annotations: map[string]string{controller.AnnConfigAuthority: ""},
		},
		Spec: cdiv1.CDISpec{
			Config: &cdiv1.CDIConfigSpec{
				FeatureGates:       []string{featuregates.HonorWaitForFirstConsumer},
				FilesystemOverhead: &cdiv1.FilesystemOverhead{Global: "0"},
			},
		},
	}
}

func access(all []client.Object) []client.Object {
	objects := []client.Object{&corev1.Namespace{
		TypeMeta:   metav1.TypeMeta{APIVersion: "v1", Kind: "Namespace"},
		ObjectMeta: metav1.ObjectMeta{Name: namespace},
	}}
	sortObjects(all)
	for _, o := range all {
		switch o.(type) {
		case *corev1.ServiceAccount, *rbacv1.ClusterRole, *rbacv1.ClusterRoleBinding, *rbacv1.Role, *rbacv1.RoleBinding:
			objects = append(objects, o)
		}
	}
	return objects
}

// services returns CDI's services without selectors: their endpoints are
// processes, not pods, and have to be given in EndpointSlices.
func services(all []client.Object) []client.Object {
	var objects []client.Object
	for _, o := range all {
		if s, ok := o.(*corev1.Service); ok {
			s.Spec.Selector = nil
			objects = append(objects, s)
		}
	}
	sortObjects(objects)
	return objects
}

func apiServices(all []client.Object, caBundle []byte) []client.Object {
	var objects []client.Object
	for _, o := range all {
		if a, ok := o.(*apiregistrationv1.APIService); ok {
			a.Spec.CABundle = caBundle
			objects = append(objects, a)
		}
	}
	return objects
}

// webhooks returns the webhooks that cdi-apiserver serves, with a URL in place
// of the service, so that they work without a service network.
func webhooks(all []client.Object, url string, caBundle []byte) []client.Object {
	toURL := func(c *admissionv1.WebhookClientConfig) {
		target := url
		if c.Service != nil && c.Service.Path != nil {
			target += *c.Service.Path
		}
		*c = admissionv1.WebhookClientConfig{URL: &target, CABundle: caBundle}
	}
	var objects []client.Object
	for _, o := range all {
		switch w := o.(type) {
		case *admissionv1.ValidatingWebhookConfiguration:
			for i := range w.Webhooks {
				toURL(&w.Webhooks[i].ClientConfig)
			}
			objects = append(objects, w)
		case *admissionv1.MutatingWebhookConfiguration:
			for i := range w.Webhooks {
				toURL(&w.Webhooks[i].ClientConfig)
			}
			objects = append(objects, w)
		}
	}
	return objects
}

// certificates mints a certificate for each definition of CDI's operator, writes
// them below dir, and returns the Secrets, the ConfigMaps with the CA bundles,
// and the bundle that vouches for cdi-apiserver.
func certificates(dir string) (objects []client.Object, caBundle []byte, err error) {
	add := func(secret *corev1.Secret, pair *triple.KeyPair) error {
		secret.TypeMeta = metav1.TypeMeta{APIVersion: "v1", Kind: "Secret"}
		secret.Data = map[string][]byte{
			corev1.TLSCertKey:       certutil.EncodeCertPEM(pair.Cert),
			corev1.TLSPrivateKeyKey: certutil.EncodePrivateKeyPEM(pair.Key),
		}
		objects = append(objects, secret)
		return writeData(filepath.Join(dir, secret.Name), secret.Data)
	}
	for _, def := range cert.CreateCertificateDefinitions(&cert.FactoryArgs{Namespace: namespace}) {
		ca, err := triple.NewCA(def.SignerSecret.Name)
		if err != nil {
			return nil, nil, fmt.Errorf("signer %s: %w", def.SignerSecret.Name, err)
		}
		if err := add(def.SignerSecret, ca); err != nil {
			return nil, nil, err
		}
		bundle := certutil.EncodeCertPEM(ca.Cert)
		def.CertBundleConfigmap.TypeMeta = metav1.TypeMeta{APIVersion: "v1", Kind: "ConfigMap"}
		def.CertBundleConfigmap.Data = map[string]string{"ca-bundle.crt": string(bundle)}
		objects = append(objects, def.CertBundleConfigmap)

		var pair *triple.KeyPair
		switch {
		case def.TargetService != nil:
			service := *def.TargetService
			if service == cluster.APIServerServiceName {
				caBundle = bundle
			}
			pair, err = triple.NewServerKeyPair(ca, service, service, namespace, "cluster.local",
				[]string{"127.0.0.1"}, []string{"localhost"})
		case def.TargetUser != nil:
			pair, err = triple.NewClientKeyPair(ca, *def.TargetUser, nil)
		default:
			continue
		}
		if err != nil {
			return nil, nil, fmt.Errorf("certificate %s: %w", def.TargetSecret.Name, err)
		}
		if err := add(def.TargetSecret, pair); err != nil {
			return nil, nil, err
		}
	}
	return objects, caBundle, nil
}

// signingKey makes the key with which clone and upload tokens are signed, writes
// it to dir for cdi-controller, and returns the Secret in which cdi-apiserver
// looks for it. cdi-apiserver would make one, but cdi-controller reads a file
// and would have to wait for it.
func signingKey(dir string) (client.Object, error) {
	key, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		return nil, err
	}
	public, err := certutil.EncodePublicKeyPEM(&key.PublicKey)
	if err != nil {
		return nil, fmt.Errorf("encoding the public key: %w", err)
	}
	secret := &corev1.Secret{
		TypeMeta:   metav1.TypeMeta{APIVersion: "v1", Kind: "Secret"},
		ObjectMeta: metav1.ObjectMeta{Name: apiserver.APISigningKeySecretName, Namespace: namespace},
		Data: map[string][]byte{
			keys.KeyStorePrivateKeyFile: certutil.EncodePrivateKeyPEM(key),
			keys.KeyStorePublicKeyFile:  public,
		},
	}
	return secret, writeData(dir, secret.Data)
}

// sortObjects makes the output the same in every run: CDI keeps its generators
// in a map.
func sortObjects(objects []client.Object) {
	slices.SortStableFunc(objects, func(a, b client.Object) int {
		return cmp.Or(
			cmp.Compare(a.GetObjectKind().GroupVersionKind().Kind, b.GetObjectKind().GroupVersionKind().Kind),
			cmp.Compare(a.GetName(), b.GetName()))
	})
}

func writeData(dir string, data map[string][]byte) error {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return fmt.Errorf("creating a key folder: %w", err)
	}
	for name, content := range data {
		if err := os.WriteFile(filepath.Join(dir, name), content, 0o600); err != nil {
			return fmt.Errorf("writing a key: %w", err)
		}
	}
	return nil
}

// writeFile keeps its result from others: one of the files holds private keys.
func writeFile(path string, objects []client.Object) error {
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

func encode(w io.Writer, objects []client.Object) error {
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
