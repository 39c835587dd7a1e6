package main

import (
	"context"
	"strconv"
	"strings"
	"time"

	"github.com/container-storage-interface/spec/lib/go/csi"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
)

// defaultSize is that of a volume for which none is asked.
const defaultSize = 1 << 20

// ControllerGetCapabilities lists what the controller can do.
func (d *driver) ControllerGetCapabilities(context.Context, *csi.ControllerGetCapabilitiesRequest) (*csi.ControllerGetCapabilitiesResponse, error) {
	response := &csi.ControllerGetCapabilitiesResponse{}
	for _, rpc := range []csi.ControllerServiceCapability_RPC_Type{
		csi.ControllerServiceCapability_RPC_CREATE_DELETE_VOLUME,
		csi.ControllerServiceCapability_RPC_LIST_VOLUMES,
		csi.ControllerServiceCapability_RPC_CLONE_VOLUME,
		csi.ControllerServiceCapability_RPC_EXPAND_VOLUME,
		csi.ControllerServiceCapability_RPC_CREATE_DELETE_SNAPSHOT,
		csi.ControllerServiceCapability_RPC_LIST_SNAPSHOTS,
		csi.ControllerServiceCapability_RPC_SINGLE_NODE_MULTI_WRITER,
	} {
		response.Capabilities = append(response.Capabilities, &csi.ControllerServiceCapability{
			Type: &csi.ControllerServiceCapability_Rpc{Rpc: &csi.ControllerServiceCapability_RPC{Type: rpc}},
		})
	}
	return response, nil
}

// CreateVolume makes an empty volume, or a copy of a snapshot or volume.
func (d *driver) CreateVolume(_ context.Context, r *csi.CreateVolumeRequest) (*csi.CreateVolumeResponse, error) {
	if r.GetName() == "" || len(r.GetVolumeCapabilities()) == 0 {
		return nil, status.Error(codes.InvalidArgument, "name and capabilities are needed")
	}
	size := max(r.GetCapacityRange().GetRequiredBytes(), 0)
	if size == 0 {
		size = defaultSize
	}
	d.store.Lock()
	defer d.store.Unlock()
	volume := &item{ID: identify("vol", r.GetName()), Size: size, Created: time.Now()}
	from, err := d.contentSource(r.GetVolumeContentSource(), volume)
	if err != nil {
		return nil, err
	}
	existing, err := d.store.get(volumes, volume.ID)
	switch {
	case err != nil:
		return nil, internal(err)
	case existing == nil:
		if err := d.store.add(volumes, volume, from); err != nil {
			return nil, internal(err)
		}
	case existing.Size != volume.Size || existing.Source != volume.Source:
		return nil, status.Errorf(codes.AlreadyExists, "volume %s exists with another size or content", r.GetName())
	}
	return &csi.CreateVolumeResponse{Volume: &csi.Volume{
		VolumeId: volume.ID, CapacityBytes: volume.Size, ContentSource: r.GetVolumeContentSource(),
		VolumeContext: map[string]string{"path": d.store.disk(volumes, volume.ID)}, // where a test finds the bytes
	}}, nil
}

// contentSource notes in a new volume what it is a copy of, and returns the path of the bytes.
func (d *driver) contentSource(content *csi.VolumeContentSource, volume *item) (string, error) {
	if content == nil {
		return "", nil
	}
	k, id := volumes, content.GetVolume().GetVolumeId()
	if content.GetSnapshot() != nil {
		k, id = snapshots, content.GetSnapshot().GetSnapshotId()
	}
	source, err := d.find(k, id)
	if err != nil {
		return "", err
	}
	if source.Size > volume.Size {
		return "", status.Errorf(codes.OutOfRange, "%s has %d bytes, more than the %d asked for", id, source.Size, volume.Size)
	}
	volume.Source = string(k) + "/" + id
	return d.store.disk(k, id), nil
}

// find returns an item that must exist.
func (d *driver) find(k kind, id string) (*item, error) {
	found, err := d.store.get(k, id)
	if err != nil {
		return nil, internal(err)
	}
	if found == nil {
		return nil, status.Errorf(codes.NotFound, "there is no %s %s", strings.TrimSuffix(string(k), "s"), id)
	}
	return found, nil
}

func internal(err error) error { return status.Error(codes.Internal, err.Error()) }

// DeleteVolume deletes a volume. Its snapshots are copies and stay.
func (d *driver) DeleteVolume(_ context.Context, r *csi.DeleteVolumeRequest) (*csi.DeleteVolumeResponse, error) {
	if r.GetVolumeId() == "" {
		return nil, status.Error(codes.InvalidArgument, "the volume's id is needed")
	}
	d.store.Lock()
	defer d.store.Unlock()
	if err := d.store.remove(volumes, r.GetVolumeId()); err != nil {
		return nil, internal(err)
	}
	return &csi.DeleteVolumeResponse{}, nil
}

// ValidateVolumeCapabilities confirms all: a file can be shared in any way.
func (d *driver) ValidateVolumeCapabilities(_ context.Context, r *csi.ValidateVolumeCapabilitiesRequest) (*csi.ValidateVolumeCapabilitiesResponse, error) {
	if r.GetVolumeId() == "" || len(r.GetVolumeCapabilities()) == 0 {
		return nil, status.Error(codes.InvalidArgument, "the volume's id and capabilities are needed")
	}
	if _, err := d.find(volumes, r.GetVolumeId()); err != nil {
		return nil, err
	}
	return &csi.ValidateVolumeCapabilitiesResponse{
		Confirmed: &csi.ValidateVolumeCapabilitiesResponse_Confirmed{VolumeCapabilities: r.GetVolumeCapabilities()},
	}, nil
}

// ListVolumes lists all volumes.
func (d *driver) ListVolumes(_ context.Context, r *csi.ListVolumesRequest) (*csi.ListVolumesResponse, error) {
	all, err := d.store.list(volumes)
	if err != nil {
		return nil, internal(err)
	}
	page, next, err := turnPage(all, r.GetStartingToken(), r.GetMaxEntries())
	if err != nil {
		return nil, err
	}
	response := &csi.ListVolumesResponse{NextToken: next}
	for _, volume := range page {
		response.Entries = append(response.Entries, &csi.ListVolumesResponse_Entry{
			Volume: &csi.Volume{VolumeId: volume.ID, CapacityBytes: volume.Size},
		})
	}
	return response, nil
}

// turnPage returns up to limit items behind a token, and the token of the rest.
func turnPage(all []*item, token string, limit int32) (page []*item, next string, err error) {
	start := 0
	if token != "" {
		start, err = strconv.Atoi(token)
		if err != nil || start < 0 || start > len(all) {
			return nil, "", status.Errorf(codes.Aborted, "%q is no token of this list", token)
		}
	}
	if limit <= 0 || start+int(limit) >= len(all) {
		return all[start:], "", nil
	}
	return all[start : start+int(limit)], strconv.Itoa(start + int(limit)), nil
}

// ControllerExpandVolume makes a volume larger. There is nothing to do on the node.
func (d *driver) ControllerExpandVolume(_ context.Context, r *csi.ControllerExpandVolumeRequest) (*csi.ControllerExpandVolumeResponse, error) {
	if r.GetVolumeId() == "" || r.GetCapacityRange() == nil {
		return nil, status.Error(codes.InvalidArgument, "the volume's id and the capacity are needed")
	}
	d.store.Lock()
	defer d.store.Unlock()
	volume, err := d.find(volumes, r.GetVolumeId())
	if err != nil {
		return nil, err
	}
	if size := r.GetCapacityRange().GetRequiredBytes(); size > volume.Size {
		if err := d.store.grow(volume, size); err != nil {
			return nil, internal(err)
		}
	}
	return &csi.ControllerExpandVolumeResponse{CapacityBytes: volume.Size}, nil
}
