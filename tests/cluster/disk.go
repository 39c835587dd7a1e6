package cluster

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"time"

	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
)

// Bytes returns the path of the file that holds the bytes of a claim's volume, as soon as the claim is bound.
func (c *Cluster) Bytes(ctx context.Context, namespace, claim string) (string, error) {
	pvc := object("v1", "PersistentVolumeClaim", namespace, claim)
	if err := c.clients.await(ctx, pvc, "bound", 30*time.Second, func(live *unstructured.Unstructured) bool {
		pvc = live
		return nestedString(live, "status", "phase") == "Bound"
	}); err != nil {
		return "", err
	}
	volume, err := c.clients.get(ctx, object("v1", "PersistentVolume", "", nestedString(pvc, "spec", "volumeName")))
	if err != nil {
		return "", err
	}
	path := nestedString(volume, "spec", "csi", "volumeAttributes", "path")
	if path == "" {
		return "", fmt.Errorf("%s is not a volume of the driver %s", describe(volume), CSIDriver)
	}
	return path, nil
}

// SnapshotBytes returns the path of the file that holds the bytes of a CSI snapshot, by its handle.
func (c *Cluster) SnapshotBytes(handle string) string {
	return c.storage("csi", "snapshots", handle, "files", "disk.img")
}

// SnapshotTook returns how long the CSI driver needed for a snapshot, by its handle.
func (c *Cluster) SnapshotTook(handle string) (time.Duration, error) {
	content, err := os.ReadFile(c.storage("csi", "snapshots", handle, "item.json"))
	if err != nil {
		return 0, fmt.Errorf("reading of a snapshot: %w", err)
	}
	var item struct{ Took time.Duration }
	if err := json.Unmarshal(content, &item); err != nil {
		return 0, fmt.Errorf("reading of snapshot %s: %w", handle, err)
	}
	return item.Took, nil
}

// ReadText returns the text that the bytes of a claim's volume begin with, up to the first zero.
func (c *Cluster) ReadText(ctx context.Context, namespace, claim string) (string, error) {
	path, err := c.Bytes(ctx, namespace, claim)
	if err != nil {
		return "", err
	}
	file, err := os.Open(path)
	if err != nil {
		return "", fmt.Errorf("reading a volume: %w", err)
	}
	defer file.Close()
	begin, err := io.ReadAll(io.LimitReader(file, 4096))
	if err != nil {
		return "", fmt.Errorf("reading a volume: %w", err)
	}
	text, _, _ := bytes.Cut(begin, []byte{0})
	return string(text), nil
}

// WriteText writes a text and a zero to where the bytes of a claim's volume begin, as its guest would.
func (c *Cluster) WriteText(ctx context.Context, namespace, claim, text string) (err error) {
	path, err := c.Bytes(ctx, namespace, claim)
	if err != nil {
		return err
	}
	file, err := os.OpenFile(path, os.O_WRONLY, 0)
	if err != nil {
		return fmt.Errorf("writing to a volume: %w", err)
	}
	defer func() { err = errors.Join(err, file.Close()) }()
	if _, err := file.WriteAt(append([]byte(text), 0), 0); err != nil {
		return fmt.Errorf("writing to a volume: %w", err)
	}
	return nil
}
