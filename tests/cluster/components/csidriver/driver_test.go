package main

import (
	"context"
	"os"
	"path/filepath"
	"syscall"
	"testing"
	"time"

	"github.com/container-storage-interface/spec/lib/go/csi"
	"github.com/kubernetes-csi/csi-test/v5/pkg/sanity"
	"google.golang.org/grpc"
)

// TestSanity runs the CSI project's own tests against the driver.
func TestSanity(t *testing.T) {
	dir, err := os.MkdirTemp("", "csi-") // t.TempDir's path would be too long for a socket
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error)
	socket := filepath.Join(dir, "csi.sock")
	go func() {
		ended <- run(ctx, options{endpoint: socket, root: filepath.Join(dir, "root"), name: "files.csi.test", node: "node01"})
	}()
	config := sanity.NewTestConfig()
	config.Address = "unix://" + socket
	config.TargetPath = filepath.Join(dir, "target")
	config.StagingPath = filepath.Join(dir, "staging")
	sanity.Test(t, config)
	cancel()
	if err := <-ended; err != nil {
		t.Error(err)
	}
}

func TestACopyKeepsBytesAndHoles(t *testing.T) {
	const size = 1 << 30
	source, target := filepath.Join(t.TempDir(), "source"), filepath.Join(t.TempDir(), "target")
	if err := createDisk(source, size, ""); err != nil {
		t.Fatal(err)
	}
	for offset, text := range map[int64]string{0: "begin", 300 << 20: "middle", size - 3: "end"} {
		write(t, source, offset, text)
	}
	if err := createDisk(target, size+100, source); err != nil {
		t.Fatal(err)
	}
	for offset, want := range map[int64]string{0: "begin\x00", 300<<20 - 1: "\x00middle\x00", size - 3: "end\x00"} {
		if got := read(t, target, offset, len(want)); got != want {
			t.Errorf("at %d is %q, want %q", offset, got, want)
		}
	}
	info, err := os.Stat(target)
	if err != nil {
		t.Fatal(err)
	}
	if info.Size() != size+100 {
		t.Errorf("the copy has %d bytes", info.Size())
	}
	if blocks := info.Sys().(*syscall.Stat_t).Blocks; blocks > 100 {
		t.Errorf("the copy takes %d blocks", blocks)
	}
}

// TestASnapshotHasEveryFile snapshots a volume with more than a disk: the state of a TPM, say.
func TestASnapshotHasEveryFile(t *testing.T) {
	s, err := openStore(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	if err := s.add(volumes, &item{ID: "vol-1", Size: 1 << 20}, ""); err != nil {
		t.Fatal(err)
	}
	state := filepath.Join(filepath.Dir(s.disk(volumes, "vol-1")), "swtpm", "state")
	if err := os.Mkdir(filepath.Dir(state), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(state, []byte("sealed"), 0o600); err != nil {
		t.Fatal(err)
	}
	snapshot := &item{ID: "snap-1", Size: 1 << 20}
	if err := s.add(snapshots, snapshot, s.disk(volumes, "vol-1")); err != nil {
		t.Fatal(err)
	}
	copied := filepath.Join(filepath.Dir(s.disk(snapshots, "snap-1")), "swtpm", "state")
	content, err := os.ReadFile(copied)
	if err != nil || string(content) != "sealed" {
		t.Errorf("the snapshot has %q, %v", content, err)
	}
	if info, err := os.Stat(copied); err != nil || info.Mode() != 0o600 {
		t.Errorf("the snapshot's file is %v, %v", info, err)
	}
	if stored, err := s.get(snapshots, "snap-1"); err != nil || stored.Took <= 0 || stored.Took != snapshot.Took {
		t.Errorf("the snapshot is described as %+v, %v", stored, err)
	}
}

func write(t *testing.T, path string, offset int64, text string) {
	t.Helper()
	file, err := os.OpenFile(path, os.O_WRONLY, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer file.Close()
	if _, err := file.WriteAt([]byte(text), offset); err != nil {
		t.Fatal(err)
	}
}

func read(t *testing.T, path string, offset int64, n int) string {
	t.Helper()
	file, err := os.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer file.Close()
	text := make([]byte, n)
	if _, err := file.ReadAt(text, offset); err != nil {
		t.Fatal(err)
	}
	return string(text)
}

func TestFaults(t *testing.T) {
	file := faultFile(filepath.Join(t.TempDir(), "faults.json"))
	if got, err := file.read(); err != nil || len(got.Fail) != 0 || got.SnapshotDelay != 0 {
		t.Errorf("no file gives %v, %v", got, err)
	}
	if err := os.WriteFile(string(file), []byte(`{"fail":{"CreateSnapshot":"no space"},"snapshotDelay":2000000000}`), 0o644); err != nil {
		t.Fatal(err)
	}
	got, err := file.read()
	if err != nil || got.Fail["CreateSnapshot"] != "no space" || got.SnapshotDelay != 2*time.Second {
		t.Errorf("the file gives %v, %v", got, err)
	}
}

func TestSnapshotsFailByTheirNames(t *testing.T) {
	file := faultFile(filepath.Join(t.TempDir(), "faults.json"))
	if err := os.WriteFile(string(file), []byte(`{"fail":{"CreateSnapshot":"no space"},"snapshots":"bad-"}`), 0o644); err != nil {
		t.Fatal(err)
	}
	for name, fails := range map[string]bool{"bad-one": true, "good-one": false, "": false} {
		request := &csi.CreateSnapshotRequest{Parameters: map[string]string{"csi.storage.k8s.io/volumesnapshot/name": name}}
		_, err := file.intercept(t.Context(), request, &grpc.UnaryServerInfo{FullMethod: "/csi.v1.Controller/CreateSnapshot"},
			func(context.Context, any) (any, error) { return nil, nil })
		if (err != nil) != fails {
			t.Errorf("%q gives %v", name, err)
		}
	}
}
