package main

import (
	"context"
	"errors"
	"io/fs"
	"os"
	"path/filepath"

	"github.com/container-storage-interface/spec/lib/go/csi"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
)

// NodeGetInfo names the node.
func (d *driver) NodeGetInfo(context.Context, *csi.NodeGetInfoRequest) (*csi.NodeGetInfoResponse, error) {
	return &csi.NodeGetInfoResponse{NodeId: d.node}, nil
}

// NodeGetCapabilities says that the node needs no staging.
func (d *driver) NodeGetCapabilities(context.Context, *csi.NodeGetCapabilitiesRequest) (*csi.NodeGetCapabilitiesResponse, error) {
	return &csi.NodeGetCapabilitiesResponse{}, nil
}

// NodePublishVolume shows the volume's folder, or the disk itself for a block volume, at the target: as a symbolic link, or
// mounted if the driver may mount.
func (d *driver) NodePublishVolume(_ context.Context, r *csi.NodePublishVolumeRequest) (*csi.NodePublishVolumeResponse, error) {
	if r.GetVolumeId() == "" || r.GetTargetPath() == "" || r.GetVolumeCapability() == nil {
		return nil, status.Error(codes.InvalidArgument, "the volume's id, the target path and a capability are needed")
	}
	if _, err := d.find(volumes, r.GetVolumeId()); err != nil {
		return nil, err
	}
	source := d.store.disk(volumes, r.GetVolumeId())
	if r.GetVolumeCapability().GetBlock() == nil {
		source = filepath.Dir(source)
	}
	if d.mount {
		if err := mount(source, r.GetTargetPath(), r.GetVolumeCapability().GetBlock() != nil); err != nil {
			return nil, internal(err)
		}
		return &csi.NodePublishVolumeResponse{}, nil
	}
	if current, err := os.Readlink(r.GetTargetPath()); err == nil && current == source {
		return &csi.NodePublishVolumeResponse{}, nil
	}
	if err := removeTarget(r.GetTargetPath()); err != nil {
		return nil, internal(err)
	}
	if err := os.MkdirAll(filepath.Dir(r.GetTargetPath()), 0o755); err != nil {
		return nil, internal(err)
	}
	if err := os.Symlink(source, r.GetTargetPath()); err != nil {
		return nil, internal(err)
	}
	return &csi.NodePublishVolumeResponse{}, nil
}

// NodeUnpublishVolume removes the link or mount.
func (d *driver) NodeUnpublishVolume(_ context.Context, r *csi.NodeUnpublishVolumeRequest) (*csi.NodeUnpublishVolumeResponse, error) {
	if r.GetVolumeId() == "" || r.GetTargetPath() == "" {
		return nil, status.Error(codes.InvalidArgument, "the volume's id and the target path are needed")
	}
	if d.mount {
		if err := unmount(r.GetTargetPath()); err != nil {
			return nil, internal(err)
		}
	}
	if err := removeTarget(r.GetTargetPath()); err != nil {
		return nil, internal(err)
	}
	return &csi.NodeUnpublishVolumeResponse{}, nil
}

// removeTarget removes a link or an empty folder, and never what a link leads to.
func removeTarget(path string) error {
	if err := os.Remove(path); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	return nil
}
