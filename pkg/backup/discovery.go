package backup

import (
	"io"
	"sync"

	"github.com/sirupsen/logrus"
	"github.com/vmware-tanzu/velero/pkg/discovery"
	clientdiscovery "k8s.io/client-go/discovery"
)

// A Discovery returns what the cluster serves, as Velero's filters need it.
type Discovery func() (discovery.Helper, error)

// silent is for Velero's own code, which says at length what it does, as it does in the server. It calls it an error that the cluster does not serve a
// resource.
var silent = &logrus.Logger{Out: io.Discard, Formatter: &logrus.TextFormatter{}, Level: logrus.PanicLevel}

// Discover returns a Discovery that asks a cluster, when it is called, until it has an answer.
func Discover(client clientdiscovery.AggregatedDiscoveryInterface) Discovery {
	var mu sync.Mutex
	var known discovery.Helper
	return func() (discovery.Helper, error) {
		mu.Lock()
		defer mu.Unlock()
		if known != nil {
			return known, nil
		}
		helper, err := discovery.NewHelper(client, silent)
		if err == nil {
			known = helper
		}
		return helper, err
	}
}
