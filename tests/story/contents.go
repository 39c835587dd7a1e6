package story

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"

	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"

	"velero-plugin-for-kubevirt/pkg/cluster"
)

// contents downloads a backup and returns the items in it.
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
	memory, err := cluster.ReadBackup(file)
	if err != nil {
		return nil, fmt.Errorf("reading backup %s: %w", backup, err)
	}
	for _, objects := range memory {
		items = append(items, objects...)
	}
	return items, nil
}

// SnapshotHandles returns the handles of the CSI snapshots in a backup of one namespace, by claim. It is an error when a snapshot has none.
func (r *BackupReport) SnapshotHandles() (map[string]string, error) {
	bySnapshot := map[string]string{}
	for _, item := range r.Items {
		if item.GetKind() == "VolumeSnapshotContent" {
			snapshot, _, _ := unstructured.NestedString(item.Object, "spec", "volumeSnapshotRef", "name")
			bySnapshot[snapshot], _, _ = unstructured.NestedString(item.Object, "status", "snapshotHandle")
		}
	}
	handles := map[string]string{}
	for _, item := range r.Items {
		if item.GetKind() != "VolumeSnapshot" {
			continue
		}
		claim, _, _ := unstructured.NestedString(item.Object, "spec", "source", "persistentVolumeClaimName")
		handles[claim] = bySnapshot[item.GetName()]
		if handles[claim] == "" {
			return nil, fmt.Errorf("backup %s has VolumeSnapshot %s/%s without handle", r.Name, item.GetNamespace(), item.GetName())
		}
	}
	return handles, nil
}
