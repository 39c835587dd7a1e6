//go:build e2e

package e2e

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/signal"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"

	"velero-plugin-for-kubevirt/tests/cluster"
	"velero-plugin-for-kubevirt/tests/story"
)

// binary is the built plugin.
const binary = "../../bin/velero-plugin-for-kubevirt"

// A world is a cluster of ours that stories happen in: any cluster, and what plays its nodes, guests and CDI's pods. Each
// story leaves it as it found it.
type world struct {
	*cluster.Cluster
	*anyCluster
}

var (
	interrupted, stop = signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	toStop            []*cluster.Cluster
	stopping          sync.Mutex // guards toStop

	// Stories mostly wait. So some are told side by side, each in a world of its own.
	livingWorlds = newWorlds(3, cluster.Options{})
	storedWorlds = newWorlds(1, cluster.Options{Without: []string{cluster.KubeVirt, cluster.CDI}})
)

// worlds are worlds alike, which stories have to themselves one after the other.
type worlds struct {
	options cluster.Options
	idle    chan *begun
}

// A begun world has a world or an error; neither, as long as no story has needed it.
type begun struct {
	*world
	err error
}

func newWorlds(n int, options cluster.Options) *worlds {
	w := &worlds{options, make(chan *begun, n)}
	for range n {
		w.idle <- &begun{}
	}
	return w
}

// enter gives a story a world until it ends.
func (w *worlds) enter(t *testing.T) *world {
	t.Helper()
	b := <-w.idle
	t.Cleanup(func() { w.idle <- b })
	if b.world == nil && b.err == nil {
		b.world, b.err = newWorld(w.options)
	}
	if b.err == nil {
		b.err = b.Err() // a part that died in an earlier story
	}
	if b.err != nil {
		t.Fatal(b.err)
	}
	return b.world
}

// living returns a world in which all controllers run: what is made there lives. The story is told in parallel with others from here on.
func living(t *testing.T) *world {
	t.Helper()
	skipIfForeign(t, "needs our own cluster, whose guests, disks, imports and faults it plays itself")
	t.Parallel()
	storedWorlds.end() // its stories have been told
	return livingWorlds.enter(t)
}

// end stops the one world that nobody needs any more, if it has begun.
func (w *worlds) end() {
	if b := <-w.idle; b.world != nil {
		_ = b.Stop() // stopAll tells
	}
	w.idle <- &begun{}
}

// stored returns the world in which objects of KubeVirt and CDI are only stored, so that any situation can be loaded. Its stories
// are told one after the other, before the others: they would keep those waiting.
func stored(t *testing.T) *world {
	t.Helper()
	skipIfForeign(t, "loads objects that the controllers of a real cluster would change")
	return storedWorlds.enter(t)
}

func skipIfForeign(t *testing.T, why string) {
	t.Helper()
	if foreign {
		t.Skip("not on the cluster of KUBECONFIG: " + why)
	}
}

func newWorld(options cluster.Options) (*world, error) {
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
	return &world{c, &anyCluster{Site: site, config: c.RESTConfig, disks: c, guest: c.Guest, patience: 3, made: map[string]bool{}}}, nil
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
	defer stopping.Unlock()
	var errs []error
	for _, c := range toStop {
		errs = append(errs, c.Err(), c.Stop())
	}
	if err := errors.Join(errs...); err != nil {
		fmt.Fprintln(os.Stderr, err)
		return false
	}
	return true
}
