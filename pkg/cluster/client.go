package cluster

import (
	"fmt"

	snapshotv1 "github.com/kubernetes-csi/external-snapshotter/client/v8/apis/volumesnapshot/v1"
	"k8s.io/apimachinery/pkg/runtime"
	clientscheme "k8s.io/client-go/kubernetes/scheme"
	"sigs.k8s.io/controller-runtime/pkg/client"
)

// Client returns a client for Velero's own functions, which take one. It knows the types of Kubernetes and VolumeSnapshots.
func (l *Live) Client() (client.Client, error) {
	scheme := runtime.NewScheme()
	for _, add := range []func(*runtime.Scheme) error{clientscheme.AddToScheme, snapshotv1.AddToScheme} {
		if err := add(scheme); err != nil {
			return nil, fmt.Errorf("making a client for %s: %w", l.config.Host, err)
		}
	}
	c, err := client.New(l.config, client.Options{Scheme: scheme, Mapper: l.mapper})
	if err != nil {
		return nil, fmt.Errorf("making a client for %s: %w", l.config.Host, err)
	}
	return c, nil
}
