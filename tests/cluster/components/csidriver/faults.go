package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/container-storage-interface/spec/lib/go/csi"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
)

// A faultFile is the path of the file that says how to misbehave. It is read at each call, so that a test can change it.
type faultFile string

// faults are the file's content.
type faults struct {
	// Fail has the error message of each RPC that fails, such as CreateSnapshot.
	Fail map[string]string `json:"fail"`
	// Snapshots is how the name of a VolumeSnapshot begins of which CreateSnapshot fails, empty for all.
	Snapshots string `json:"snapshots"`
	// SnapshotDelay is how old a snapshot is when it becomes ready, in nanoseconds.
	SnapshotDelay time.Duration `json:"snapshotDelay"`
	// CutDelay is how long the storage takes before it cuts a snapshot, in nanoseconds.
	CutDelay time.Duration `json:"cutDelay"`
}

func (f faultFile) read() (faults, error) {
	var current faults
	content, err := os.ReadFile(string(f))
	if errors.Is(err, fs.ErrNotExist) {
		return current, nil
	}
	if err == nil {
		err = json.Unmarshal(content, &current)
	}
	if err != nil {
		return current, fmt.Errorf("reading the faults: %w", err)
	}
	return current, nil
}

// intercept fails the calls that are to fail.
func (f faultFile) intercept(ctx context.Context, request any, info *grpc.UnaryServerInfo, handler grpc.UnaryHandler) (any, error) {
	current, err := f.read()
	if err != nil {
		return nil, status.Error(codes.Internal, err.Error())
	}
	// csi-snapshotter says the name with --extra-create-metadata.
	create, snapshots := request.(*csi.CreateSnapshotRequest)
	spared := snapshots && !strings.HasPrefix(create.GetParameters()["csi.storage.k8s.io/volumesnapshot/name"], current.Snapshots)
	if message, fails := current.Fail[filepath.Base(info.FullMethod)]; fails && !spared {
		return nil, status.Error(codes.Internal, message)
	}
	if snapshots && !spared {
		time.Sleep(current.CutDelay)
	}
	return handler(ctx, request)
}
