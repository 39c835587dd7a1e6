package main

import (
	"context"
	"errors"
	"maps"
	"slices"
	"time"

	"github.com/container-storage-interface/spec/lib/go/csi"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/types/known/timestamppb"
)

// CreateSnapshot copies a volume.
func (d *driver) CreateSnapshot(_ context.Context, r *csi.CreateSnapshotRequest) (*csi.CreateSnapshotResponse, error) {
	if r.GetName() == "" || r.GetSourceVolumeId() == "" {
		return nil, status.Error(codes.InvalidArgument, "name and source volume are needed")
	}
	d.store.Lock()
	defer d.store.Unlock()
	snapshot, err := d.snapshot(r.GetName(), r.GetSourceVolumeId(), "")
	if err != nil {
		return nil, err
	}
	message, err := d.snapshotMessage(snapshot)
	if err != nil {
		return nil, err
	}
	return &csi.CreateSnapshotResponse{Snapshot: message}, nil
}

// snapshot returns the snapshot of that name, taking it if it is not there.
func (d *driver) snapshot(name, volumeID, group string) (*item, error) {
	id := identify("snap", name)
	existing, err := d.store.get(snapshots, id)
	switch {
	case err != nil:
		return nil, internal(err)
	case existing != nil && existing.Source != volumeID:
		return nil, status.Errorf(codes.AlreadyExists, "snapshot %s exists, of another volume", name)
	case existing != nil:
		return existing, nil
	}
	volume, err := d.find(volumes, volumeID)
	if err != nil {
		return nil, err
	}
	snapshot := &item{ID: id, Source: volumeID, Group: group, Size: volume.Size, Created: time.Now()}
	if err := d.store.add(snapshots, snapshot, d.store.disk(volumes, volumeID)); err != nil {
		return nil, internal(err)
	}
	return snapshot, nil
}

func (d *driver) snapshotMessage(snapshot *item) (*csi.Snapshot, error) {
	current, err := d.faults.read()
	if err != nil {
		return nil, internal(err)
	}
	return &csi.Snapshot{
		SnapshotId: snapshot.ID, SourceVolumeId: snapshot.Source, GroupSnapshotId: snapshot.Group,
		SizeBytes: snapshot.Size, CreationTime: timestamppb.New(snapshot.Created),
		ReadyToUse: time.Since(snapshot.Created) >= current.SnapshotDelay,
	}, nil
}

// DeleteSnapshot deletes a snapshot, also one taken in a group.
func (d *driver) DeleteSnapshot(_ context.Context, r *csi.DeleteSnapshotRequest) (*csi.DeleteSnapshotResponse, error) {
	if r.GetSnapshotId() == "" {
		return nil, status.Error(codes.InvalidArgument, "the snapshot's id is needed")
	}
	d.store.Lock()
	defer d.store.Unlock()
	if err := d.store.remove(snapshots, r.GetSnapshotId()); err != nil {
		return nil, internal(err)
	}
	return &csi.DeleteSnapshotResponse{}, nil
}

// ListSnapshots lists the snapshots by id, by volume, or all.
func (d *driver) ListSnapshots(_ context.Context, r *csi.ListSnapshotsRequest) (*csi.ListSnapshotsResponse, error) {
	all, err := d.store.list(snapshots)
	if err != nil {
		return nil, internal(err)
	}
	all = slices.DeleteFunc(all, func(snapshot *item) bool {
		return r.GetSnapshotId() != "" && r.GetSnapshotId() != snapshot.ID ||
			r.GetSourceVolumeId() != "" && r.GetSourceVolumeId() != snapshot.Source
	})
	page, next, err := turnPage(all, r.GetStartingToken(), r.GetMaxEntries())
	if err != nil {
		return nil, err
	}
	response := &csi.ListSnapshotsResponse{NextToken: next}
	for _, snapshot := range page {
		message, err := d.snapshotMessage(snapshot)
		if err != nil {
			return nil, err
		}
		response.Entries = append(response.Entries, &csi.ListSnapshotsResponse_Entry{Snapshot: message})
	}
	return response, nil
}

// GroupControllerGetCapabilities says that groups of volumes can be snapshotted.
func (d *driver) GroupControllerGetCapabilities(context.Context, *csi.GroupControllerGetCapabilitiesRequest) (*csi.GroupControllerGetCapabilitiesResponse, error) {
	return &csi.GroupControllerGetCapabilitiesResponse{Capabilities: []*csi.GroupControllerServiceCapability{{
		Type: &csi.GroupControllerServiceCapability_Rpc{Rpc: &csi.GroupControllerServiceCapability_RPC{
			Type: csi.GroupControllerServiceCapability_RPC_CREATE_DELETE_GET_VOLUME_GROUP_SNAPSHOT,
		}},
	}}}, nil
}

// CreateVolumeGroupSnapshot copies several volumes while no other call changes any.
func (d *driver) CreateVolumeGroupSnapshot(_ context.Context, r *csi.CreateVolumeGroupSnapshotRequest) (*csi.CreateVolumeGroupSnapshotResponse, error) {
	if r.GetName() == "" || len(r.GetSourceVolumeIds()) == 0 {
		return nil, status.Error(codes.InvalidArgument, "name and source volumes are needed")
	}
	d.store.Lock()
	defer d.store.Unlock()
	group := identify("group", r.GetName())
	members, err := d.members(group)
	if err != nil {
		return nil, err
	}
	if len(members) == 0 {
		members, err = d.snapshotGroup(r.GetName(), group, r.GetSourceVolumeIds())
	}
	if err != nil {
		return nil, err
	}
	if !ofVolumes(members, r.GetSourceVolumeIds()) {
		return nil, status.Errorf(codes.AlreadyExists, "group snapshot %s exists, of other volumes", r.GetName())
	}
	message, err := d.groupMessage(group)
	if err != nil {
		return nil, err
	}
	return &csi.CreateVolumeGroupSnapshotResponse{GroupSnapshot: message}, nil
}

// snapshotGroup takes the snapshots of a group, all or none.
func (d *driver) snapshotGroup(name, group string, volumeIDs []string) ([]*item, error) {
	for _, volume := range volumeIDs {
		if _, err := d.snapshot(name+"/"+volume, volume, group); err != nil {
			return nil, errors.Join(err, d.removeGroup(group))
		}
	}
	return d.members(group)
}

// ofVolumes says whether snapshots are one of each of these volumes.
func ofVolumes(members []*item, volumeIDs []string) bool {
	sources := map[string]bool{}
	for _, member := range members {
		sources[member.Source] = true
	}
	wanted := map[string]bool{}
	for _, volume := range volumeIDs {
		wanted[volume] = true
	}
	return maps.Equal(sources, wanted)
}

// members returns the snapshots of a group.
func (d *driver) members(group string) ([]*item, error) {
	all, err := d.store.list(snapshots)
	if err != nil {
		return nil, internal(err)
	}
	return slices.DeleteFunc(all, func(snapshot *item) bool { return snapshot.Group != group }), nil
}

func (d *driver) groupMessage(group string) (*csi.VolumeGroupSnapshot, error) {
	members, err := d.members(group)
	if err != nil {
		return nil, err
	}
	if len(members) == 0 {
		return nil, status.Errorf(codes.NotFound, "there is no group snapshot %s", group)
	}
	message := &csi.VolumeGroupSnapshot{GroupSnapshotId: group, ReadyToUse: true}
	for _, member := range members {
		snapshot, err := d.snapshotMessage(member)
		if err != nil {
			return nil, err
		}
		message.Snapshots = append(message.Snapshots, snapshot)
		message.CreationTime = snapshot.GetCreationTime()
		message.ReadyToUse = message.ReadyToUse && snapshot.GetReadyToUse()
	}
	return message, nil
}

// DeleteVolumeGroupSnapshot deletes the snapshots of a group.
func (d *driver) DeleteVolumeGroupSnapshot(_ context.Context, r *csi.DeleteVolumeGroupSnapshotRequest) (*csi.DeleteVolumeGroupSnapshotResponse, error) {
	if r.GetGroupSnapshotId() == "" {
		return nil, status.Error(codes.InvalidArgument, "the group snapshot's id is needed")
	}
	d.store.Lock()
	defer d.store.Unlock()
	if err := d.removeGroup(r.GetGroupSnapshotId()); err != nil {
		return nil, err
	}
	return &csi.DeleteVolumeGroupSnapshotResponse{}, nil
}

func (d *driver) removeGroup(group string) error {
	members, err := d.members(group)
	if err != nil {
		return err
	}
	for _, member := range members {
		if err := d.store.remove(snapshots, member.ID); err != nil {
			return internal(err)
		}
	}
	return nil
}

// GetVolumeGroupSnapshot describes a group.
func (d *driver) GetVolumeGroupSnapshot(_ context.Context, r *csi.GetVolumeGroupSnapshotRequest) (*csi.GetVolumeGroupSnapshotResponse, error) {
	if r.GetGroupSnapshotId() == "" {
		return nil, status.Error(codes.InvalidArgument, "the group snapshot's id is needed")
	}
	message, err := d.groupMessage(r.GetGroupSnapshotId())
	if err != nil {
		return nil, err
	}
	return &csi.GetVolumeGroupSnapshotResponse{GroupSnapshot: message}, nil
}
