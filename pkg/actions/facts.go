package actions

import (
	"context"
	"fmt"
	"slices"
	"strings"
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
	Exec(ctx context.Context, pod kubevirt.ID, container string, command []string) (string, error)
}

// enter begins with all lists of a namespace at once when its first item comes: each may wait 100 ms for the API server's cache to hear from
// etcd (Kubernetes v1.36, pkg/storage/cacher). Whoever needs one waits for it, and learns of its error.
func enter(namespace string, reader Reader, witness *Witness, log logrus.FieldLogger) {
	if !witness.enters(namespace) {
		return
	}
	for _, query := range graph.Usual(namespace) {
		go func() {
			if _, err := reader.List(context.Background(), query); err != nil {
				log.WithError(err).Debug("a list failed; it is asked for again when it is needed")
			}
		}()
	}
}

// facts gathers what was seen of a VM, or of an instance of its own.
func (c *Consistency) facts(ctx context.Context, item item, backup *velerov1.Backup) consistency.Facts {
	instance := kubevirt.ID{GroupResource: kubevirt.VirtualMachineInstances, Namespace: item.Namespace, Name: item.Name}
	if isPlain(backup) {
		return c.plainFacts(ctx, instance, backup)
	}
	defer c.witness.forgets(item.ID, instance)
	claims, err := c.claims(ctx, item, instance)
	if err != nil {
		return consistency.Facts{Snapshots: takesSnapshots(backup), Unseen: []error{err}}
	}
	seen := c.witness.account(item.ID, instance, claims)
	if !takesSnapshots(backup) {
		return c.withoutSnapshots(ctx, instance, seen.disks)
	}
	facts := consistency.Facts{Snapshots: true, Joined: seen.asked, Before: seen.before, Agent: seen.agent, Disks: seen.disks}
	read := func(err error) {
		if err != nil {
			facts.Unseen = append(facts.Unseen, err)
		}
	}
	read(seen.unseen)
	facts.After, err = now[virtv1.VirtualMachineInstance](ctx, c.reader, instance)
	read(err)
	if facts.After != nil && item.GroupResource == kubevirt.VirtualMachines {
		facts.Machine, err = now[virtv1.VirtualMachine](ctx, c.reader, item.ID)
		read(err)
	}
	for _, launcher := range seen.launchers {
		after, err := now[corev1.Pod](ctx, c.reader, idOf(launcher))
		read(err)
		facts.Launchers = append(facts.Launchers, consistency.Launcher{Before: launcher, After: after})
	}
	if facts.MayBeFrozen() {
		facts.Frozen, facts.NotAsked = c.isFrozen(ctx, instance, idOf(facts.Launchers[0].Before))
	}
	if facts.Before != nil && seen.first.Name != "" {
		facts.Window, err = c.since(ctx, seen)
		read(err)
	}
	return facts
}

// askLimit is for how long the guest is waited for, which stays frozen meanwhile. It takes 0.1 s, but an exec has no end of its own where
// a node or a launcher hangs.
const askLimit = 10 * time.Second

// isFrozen asks the guest whether it is frozen.
func (c *Consistency) isFrozen(ctx context.Context, instance, launcher kubevirt.ID) (bool, error) {
	ctx, cancel := context.WithTimeout(ctx, askLimit)
	defer cancel()
	answer, err := c.reader.Exec(ctx, launcher, "compute", consistency.AskGuest(instance.Namespace, instance.Name))
	if err != nil {
		return false, err
	}
	return consistency.SaysFrozen(answer)
}

// takesSnapshots tells whether the backup takes snapshots of disks.
func takesSnapshots(backup *velerov1.Backup) bool {
	return !boolptr.IsSetToFalse(backup.Spec.SnapshotVolumes)
}

// withoutSnapshots only asks whether the VM runs.
func (c *Consistency) withoutSnapshots(ctx context.Context, instance kubevirt.ID, disks []consistency.Disk) consistency.Facts {
	vmis, err := c.reader.List(ctx, graph.Query{GroupResource: instance.GroupResource, Namespace: instance.Namespace})
	facts := consistency.Facts{Disks: disks, Unseen: errorsIn(err)}
	if vmis.Named(instance.Name) != nil {
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

// since returns how long it is since the first snapshot of a VM's ItemBlock was asked for. Without that snapshot – a data mover removes it
// when it has the data – it is the time since the VM joined its ItemBlock, which is longer.
func (c *Consistency) since(ctx context.Context, seen account) (time.Duration, error) {
	snapshot, err := c.reader.Now(ctx, seen.first)
	if err != nil {
		return 0, err
	}
	begin := seen.joined
	if snapshot != nil {
		begin = (&unstructured.Unstructured{Object: snapshot}).GetCreationTimestamp().Time
	}
	return time.Since(begin), nil
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
