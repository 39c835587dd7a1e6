package cluster

import (
	"context"
	"crypto/rand"
	"errors"
	"net/http"
	"os"
)

// objectStore is an S3 server over plain files: a bucket is a folder, so tests can look at what Velero stored.
var objectStore = part{
	name:     "object store",
	programs: []Program{{Name: "versitygw", Module: "versitygw", Package: "github.com/versity/versitygw/cmd/versitygw"}},
	start:    startObjectStore,
}

// A store is how to reach the object store.
type store struct {
	url, accessKey, secretKey string
	command                   command
	process                   *process
}

// bucket is the one bucket of the object store.
const bucket = "velero"

// BucketDir is the folder that holds the objects of the backup location.
func (c *Cluster) BucketDir() string { return c.storage("s3", "data", bucket) }

func startObjectStore(ctx context.Context, c *Cluster) error {
	metadata := c.storage("s3", "metadata")
	for _, dir := range []string{metadata, c.BucketDir()} {
		if err := os.MkdirAll(dir, 0o755); err != nil {
			return err
		}
	}
	port, err := c.port()
	if err != nil {
		return err
	}
	address := c.address(port)
	c.store.url, c.store.accessKey, c.store.secretKey = "http://"+address, rand.Text(), rand.Text()
	c.store.command = command{
		name:   "versitygw",
		binary: c.binaries["versitygw"],
		args:   []string{"--port", address, "--region", region, "--health", "/health", "posix", "--sidecar", metadata, c.storage("s3", "data")},
		env:    []string{"ROOT_ACCESS_KEY=" + c.store.accessKey, "ROOT_SECRET_KEY=" + c.store.secretKey},
		ready: func(ctx context.Context) error {
			return answersOK(ctx, http.DefaultClient, c.store.url+"/health", "")
		},
	}
	return c.startStore(ctx)
}

func (c *Cluster) startStore(ctx context.Context) (err error) {
	c.store.process, err = c.supervisor.start(ctx, c.store.command)
	return err
}

// WithoutObjectStore takes the object store away, calls do, and brings it back with all it had. It returns when Velero has noticed.
func (c *Cluster) WithoutObjectStore(ctx context.Context, do func() error) error {
	if err := c.supervisor.stop(c.store.process); err != nil {
		return err
	}
	if err := errors.Join(do(), c.startStore(ctx)); err != nil {
		return err
	}
	return c.awaitLocation(ctx)
}

// region is what client and server must agree on; it means nothing here.
const region = "us-east-1"
