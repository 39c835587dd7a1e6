package actions

import (
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/sirupsen/logrus"
	velerov1 "github.com/vmware-tanzu/velero/pkg/apis/velero/v1"
	"github.com/vmware-tanzu/velero/pkg/util/boolptr"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime"
	virtv1 "kubevirt.io/api/core/v1"

	"velero-plugin-for-kubevirt/pkg/consistency"
	"velero-plugin-for-kubevirt/pkg/graph"
	"velero-plugin-for-kubevirt/pkg/kubevirt"
)

// A Reader reads the cluster: what may be as old as the backup, and what is so now.
type Reader interface {
	graph.Reader
	// Now returns the whole object as it is now, nil when there is none.
	Now(ctx context.Context, id kubevirt.ID) (map[string]any, error)
	// GuestInfo returns what the guest agent of a VirtualMachineInstance says of itself.
	GuestInfo(ctx context.Context, namespace, name string) (map[string]any, error)
	// Exec runs a command in a container of a pod and returns what it printed; a command that fails is an error.
	Exec(ctx context.Context, pod kubevirt.ID, container string, command []string, stdin io.Reader) (string, error)
}

// enter begins with all lists of a namespace at once when its first item comes: each may wait 100 ms for the API server's cache to hear from
// etcd (Kubernetes v1.36, pkg/storage/cacher). What the caller needs besides the usual lists it names.
func enter(namespace string, reader Reader, witness *Witness, log logrus.FieldLogger, besides ...graph.Query) {
	if !witness.enters(namespace) {
		return
	}
	for _, query := range append(graph.Usual(namespace), besides...) {
		go readEarly(query, reader, log)
	}
}

// readEarly asks for a list. Whoever needs it waits for it, and learns of its error.
func readEarly(query graph.Query, reader Reader, log logrus.FieldLogger) {
	if _, err := reader.List(context.Background(), query); err != nil {
		log.WithError(err).Debug("a list failed; it is asked for again when it is needed")
	}
}

// facts gathers what was seen of a VM, or of an instance of its own.
func (c *Consistency) facts(ctx context.Context, item item, backup *velerov1.Backup) consistency.Facts {
	instance := kubevirt.ID{GroupResource: kubevirt.VirtualMachineInstances, Namespace: item.Namespace, Name: item.Name}
	defer c.witness.forgets(item.ID, instance)
	if isPlain(backup) {
		return c.plainFacts(ctx, instance, backup)
	}
	claims, err := c.claims(ctx, item, instance)
	if err != nil {
		return consistency.Facts{Snapshots: takesSnapshots(backup), Unseen: []error{err}}
	}
	seen := c.witness.account(item.ID, instance, claims)
	if !takesSnapshots(backup) {
		return c.withoutSnapshots(ctx, instance, seen.disks)
	}
	facts := consistency.Facts{
		Snapshots: true, Joined: seen.asked, Before: seen.before, Agent: seen.agent, Disks: seen.disks,
		Launchers: make([]consistency.Launcher, len(seen.launchers)), NotAsked: errNotAsked,
	}
	// The guest is frozen: all is read at once.
	var reads sync.WaitGroup
	failures := make([]error, 3+len(seen.launchers))
	reads.Go(func() { facts.After, failures[0] = now[virtv1.VirtualMachineInstance](ctx, c.reader, instance) })
	if seen.before != nil && item.GroupResource == kubevirt.VirtualMachines {
		reads.Go(func() { facts.Machine, failures[1] = now[virtv1.VirtualMachine](ctx, c.reader, item.ID) })
	}
	var begin time.Time
	if seen.before != nil && seen.first.Name != "" {
		reads.Go(func() { begin, failures[2] = c.begin(ctx, seen) })
	}
	for n, launcher := range seen.launchers {
		facts.Launchers[n].Before = launcher
		reads.Go(func() { facts.Launchers[n].After, failures[3+n] = now[corev1.Pod](ctx, c.reader, idOf(launcher)) })
	}
	if seen.question != nil {
		reads.Go(func() { facts.Frozen, facts.NotAsked = isFrozen(ctx, c.reader, seen.question) })
	}
	reads.Wait()
	if !begin.IsZero() {
		facts.Window = time.Since(begin)
	}
	facts.Unseen = errorsIn(append(failures, seen.unseen)...)
	return facts
}

// errNotAsked is why a guest was not asked that, when its pod joined the ItemBlock, was not one that can be frozen.
var errNotAsked = errors.New("the guest was not asked whether it is frozen")

// takesSnapshots tells whether the backup takes snapshots of disks.
func takesSnapshots(backup *velerov1.Backup) bool {
	return !boolptr.IsSetToFalse(backup.Spec.SnapshotVolumes)
}

// withoutSnapshots only asks whether the VM runs.
func (c *Consistency) withoutSnapshots(ctx context.Context, instance kubevirt.ID, disks []consistency.Disk) consistency.Facts {
	vmi, err := graph.MetadataOf(ctx, c.reader, instance)
	facts := consistency.Facts{Disks: disks, Unseen: errorsIn(err)}
	if vmi != nil {
		facts.After = &virtv1.VirtualMachineInstance{}
	}
	return facts
}

// errorsIn returns those that are one.
func errorsIn(errs ...error) []error {
	return slices.DeleteFunc(errs, func(err error) bool { return err == nil })
}

// claims returns the PVCs of a VM and of its instance, which alone may name hotplugged ones.
func (c *Consistency) claims(ctx context.Context, item item, instance kubevirt.ID) ([]kubevirt.ID, error) {
	neighbours, err := neighboursOf(ctx, item.GroupResource, item.obj, c.witness.shown(item.ID), c.reader)
	if err != nil {
		return nil, err
	}
	met := c.witness.shown(instance)
	vmi, err := instanceOf(ctx, c.reader, met.obj, instance, neighbours)
	if err != nil {
		return nil, err
	}
	if vmi != nil && item.ID != instance {
		more, err := neighboursOf(ctx, instance.GroupResource, vmi, met, c.reader)
		if err != nil {
			return nil, err
		}
		neighbours = slices.Concat(neighbours, more)
	}
	var claims []kubevirt.ID
	for _, neighbour := range neighbours {
		if neighbour.GroupResource == kubevirt.PersistentVolumeClaims && !neighbour.Absent && !slices.Contains(claims, neighbour.ID) {
			claims = append(claims, neighbour.ID)
		}
	}
	return claims, nil
}

// begin returns when the first snapshot of a VM's ItemBlock was asked for. Without that snapshot – a data mover removes it when it has the
// data – it is when the VM joined its ItemBlock, which is earlier.
func (c *Consistency) begin(ctx context.Context, seen account) (time.Time, error) {
	snapshot, err := c.reader.Now(ctx, seen.first)
	if err != nil || snapshot == nil {
		return seen.joined, err
	}
	return (&unstructured.Unstructured{Object: snapshot}).GetCreationTimestamp().Time, nil
}

// copiesFiles tells of each claim of a running pod whether Velero copies its files from there (Velero 1.18.1,
// pkg/util/podvolume/pod_volume.go, GetVolumesByPod). It would put them back into the restored pod (pkg/podvolume/restorer.go), and
// KubeVirt's pods are not restored.
func copiesFiles(pod *corev1.Pod, backup *velerov1.Backup) map[kubevirt.ID]bool {
	all := boolptr.IsSetToTrue(backup.Spec.DefaultVolumesToFsBackup)
	list := velerov1.VolumesToBackupAnnotation
	if all {
		list = velerov1.VolumesToExcludeAnnotation
	}
	copied := map[kubevirt.ID]bool{}
	for _, volume := range pod.Spec.Volumes {
		if volume.PersistentVolumeClaim != nil {
			claim := kubevirt.ID{GroupResource: kubevirt.PersistentVolumeClaims, Namespace: pod.Namespace, Name: volume.PersistentVolumeClaim.ClaimName}
			copied[claim] = all != slices.Contains(strings.Split(pod.Annotations[list], ","), volume.Name)
		}
	}
	return copied
}

// now reads an object as it is now, as a type; nil when there is none.
func now[T any](ctx context.Context, reader Reader, id kubevirt.ID) (*T, error) {
	obj, err := reader.Now(ctx, id)
	if err != nil || obj == nil {
		return nil, err
	}
	return as[T](obj)
}

// as reads an object as a type.
func as[T any](obj map[string]any) (*T, error) {
	var typed T
	if err := runtime.DefaultUnstructuredConverter.FromUnstructured(obj, &typed); err != nil {
		return nil, fmt.Errorf("reading a %T: %w", typed, err)
	}
	return &typed, nil
}
