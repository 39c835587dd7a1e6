//go:build e2e

package e2e

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/signal"
	"slices"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"

	"velero-plugin-for-kubevirt/tests/cluster"
	"velero-plugin-for-kubevirt/tests/story"
)

// binary is the built plugin.
const binary = "../../bin/velero-plugin-for-kubevirt"

// A testCluster is a cluster that the tests started: any cluster, and what plays its nodes, guests and CDI's pods. Each story
// leaves it as it found it.
type testCluster struct {
	*cluster.Cluster
	*anyCluster
}

var (
	interrupted, stop = signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	toStop            []*cluster.Cluster
	stopping          sync.Mutex // guards toStop

	// Stories mostly wait. So some run side by side, each on a cluster of its own.
	kubevirtClusters = newClusterPool(3, cluster.Options{})
	plainClusters    = newClusterPool(1, cluster.Options{Without: []string{cluster.KubeVirt, cluster.CDI}})
)

// A clusterPool has clusters of one kind. A story has one to itself; the next story gets it afterwards.
type clusterPool struct {
	options cluster.Options
	idle    chan *poolSlot
}

// A poolSlot has a cluster or an error; neither, as long as no story has needed it.
type poolSlot struct {
	*testCluster
	err error
}

func newClusterPool(n int, options cluster.Options) *clusterPool {
	w := &clusterPool{options, make(chan *poolSlot, n)}
	for range n {
		w.idle <- &poolSlot{}
	}
	return w
}

// take gives a story a cluster until the story ends.
func (w *clusterPool) take(t *testing.T) *testCluster {
	t.Helper()
	b := <-w.idle
	t.Cleanup(func() { w.idle <- b })
	if b.testCluster == nil && b.err == nil {
		b.testCluster, b.err = startCluster(w.options)
	}
	if b.err == nil {
		b.err = b.Err() // a part that died in an earlier story
	}
	if b.err != nil {
		t.Fatal(b.err)
	}
	return b.testCluster
}

// kubevirtCluster returns a cluster on which KubeVirt and CDI run. From here on the story runs in parallel with others.
func kubevirtCluster(t *testing.T) *testCluster {
	t.Helper()
	skipIfForeign(t, "needs our own cluster, whose guests, disks, imports and faults it plays itself")
	t.Parallel()
	if err := plainClusters.end(); err != nil { // its stories are over
		t.Error(err)
	}
	return kubevirtClusters.take(t)
}

// end stops the one cluster of a pool that nobody needs any more, if it was started.
func (w *clusterPool) end() (err error) {
	if b := <-w.idle; b.testCluster != nil {
		err = finish(b.Cluster)
	}
	w.idle <- &poolSlot{}
	return err
}

// plainCluster returns the cluster without controllers of KubeVirt and CDI: their objects are only stored, so that any situation can be loaded. Its stories
// run one after the other, before all others.
func plainCluster(t *testing.T) *testCluster {
	t.Helper()
	skipIfForeign(t, "loads objects that the controllers of a real cluster would change")
	return plainClusters.take(t)
}

func skipIfForeign(t *testing.T, why string) {
	t.Helper()
	if foreign {
		t.Skip("not on the cluster of KUBECONFIG: " + why)
	}
}

func startCluster(options cluster.Options) (*testCluster, error) {
	options.Progress = os.Stderr
	var err error
	// make matrix sets it, to text such as velero=v1.17.2,kubevirt=v1.7.0.
	if options.Releases, err = cluster.ParseReleases(os.Getenv("CLUSTER_RELEASES")); err != nil {
		return nil, err
	}
	c, err := cluster.Start(interrupted, options)
	if err != nil {
		return nil, err
	}
	stopping.Lock()
	toStop = append(toStop, c)
	stopping.Unlock()
	if err := c.InstallPlugin(interrupted, binary); err != nil {
		return nil, err
	}
	site, err := story.NewSite(c.RESTConfig, cluster.VeleroNamespace, c.Velero)
	if err != nil {
		return nil, err
	}
	go endWith(c)
	if c.Importer != nil {
		c.Importer.Serve(goldenURL, []byte(golden))
	}
	return &testCluster{c, &anyCluster{Site: site, config: c.RESTConfig, disks: c, guest: c.Guest, patience: 3, made: map[string]bool{}}}, nil
}

// endWith ends the stories when a part of the cluster dies or somebody interrupts: they would only wait for what cannot
// come any more.
func endWith(c *cluster.Cluster) {
	select {
	case <-c.Done():
	case <-interrupted.Done():
	}
	if ending.CompareAndSwap(false, true) {
		fmt.Fprintln(os.Stderr, "FAIL: the stories end here:", errors.Join(c.Err(), interrupted.Err()))
		stopAll()
		os.Exit(1)
	}
}

// ending is set when the stories are over, and processes end because they are told to.
var ending atomic.Bool

func TestMain(m *testing.M) {
	code := m.Run()
	if !ending.CompareAndSwap(false, true) {
		select {} // endWith exits
	}
	if !stopAll() {
		code = 1
	}
	stop()
	os.Exit(code)
}

// stopAll stops every cluster and tells whether all went well.
func stopAll() bool {
	stopping.Lock()
	clusters := slices.Clone(toStop)
	stopping.Unlock()
	var errs []error
	for _, c := range clusters {
		errs = append(errs, finish(c))
	}
	if err := errors.Join(errs...); err != nil {
		fmt.Fprintln(os.Stderr, err)
		return false
	}
	return true
}

// finish stops a cluster, unless that was done, and fails when the plugin has asked it for more than its ClusterRole grants.
func finish(c *cluster.Cluster) error {
	stopping.Lock()
	defer stopping.Unlock()
	n := slices.Index(toStop, c)
	if n < 0 {
		return nil
	}
	toStop = slices.Delete(toStop, n, n+1)
	return errors.Join(c.Err(), c.CheckRole("../../pkg/cluster/clusterrole.yaml"), c.Stop())
}
