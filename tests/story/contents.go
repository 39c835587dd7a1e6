package story

import (
	"archive/tar"
	"compress/gzip"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"

	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
)

// contents downloads a backup and returns the items in it, each once.
func (s *Site) contents(ctx context.Context, backup string) (items []*unstructured.Unstructured, err error) {
	dir, err := os.MkdirTemp("", "velero-backup-")
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(dir)) }()
	path := filepath.Join(dir, "backup.tar.gz")
	if _, err := s.Velero(ctx, "backup", "download", backup, "--output", path); err != nil {
		return nil, err
	}
	file, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer file.Close()
	if items, err = readBackup(file); err != nil {
		return nil, fmt.Errorf("reading backup %s: %w", backup, err)
	}
	return items, nil
}

// readBackup returns the items of a backup file. Velero keeps one as resources/RESOURCE.GROUP/namespaces/NS/NAME.json or
// resources/RESOURCE.GROUP/cluster/NAME.json, and a copy of it below its version.
func readBackup(r io.Reader) ([]*unstructured.Unstructured, error) {
	zipped, err := gzip.NewReader(r)
	if err != nil {
		return nil, err
	}
	var items []*unstructured.Unstructured
	for archive := tar.NewReader(zipped); ; {
		header, err := archive.Next()
		if errors.Is(err, io.EOF) {
			return items, nil
		}
		if err != nil {
			return nil, err
		}
		parts := strings.Split(header.Name, "/")
		if len(parts) < 4 || parts[0] != "resources" || (parts[2] != "namespaces" && parts[2] != "cluster") {
			continue
		}
		data, err := io.ReadAll(archive)
		if err != nil {
			return nil, fmt.Errorf("%s: %w", header.Name, err)
		}
		item := &unstructured.Unstructured{}
		if err := item.UnmarshalJSON(data); err != nil {
			return nil, fmt.Errorf("%s: %w", header.Name, err)
		}
		items = append(items, item)
	}
}
