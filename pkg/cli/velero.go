package cli

import (
	"context"
	"fmt"
	"strings"

	"github.com/spf13/pflag"
	velerov1 "github.com/vmware-tanzu/velero/pkg/apis/velero/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/meta"
	"k8s.io/apimachinery/pkg/runtime"
	clientscheme "k8s.io/client-go/kubernetes/scheme"
	"k8s.io/client-go/rest"
	"sigs.k8s.io/controller-runtime/pkg/client"
)

// A veleroClient reads the objects of Velero, and those of Kubernetes that Velero runs as.
type veleroClient struct {
	client.Client
	namespace string // that Velero runs in
}

func veleroNamespaceFlag(flags *pflag.FlagSet) *string {
	return flags.String("velero-namespace", "velero", "the namespace that Velero runs in")
}

func newVeleroClient(config *rest.Config, namespace string) (*veleroClient, error) {
	scheme := runtime.NewScheme()
	for _, add := range []func(*runtime.Scheme) error{clientscheme.AddToScheme, velerov1.AddToScheme} {
		if err := add(scheme); err != nil {
			return nil, fmt.Errorf("making a client for %s: %w", config.Host, err)
		}
	}
	c, err := client.New(config, client.Options{Scheme: scheme})
	if err != nil {
		return nil, fmt.Errorf("making a client for %s: %w", config.Host, err)
	}
	return &veleroClient{c, namespace}, nil
}

// read reads an object of Velero's namespace. An error says what a person can do.
func (v *veleroClient) read(ctx context.Context, kind, name string, obj client.Object) error {
	err := v.Get(ctx, client.ObjectKey{Namespace: v.namespace, Name: name}, obj)
	switch {
	case err == nil:
		return nil
	case meta.IsNoMatchError(err):
		return errNoVelero
	case apierrors.IsNotFound(err):
		return fmt.Errorf("%s %s/%s: not found: \"velero %s get --namespace %s\" lists those that there are", kind, v.namespace, name, strings.ToLower(kind), v.namespace)
	}
	return fmt.Errorf("reading %s %s/%s: %w", kind, v.namespace, name, err)
}
