package snapshot

import (
	"context"
	"errors"
	"fmt"
	"maps"

	"velero-plugin-for-kubevirt/pkg/graph"
	"velero-plugin-for-kubevirt/pkg/kubevirt"
	"velero-plugin-for-kubevirt/pkg/object"
)

// ErrRefused says that the CSI driver does not have a snapshot, or could not say so.
var ErrRefused = errors.New("the CSI driver said")

// A Stored is a snapshot that the storage has, and what it is to be called in the cluster.
type Stored struct {
	Namespace, Name string         // of the VolumeSnapshot
	Content         string         // name of the VolumeSnapshotContent
	Spec            map[string]any // of the VolumeSnapshotContent: driver, source and what else the driver needs
}

// ID returns that of the VolumeSnapshot.
func (s Stored) ID() kubevirt.ID {
	return kubevirt.ID{GroupResource: kubevirt.VolumeSnapshots, Namespace: s.Namespace, Name: s.Name}
}

func (s Stored) contentID() kubevirt.ID {
	return kubevirt.ID{GroupResource: kubevirt.VolumeSnapshotContents, Name: s.Content}
}

// Adopt makes VolumeSnapshots of snapshots that the storage has, all or none, once the driver has said of each that it has it. They are not deleted on
// the storage with their objects: others may name them, too.
func Adopt(ctx context.Context, cluster Cluster, snapshots []Stored) error {
	err := adoptContents(ctx, cluster, snapshots)
	for _, s := range snapshots {
		if err == nil {
			_, err = cluster.Create(ctx, s.ID(), s.object())
		}
	}
	if err == nil {
		return nil
	}
	// What cannot be finished is not left behind; ctx may be over.
	ctx = context.WithoutCancel(ctx)
	for _, s := range snapshots {
		err = errors.Join(err, cluster.Delete(ctx, s.ID()), cluster.Delete(ctx, s.contentID()))
	}
	return err
}

func adoptContents(ctx context.Context, cluster Cluster, snapshots []Stored) error {
	for _, s := range snapshots {
		if _, err := cluster.Create(ctx, s.contentID(), s.content()); err != nil {
			return err
		}
	}
	for _, s := range snapshots {
		if err := awaitContent(ctx, cluster, s.Content, isReady); err != nil {
			return fmt.Errorf("waiting for the snapshot of VolumeSnapshot %s/%s: %w", s.Namespace, s.Name, err)
		}
	}
	return nil
}

func awaitContent(ctx context.Context, cluster Cluster, name string, done func(map[string]any) (bool, error)) error {
	ctx, end := context.WithCancel(ctx)
	defer end()
	one := graph.Query{GroupResource: kubevirt.VolumeSnapshotContents, Fields: "metadata.name=" + name}
	return NewWatch(ctx, cluster, one, func(map[string]any) {}).Await(ctx, name, done)
}

// isReady tells whether the driver has a snapshot; its error is taken at its first word.
func isReady(content map[string]any) (bool, error) {
	message, err := object.String(content, "status.error.message")
	if err == nil && message != "" {
		err = fmt.Errorf("%w: %s", ErrRefused, message)
	}
	if err != nil {
		return false, err
	}
	status, err := object.Map(content, "status")
	return status["readyToUse"] == true, err
}

func (s Stored) content() map[string]any {
	spec := maps.Clone(s.Spec)
	spec["deletionPolicy"] = "Retain"
	spec["volumeSnapshotRef"] = map[string]any{"apiVersion": apiVersion, "kind": "VolumeSnapshot", "namespace": s.Namespace, "name": s.Name}
	return map[string]any{"apiVersion": apiVersion, "kind": "VolumeSnapshotContent", "metadata": map[string]any{"name": s.Content}, "spec": spec}
}

func (s Stored) object() map[string]any {
	return map[string]any{
		"apiVersion": apiVersion, "kind": "VolumeSnapshot",
		"metadata": map[string]any{"namespace": s.Namespace, "name": s.Name},
		"spec":     map[string]any{"source": map[string]any{"volumeSnapshotContentName": s.Content}},
	}
}
