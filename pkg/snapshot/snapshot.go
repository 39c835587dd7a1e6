// Package snapshot takes the VolumeSnapshots of several claims at the same moment: all are created at once, and then watched until the CSI driver has cut
// each. It knows no VM, and not who asks.
package snapshot

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"velero-plugin-for-kubevirt/pkg/kubevirt"
	"velero-plugin-for-kubevirt/pkg/object"
)

// A Cluster is where VolumeSnapshots are made.
type Cluster interface {
	// Create makes an object, and returns it as the server made it; one of the same name that is there already as it is.
	Create(ctx context.Context, id kubevirt.ID, obj map[string]any) (map[string]any, error)
	// Await calls done with an object as it is and whenever it changes, until done says so or fails.
	Await(ctx context.Context, id kubevirt.ID, done func(obj map[string]any) (bool, error)) error
	// Delete removes an object; one that is gone is no error.
	Delete(ctx context.Context, id kubevirt.ID) error
}

// A Request is a claim to be snapshotted.
type Request struct {
	Name             string // of the VolumeSnapshot
	Namespace, Claim string
	Class            string // VolumeSnapshotClass
	Labels           map[string]string
}

// ID returns that of the VolumeSnapshot.
func (r Request) ID() kubevirt.ID {
	return kubevirt.ID{GroupResource: kubevirt.VolumeSnapshots, Namespace: r.Namespace, Name: r.Name}
}

// A Result is what came of a request: a snapshot with a handle, or an error.
type Result struct {
	Request
	Driver      string
	RestoreSize int64     // bytes; 0 when the driver does not say
	At          time.Time // when the handle was seen
	Err         error
}

// Take makes all VolumeSnapshots at once and returns when each has its handle, has failed, or ctx is over; the results are in the order of the requests.
// By CSI's specification a driver answers CreateSnapshot when the snapshot is cut, so a handle is enough: readyToUse comes when it may be read. A driver's
// error is tried again by the CSI sidecar, so it is not the end; onTrouble is called for the first. A VolumeSnapshot that failed is deleted.
func Take(ctx context.Context, cluster Cluster, requests []Request, onTrouble func(error)) []Result {
	results := make([]Result, len(requests))
	var all sync.WaitGroup
	for n, request := range requests {
		all.Go(func() {
			results[n] = take(ctx, cluster, request, onTrouble)
			if results[n].Err != nil {
				onTrouble(results[n].Err)
			}
		})
	}
	all.Wait()
	return results
}

func take(ctx context.Context, cluster Cluster, request Request, onTrouble func(error)) Result {
	result := Result{Request: request}
	said, err := "", error(nil)
	listen := func(obj map[string]any) {
		if message, _ := object.String(obj, "status.error.message"); message != "" && message != said {
			said = message
			onTrouble(errors.New(message))
		}
	}
	if _, err = cluster.Create(ctx, request.ID(), request.object()); err == nil {
		var content kubevirt.ID
		if content, err = boundContent(ctx, cluster, request, listen); err == nil {
			err = cut(ctx, cluster, content, &result, listen)
		}
	}
	if err == nil {
		result.At = time.Now()
		return result
	}
	if said != "" {
		err = fmt.Errorf("%w; the CSI driver said: %s", err, said)
	}
	// What cannot be finished is not left behind; ctx may be over.
	err = errors.Join(err, cluster.Delete(context.WithoutCancel(ctx), request.ID()))
	result.Err = fmt.Errorf("snapshotting PersistentVolumeClaim %s/%s with VolumeSnapshotClass %s: %w", request.Namespace, request.Claim, request.Class, err)
	return result
}

// boundContent waits for the VolumeSnapshotContent of a VolumeSnapshot.
func boundContent(ctx context.Context, cluster Cluster, request Request, listen func(map[string]any)) (kubevirt.ID, error) {
	content := kubevirt.ID{GroupResource: kubevirt.VolumeSnapshotContents}
	err := cluster.Await(ctx, request.ID(), func(obj map[string]any) (bool, error) {
		listen(obj)
		var err error
		content.Name, err = object.String(obj, "status.boundVolumeSnapshotContentName")
		return content.Name != "", err
	})
	return content, err
}

// cut waits until a VolumeSnapshotContent has its handle.
func cut(ctx context.Context, cluster Cluster, content kubevirt.ID, result *Result, listen func(map[string]any)) error {
	return cluster.Await(ctx, content, func(obj map[string]any) (bool, error) {
		listen(obj)
		handle, err := object.String(obj, "status.snapshotHandle")
		if err != nil || handle == "" {
			return false, err
		}
		if result.Driver, err = object.String(obj, "spec.driver"); err != nil {
			return false, err
		}
		status, err := object.Map(obj, "status")
		result.RestoreSize, _ = status["restoreSize"].(int64)
		return true, err
	})
}

func (r Request) object() map[string]any {
	labels := map[string]any{}
	for key, value := range r.Labels {
		labels[key] = value
	}
	return map[string]any{
		"apiVersion": "snapshot.storage.k8s.io/v1", "kind": "VolumeSnapshot",
		"metadata": map[string]any{"namespace": r.Namespace, "name": r.Name, "labels": labels},
		"spec": map[string]any{
			"source":                  map[string]any{"persistentVolumeClaimName": r.Claim},
			"volumeSnapshotClassName": r.Class,
		},
	}
}
