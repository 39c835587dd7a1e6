// Package snapshot takes the VolumeSnapshots of several claims at the same moment: all are created at once, and then watched until the CSI driver has cut
// each. It knows no VM, and not who asks.
package snapshot

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"k8s.io/apimachinery/pkg/api/resource"

	"velero-plugin-for-kubevirt/pkg/kubevirt"
	"velero-plugin-for-kubevirt/pkg/object"
)

// A Cluster is where VolumeSnapshots are made.
type Cluster interface {
	Follower
	// Create makes an object, and returns it as the server made it; one of the same name that is there already as it is.
	Create(ctx context.Context, id kubevirt.ID, obj map[string]any) (map[string]any, error)
	// Delete removes an object; one that is gone is no error.
	Delete(ctx context.Context, id kubevirt.ID) error
}

// A Request is a claim to be snapshotted.
type Request struct {
	Name             string // of the VolumeSnapshot
	Namespace, Claim string
	Class, Driver    string // VolumeSnapshotClass, and its CSI driver
	Labels           map[string]string
}

// ID returns that of the VolumeSnapshot.
func (r Request) ID() kubevirt.ID {
	return kubevirt.ID{GroupResource: kubevirt.VolumeSnapshots, Namespace: r.Namespace, Name: r.Name}
}

// ClaimID returns that of the claim.
func (r Request) ClaimID() kubevirt.ID {
	return kubevirt.ID{GroupResource: kubevirt.PersistentVolumeClaims, Namespace: r.Namespace, Name: r.Claim}
}

// A Result is what came of a request: a snapshot that was cut, or an error.
type Result struct {
	Request
	RestoreSize int64     // bytes; 0 when the driver does not say
	At          time.Time // when it was seen to be cut
	Err         error
}

// Take makes all VolumeSnapshots at once and returns when each is cut, has failed, or ctx is over; the results are in the order of the requests. A driver's
// error is tried again by the CSI sidecar, so it is not the end; onTrouble is called for the first. A VolumeSnapshot that failed is deleted.
func Take(ctx context.Context, cluster Cluster, watch *Watch, requests []Request, onTrouble func(error)) []Result {
	results := make([]Result, len(requests))
	var all sync.WaitGroup
	for n, request := range requests {
		all.Go(func() {
			results[n] = take(ctx, cluster, watch, request, onTrouble)
			if results[n].Err != nil {
				onTrouble(results[n].Err)
			}
		})
	}
	all.Wait()
	return results
}

func take(ctx context.Context, cluster Cluster, watch *Watch, request Request, onTrouble func(error)) Result {
	result := Result{Request: request}
	said := ""
	_, err := cluster.Create(ctx, request.ID(), request.object())
	if err == nil {
		err = watch.Await(ctx, request.Name, func(snapshot map[string]any) (bool, error) {
			if message, _ := object.String(snapshot, "status.error.message"); message != "" && message != said {
				said = message
				onTrouble(errors.New(message))
			}
			is, err := IsCut(snapshot)
			if is {
				result.RestoreSize, err = restoreSize(snapshot)
			}
			return is, err
		})
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

// IsCut tells whether the CSI driver has cut a snapshot: it answers CreateSnapshot, with the time of creation, when it has (CSI specification 1.12). readyToUse
// comes later, when the snapshot may be read. The snapshot controller copies the time from the VolumeSnapshotContent as soon as it is there (external-snapshotter
// 8.5.0, pkg/common-controller/snapshot_controller.go, syncContent).
func IsCut(snapshot map[string]any) (bool, error) {
	created, err := object.String(snapshot, "status.creationTime")
	return created != "", err
}

func restoreSize(snapshot map[string]any) (int64, error) {
	text, err := object.String(snapshot, "status.restoreSize")
	if err != nil || text == "" {
		return 0, err
	}
	size, err := resource.ParseQuantity(text)
	return size.Value(), err
}

const apiVersion = "snapshot.storage.k8s.io/v1"

func (r Request) object() map[string]any {
	labels := map[string]any{}
	for key, value := range r.Labels {
		labels[key] = value
	}
	return map[string]any{
		"apiVersion": apiVersion, "kind": "VolumeSnapshot",
		"metadata": map[string]any{"namespace": r.Namespace, "name": r.Name, "labels": labels},
		"spec": map[string]any{
			"source":                  map[string]any{"persistentVolumeClaimName": r.Claim},
			"volumeSnapshotClassName": r.Class,
		},
	}
}
