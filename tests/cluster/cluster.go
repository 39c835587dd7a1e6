// Package cluster runs a Kubernetes API with the real components this project works with as plain processes on
// loopback: no containers, no images, no privileges. Everything is built from Go modules, once.
//
// A component is one part: a file that says which programs it needs and how it is started, and a line in parts.
package cluster

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"time"

	"k8s.io/client-go/rest"
)

// A part is one component, or a few that only make sense together.
type part struct {
	name     string
	programs []Program
	start    func(ctx context.Context, c *Cluster) error
}

// parts lists what makes up the cluster, in the order of start.
var parts = []part{
	controlPlane,
	definitions,
	controllers,
	node,
	machine,
	scheduler,
	csi,
	cdi,
	kubeVirt,
	objectStore,
	veleroServer,
}

// programsOf lists what a cluster's parts need, each program once.
func programsOf(options Options) []Program {
	var all []Program
	for _, p := range parts {
		if !options.has(p.name) {
			continue
		}
		for _, program := range p.programs {
			program = options.released(program)
			if !slices.Contains(all, program) {
				all = append(all, program)
			}
		}
	}
	return all
}

// Options say how a cluster is started. The zero value is good.
type Options struct {
	// Dir is the cluster's folder: logs, certificates, data. It must be empty or left by an earlier cluster. By default
	// it is a temporary folder, which is removed after a stop without trouble.
	Dir string
	// Progress gets a line for each thing done.
	Progress io.Writer
	// Exec runs the commands sent into containers. By default that is KubeVirt's virt-freezer and nothing else.
	Exec Exec
	// Storage is the folder of what may outlive a cluster: the object store's files, and the CSI driver's volumes and
	// snapshots. A cluster started with the folder of an earlier one finds them there, as on a storage array that both
	// are connected to. By default it is Dir.
	Storage string
	// Without leaves parts out: KubeVirt and CDI are those that can be.
	Without []string
	// Machine makes the one node a real one, in place of those that are played.
	Machine *Machine
	// Releases chooses versions of components, by the folder of their module, such as velero: v1.17.2. See Releases.
	Releases map[string]string
	// APIServer are further arguments of the API server.
	APIServer []string
	// VeleroDefaults lets Velero poll and ask the API server as often as people's does. By default it does so more often.
	VeleroDefaults bool
	// FaultyAPI lets FailAPI come between Velero and the API server.
	FaultyAPI bool
}

// KubeVirt and CDI name the parts that run their processes. Without them, the API server stores their objects as they are,
// so that a test can Load any situation; with them, they live.
const (
	KubeVirt = "KubeVirt"
	CDI      = "CDI"
)

// has says whether the cluster has a part.
func (o Options) has(name string) bool {
	switch name {
	case playedNodes:
		return o.Machine == nil
	case realNode:
		return o.Machine != nil
	}
	return !slices.Contains(o.Without, name)
}

func (o Options) check() error {
	for _, name := range o.Without {
		if name != KubeVirt && name != CDI {
			return fmt.Errorf("a cluster cannot do without %q", name)
		}
	}
	if o.Machine != nil && (len(o.Releases) > 0 || len(o.Without) > 0) {
		return errors.New("a cluster with a machine has all parts, each of its default release")
	}
	return o.checkReleases()
}

// A Cluster is a running cluster.
type Cluster struct {
	Dir        string       // logs are in its folder logs, one file per process
	Kubeconfig string       // path of an administrator's kubeconfig
	RESTConfig *rest.Config // the same for client-go, without throttling
	Guest      Guest        // the guests of all virtual machines; nil if there is no KubeVirt and Options.Exec replaced it
	Importer   *Importer    // plays CDI's pods

	options    Options
	temporary  bool
	unlock     func()
	builder    *builder
	binaries   map[string]string // by program name
	supervisor *supervisor
	authority  *authority
	server     string // address of the API server
	clients    *clients
	store      store
	velero     *process
	faultyAPI  *faultyAPI // nil without Options.FaultyAPI
	ports      []int
	closers    []func() error // what runs inside this program, stopped in reverse order
	stop       sync.Once
	stopErr    error
}

// Start builds what is missing and brings the cluster up. If it fails, everything it started has been stopped.
func Start(ctx context.Context, options Options) (*Cluster, error) {
	if err := options.check(); err != nil {
		return nil, err
	}
	b, err := newBuilder(ctx, options.Progress)
	if err != nil {
		return nil, err
	}
	binaries, err := b.build(ctx, programsOf(options))
	if err != nil {
		return nil, err
	}
	c := &Cluster{options: options, builder: b, binaries: binaries}
	if err := c.prepare(); err != nil {
		return nil, fmt.Errorf("preparing the cluster's folder: %w", err)
	}
	if err := c.startParts(ctx); err != nil {
		c.temporary = false // its logs may explain the failure
		return nil, errors.Join(fmt.Errorf("%w (logs are in %s)", err, c.path("logs")), c.Stop())
	}
	return c, nil
}

func (c *Cluster) startParts(ctx context.Context) error {
	ctx, cancel := c.supervisor.alive(ctx)
	defer cancel()
	for _, p := range parts {
		if !c.options.has(p.name) {
			continue
		}
		started := time.Now()
		err := p.start(ctx, c)
		if died := c.Err(); died != nil {
			err = died // whatever else went wrong did so because of it
		}
		if err != nil {
			return fmt.Errorf("starting the %s: %w", p.name, err)
		}
		c.builder.progress.print("started the %s in %.1f s", p.name, time.Since(started).Seconds())
	}
	return nil
}

// folders are the places a cluster writes to. They are emptied before it starts.
var folders = []string{"logs", "pki", "etcd", "s3", "plugins", "csi", "cdi", "kubevirt", "machine"}

// marker is the file that says a folder belongs to a cluster. A running cluster holds a lock on it.
const marker = ".test-cluster"

// prepare makes an empty folder for the cluster.
func (c *Cluster) prepare() (err error) {
	c.temporary = c.options.Dir == ""
	if c.temporary {
		c.Dir, err = os.MkdirTemp("", "cluster-")
	} else {
		c.Dir, err = claimDir(c.options.Dir)
	}
	if err != nil {
		return err
	}
	c.unlock, err = tryLock(c.path(marker))
	if errors.Is(err, errLocked) {
		return fmt.Errorf("another cluster runs in it: %w", err)
	}
	if err != nil {
		return err
	}
	defer func() {
		if err != nil {
			c.unlock()
		}
	}()
	for _, folder := range folders {
		if err := os.RemoveAll(c.path(folder)); err != nil {
			return err
		}
		if err := os.MkdirAll(c.path(folder), 0o755); err != nil {
			return err
		}
	}
	// Clusters side by side must not share it: Velero keeps credentials there, under names that are always the same. It is
	// not in Dir because sockets are created in it, whose paths must be short.
	temp, err := os.MkdirTemp("", "cluster-tmp-")
	if err != nil {
		return err
	}
	c.supervisor = newSupervisor(c.Dir, temp)
	return nil
}

// claimDir makes sure that emptying folders in dir destroys nothing but an earlier cluster.
func claimDir(dir string) (string, error) {
	dir, err := filepath.Abs(dir)
	if err != nil {
		return "", err
	}
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return "", err
	}
	entries, err := os.ReadDir(dir)
	if err != nil {
		return "", err
	}
	if _, err := os.Stat(filepath.Join(dir, marker)); err != nil && len(entries) > 0 {
		return "", fmt.Errorf("folder %s is neither empty nor a cluster's", dir)
	}
	return dir, nil
}

// path returns a path inside the cluster's folder.
func (c *Cluster) path(elements ...string) string {
	return filepath.Join(append([]string{c.Dir}, elements...)...)
}

// storage returns a path inside the folder of what may outlive the cluster.
func (c *Cluster) storage(elements ...string) string {
	if c.options.Storage == "" {
		return c.path(elements...)
	}
	return filepath.Join(append([]string{c.options.Storage}, elements...)...)
}

// port reserves a free port for as long as the cluster lives.
func (c *Cluster) port() (int, error) {
	port, err := freePort()
	if err == nil {
		c.ports = append(c.ports, port)
	}
	return port, err
}

// Plugin returns the path at which Velero runs a plugin. The name is that of the binary, without folder.
func (c *Cluster) Plugin(name string) string { return c.path("plugins", name) }

// Program returns the path of a program that the cluster was built from, such as velero.
func (c *Cluster) Program(name string) string { return c.binaries[name] }

// Done is closed when a component ended that should not have; Err then says which and why.
func (c *Cluster) Done() <-chan struct{} { return c.supervisor.died }

// Err returns why Done is closed, or nil.
func (c *Cluster) Err() error { return c.supervisor.err() }

// Stop ends all components, the last started first. It always gets to the end, and says what it could not stop.
func (c *Cluster) Stop() error {
	c.stop.Do(func() { c.stopErr = c.stopParts() })
	return c.stopErr
}

func (c *Cluster) stopParts() error {
	var errs []error
	// First: the API server does not exit while somebody watches it.
	for i := len(c.closers) - 1; i >= 0; i-- {
		errs = append(errs, c.closers[i]())
	}
	errs = append(errs, c.supervisor.stopAll())
	for _, port := range c.ports {
		releasePort(port)
	}
	errs = append(errs, os.RemoveAll(c.supervisor.temp))
	c.unlock()
	if err := errors.Join(errs...); err != nil {
		return err
	}
	if c.temporary && c.Err() == nil {
		return os.RemoveAll(c.Dir)
	}
	return nil
}

// Describe lists what runs where.
func (c *Cluster) Describe() string {
	var text strings.Builder
	fmt.Fprintf(&text, "%-26s %s\n%-26s %s\n%-26s %s\n", "Kubernetes API", c.server, "S3, bucket "+bucket, c.store.url, "logs", c.path("logs"))
	for _, p := range c.supervisor.list() {
		fmt.Fprintf(&text, "%-26s process %d\n", p.command.name, p.pid())
	}
	return text.String()
}
