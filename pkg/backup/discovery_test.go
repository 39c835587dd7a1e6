package backup

import (
	"errors"
	"testing"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/version"
	clientdiscovery "k8s.io/client-go/discovery"
)

// startingCluster does not say what it serves when it is asked for the first time. It counts how often it is asked.
type startingCluster struct {
	clientdiscovery.AggregatedDiscoveryInterface
	asked int
}

func (c *startingCluster) ServerGroupsAndResources() ([]*metav1.APIGroup, []*metav1.APIResourceList, error) {
	if c.asked++; c.asked == 1 {
		return nil, nil, errors.New("not yet")
	}
	return nil, nil, nil
}

func (*startingCluster) ServerPreferredResources() ([]*metav1.APIResourceList, error) {
	return nil, nil
}

func (*startingCluster) ServerVersion() (*version.Info, error) { return &version.Info{}, nil }

func (*startingCluster) ServerGroups() (*metav1.APIGroupList, error) {
	return &metav1.APIGroupList{}, nil
}

// TestWhatAClusterServesIsAskedUntilItAnswers, and not again.
func TestWhatAClusterServesIsAskedUntilItAnswers(t *testing.T) {
	c := &startingCluster{}
	discover := Discover(c)
	for call, want := range []struct {
		fails bool
		asked int
	}{{true, 1}, {false, 2}, {false, 2}} {
		helper, err := discover()
		if (err != nil) != want.fails || (helper == nil) != want.fails || c.asked != want.asked {
			t.Errorf("call %d: %v, %v, the cluster was asked %d times; want %+v", call+1, helper, err, c.asked, want)
		}
	}
}
