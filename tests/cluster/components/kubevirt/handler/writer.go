package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"math"
	"os"
	"slices"
	"strconv"
	"strings"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/klog/v2"
	v1 "kubevirt.io/api/core/v1"
)

// writesAnnotation on an instance makes its guest write: numbered records, one per interval, to its disks in turn. Disks
// that were copied at one moment hold adjoining numbers.
const writesAnnotation = "fake.guest/writes"

// turnsAnnotation on an instance names another one of the namespace: their guests write in turn, one record each, as parts of one application that wait for
// each other. Their disks, copied at one moment, hold numbers that differ by one at most.
const turnsAnnotation = "fake.guest/takes-turns-with"

// pathAttribute is where a PersistentVolume of the test's CSI driver says which file its bytes are in.
const pathAttribute = "path"

// recordSize is the length of a record: fifteen digits and a newline.
const recordSize = 16

// A disk takes records, one after the other.
type disk interface {
	// last returns the number of the last record, or 0 for none.
	last() int64
	write(number int64) error
	io.Closer
}

// A fileDisk is a disk whose bytes are in a file, from its beginning.
type fileDisk struct {
	*os.File
	end    int64
	number int64
}

func openDisk(path string) (disk, error) {
	file, err := os.OpenFile(path, os.O_RDWR, 0)
	if err != nil {
		return nil, fmt.Errorf("opening a guest's disk: %w", err)
	}
	d := &fileDisk{File: file}
	buffer := make([]byte, recordSize)
	for {
		if _, err := file.ReadAt(buffer, d.end); err != nil && !errors.Is(err, io.EOF) {
			return nil, errors.Join(fmt.Errorf("reading a guest's disk: %w", err), file.Close())
		}
		number, err := strconv.ParseInt(strings.TrimSuffix(string(buffer), "\n"), 10, 64)
		if err != nil {
			return d, nil //nolint:nilerr // what is no record ends the records
		}
		d.number = number
		d.end += recordSize
		clear(buffer) // the next read may get less
	}
}

func (d *fileDisk) last() int64 { return d.number }

func (d *fileDisk) write(number int64) error {
	if _, err := d.WriteAt(fmt.Appendf(nil, "%015d\n", number), d.end); err != nil {
		return err
	}
	d.number, d.end = number, d.end+recordSize
	return nil
}

// plugDisks lets a guest write that is to, to the disks that it has by now.
func (h *handler) plugDisks(ctx context.Context, vmi *v1.VirtualMachineInstance, g *guest) error {
	text, set := vmi.Annotations[writesAnnotation]
	claims := claimsOf(vmi)
	if !set || g.writesTo(claims) {
		return nil
	}
	interval, err := time.ParseDuration(text)
	if err != nil || interval <= 0 {
		return fmt.Errorf("annotation %s is not an interval: %q", writesAnnotation, text)
	}
	var disks []disk
	for _, claim := range claims {
		path, err := h.diskOf(ctx, vmi.Namespace, claim)
		var d disk
		if err == nil {
			d, err = openDisk(path)
		}
		if err != nil {
			for _, opened := range disks {
				_ = opened.Close() // nothing was written
			}
			return err
		}
		disks = append(disks, d)
	}
	other := func() int64 { return math.MaxInt64 }
	if name := vmi.Annotations[turnsAnnotation]; name != "" {
		other = func() int64 { return h.lastRecord(vmi.Namespace + "/" + name) }
	}
	g.writeTo(claims, disks, interval, other)
	return nil
}

// lastRecord returns the number of the last record that another guest has written, -1 when it does not run.
func (h *handler) lastRecord(key string) int64 {
	h.mu.Lock()
	other := h.guests[key]
	h.mu.Unlock()
	if other == nil {
		return -1
	}
	other.mu.Lock()
	defer other.mu.Unlock()
	return other.number
}

// claimsOf returns the claims whose volumes are in the guest.
func claimsOf(vmi *v1.VirtualMachineInstance) []string {
	ready := map[string]bool{}
	for _, status := range vmi.Status.VolumeStatus {
		ready[status.Name] = status.HotplugVolume == nil || status.Phase == v1.VolumeReady
	}
	var claims []string
	for _, volume := range vmi.Spec.Volumes {
		switch {
		case !ready[volume.Name]:
		case volume.PersistentVolumeClaim != nil:
			claims = append(claims, volume.PersistentVolumeClaim.ClaimName)
		case volume.DataVolume != nil:
			claims = append(claims, volume.DataVolume.Name)
		}
	}
	return claims
}

func (h *handler) diskOf(ctx context.Context, namespace, claim string) (string, error) {
	pvc, err := h.node.CoreV1().PersistentVolumeClaims(namespace).Get(ctx, claim, metav1.GetOptions{})
	if err != nil {
		return "", fmt.Errorf("finding a guest's disk: %w", err)
	}
	pv, err := h.node.CoreV1().PersistentVolumes().Get(ctx, pvc.Spec.VolumeName, metav1.GetOptions{})
	if err != nil {
		return "", fmt.Errorf("finding the volume of claim %s: %w", claim, err)
	}
	if pv.Spec.CSI == nil || pv.Spec.CSI.VolumeAttributes[pathAttribute] == "" {
		return "", fmt.Errorf("PersistentVolume %s does not say where its bytes are: the guest cannot write", pv.Name)
	}
	return pv.Spec.CSI.VolumeAttributes[pathAttribute], nil
}

// writesTo says whether the guest writes to just these claims.
func (g *guest) writesTo(claims []string) bool {
	g.mu.Lock()
	defer g.mu.Unlock()
	return slices.Equal(g.claims, claims)
}

// writeTo makes the guest write to other disks from now on. It goes on with the number after the highest one, as soon as the guest that it takes turns with has
// written the one before.
func (g *guest) writeTo(claims []string, disks []disk, interval time.Duration, other func() int64) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.unplug()
	g.claims, g.disks = claims, disks
	for _, d := range disks {
		g.number = max(g.number, d.last())
	}
	done := make(chan struct{})
	g.stopWriting = func() { close(done) }
	go func() {
		ticker := time.NewTicker(interval)
		defer ticker.Stop()
		for {
			select {
			case <-done:
				return
			case <-ticker.C:
				g.writeRecord(other())
			}
		}
	}()
}

// writeRecord writes the next record. It holds the lock meanwhile: once a freeze is answered, nothing is written.
func (g *guest) writeRecord(other int64) {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.frozen || g.paused || len(g.disks) == 0 || other < g.number {
		return
	}
	if err := g.disks[(g.number+1)%int64(len(g.disks))].write(g.number + 1); err != nil {
		klog.ErrorS(err, "a guest could not write", "instance", g.namespace+"/"+g.name)
		return
	}
	g.number++
}

// unplug takes all disks from the guest. The caller has the lock.
func (g *guest) unplug() {
	if g.stopWriting != nil {
		g.stopWriting()
	}
	for _, d := range g.disks {
		if err := d.Close(); err != nil {
			klog.ErrorS(err, "closing a guest's disk")
		}
	}
	g.claims, g.disks, g.stopWriting = nil, nil, nil
}
