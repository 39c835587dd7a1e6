// Package backup is one backup run as this plugin process sees it: which calls of Velero it needs, which ItemBlocks Velero is building and backing
// up, and what of each item goes into the backup. Velero starts a plugin process for each backup, so a Run lives exactly as long. A process that
// Velero had to start again has seen nothing, and claims nothing.
package backup

import (
	"context"
	"fmt"
	"slices"
	"sync"

	"github.com/sirupsen/logrus"
	velerov1 "github.com/vmware-tanzu/velero/pkg/apis/velero/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/types"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"velero-plugin-for-kubevirt/pkg/freeze"
	"velero-plugin-for-kubevirt/pkg/graph"
	"velero-plugin-for-kubevirt/pkg/kubevirt"
	"velero-plugin-for-kubevirt/pkg/object"
	"velero-plugin-for-kubevirt/pkg/rules"
	"velero-plugin-for-kubevirt/pkg/snapshot"
)

// A Reader reads the cluster: what may be as old as the backup, and what is so now.
type Reader interface {
	graph.Reader
	freeze.Reader
}

// A Run is one backup. All of the process's actions share it; it is safe for parallel use.
type Run struct {
	reader    Reader
	discovery Discovery
	storage   Storage
	log       logrus.FieldLogger

	calls    func() Calls                  // what Velero has to call the plugin for, found out once
	client   func() (client.Client, error) // for Velero's own functions, made once: Velero asks often how far the data mover is
	scopes   sync.Map                      // by the UID of a Backup
	sweeping sync.Once                     // removes what failed backups have left; Velero starts the plugin anew for each backup
	absent   sync.Map                      // the absent neighbours that are in the log: a VM and its VMI name the same

	mu         sync.Mutex
	blocks     map[kubevirt.ID]*block     // by each of their members
	claims     map[kubevirt.ID]claim      // for the whole backup: a stopped VM may share a disk that another ItemBlock has snapshotted
	namespaces map[string]bool            // whose lists have been asked for
	watches    map[string]*snapshot.Watch // by namespace
	cleaned    map[types.UID]bool         // backups of which nothing is left
}

// NewRun returns a run that has seen nothing. It makes no request.
func NewRun(reader Reader, discovery Discovery, storage Storage, log logrus.FieldLogger) *Run {
	r := &Run{
		reader: reader, discovery: discovery, storage: storage, log: log,
		blocks: map[kubevirt.ID]*block{}, claims: map[kubevirt.ID]claim{}, namespaces: map[string]bool{}, watches: map[string]*snapshot.Watch{}, cleaned: map[types.UID]bool{},
	}
	r.calls = sync.OnceValue(r.neededCalls)
	r.client = sync.OnceValues(func() (client.Client, error) { return veleroClient(storage) })
	return r
}

// verdictKinds are the kinds that get a verdict.
var verdictKinds = []schema.GroupResource{kubevirt.VirtualMachines, kubevirt.VirtualMachineInstances}

func getsVerdict(id kubevirt.ID) bool { return slices.Contains(verdictKinds, id.GroupResource) }

// BackUp applies the backup rules to an item, in place, and returns what has to be backed up with it. In a backup without ItemBlocks it is the only call for
// a VM, and writes the verdict as well.
func (r *Run) BackUp(ctx context.Context, id kubevirt.ID, obj map[string]any, backup *velerov1.Backup) ([]kubevirt.ID, error) {
	scope, err := r.scope(backup)
	if err != nil {
		return nil, err
	}
	onlyCall := !scope.itemBlocks && getsVerdict(id)
	if onlyCall {
		r.readLists(id.Namespace)
	}
	known := r.inBlock(id)
	neighbours, err := r.neighbours(ctx, id, obj, known)
	if err != nil {
		return nil, object.Failed(obj, "finding what to back up with", err)
	}
	in, err := r.input(ctx, id, obj, neighbours, scope)
	if err != nil {
		return nil, object.Failed(obj, "finding what belongs to", err)
	}
	r.recordBrought(id, in.AdditionalItems)
	applied, err := rules.Run(id.GroupResource, obj, in)
	if err != nil {
		return nil, object.Failed(obj, "backing up", err)
	}
	rules.Log(r.log, id, applied)
	switch {
	case onlyCall:
		err = r.judge(ctx, id, obj, backup, scope)
	case id.GroupResource == kubevirt.DataVolumes:
		r.finish(id)
	case id.GroupResource == kubevirt.VolumeSnapshots:
		err = r.recordStored(obj, backup)
	}
	return notByThemselves(in.AdditionalItems, known.related, scope), err
}

// neighbours returns what an item refers to: as found when Velero put it into an ItemBlock, or found now.
func (r *Run) neighbours(ctx context.Context, id kubevirt.ID, obj map[string]any, known blockItem) ([]graph.Neighbour, error) {
	if known.obj != nil {
		return known.neighbours, nil
	}
	return graph.Neighbours(ctx, id.GroupResource, obj, r.reader)
}

// input gathers what the rules may know about an item.
func (r *Run) input(ctx context.Context, id kubevirt.ID, obj map[string]any, neighbours []graph.Neighbour, scope *scope) (rules.Input, error) {
	in := rules.Input{Phase: rules.Backup, Original: obj}
	for _, neighbour := range neighbours {
		comes := r.exists(id, neighbour) && scope.takes(neighbour)
		if comes {
			in.AdditionalItems = append(in.AdditionalItems, neighbour.ID)
		}
		// A restore of the DataVolume's namespace alone brings no DataSource of another one.
		if id.GroupResource == kubevirt.DataVolumes && neighbour.GroupResource == kubevirt.DataSources && (!comes || neighbour.Namespace != id.Namespace) {
			var err error
			if in.DataSource, err = r.reader.Get(ctx, neighbour.ID); err != nil {
				return in, err
			}
		}
	}
	if id.GroupResource == kubevirt.VirtualMachineSnapshotContents {
		var err error
		if in.VolumeSnapshots, err = r.volumeSnapshots(ctx, id, obj); err != nil {
			return in, err
		}
	}
	if id.GroupResource == kubevirt.VolumeSnapshots {
		return in, r.claimUID(ctx, obj, &in)
	}
	if id.GroupResource == kubevirt.VirtualMachines {
		in.Instance = func() (map[string]any, error) { return r.instance(ctx, instanceOf(id), neighbours) }
	}
	return in, nil
}

// exists drops neighbours that are known not to exist, and says so when the item cannot do without them.
func (r *Run) exists(id kubevirt.ID, neighbour graph.Neighbour) bool {
	log := r.log.WithFields(logrus.Fields{"item": id.String(), "neighbour": neighbour.String(), "path": neighbour.Path})
	switch {
	case neighbour.Unknown != nil:
		log.WithError(neighbour.Unknown).Warn("could not check that the neighbour exists; Velero is asked to back it up all the same")
	case neighbour.Absent && !neighbour.Optional:
		if _, logged := r.absent.LoadOrStore(neighbour.ID, true); !logged {
			log.Warn("the item names an object that does not exist; a restored VM will miss it too")
		}
		return false
	case neighbour.Absent:
		log.Debug("the item names an object that does not exist and can do without it")
		return false
	}
	return true
}

// notByThemselves returns those of the additional items that have to be named. What is related to the item in its ItemBlock comes by itself, but its
// disks must have their snapshots before the last action for the VM. In a backup without ItemBlocks all comes that has a namespace.
func notByThemselves(additional, related []kubevirt.ID, scope *scope) []kubevirt.ID {
	return slices.DeleteFunc(additional, func(id kubevirt.ID) bool {
		if !scope.itemBlocks {
			return id.Namespace != ""
		}
		return id.GroupResource != kubevirt.PersistentVolumeClaims && slices.Contains(related, id)
	})
}

// instanceOf returns the ID of a VM's instance, which has the VM's name; of an instance it is its own.
func instanceOf(id kubevirt.ID) kubevirt.ID {
	id.GroupResource = kubevirt.VirtualMachineInstances
	return id
}

// instance returns the running instance of a VM, nil when there is none: as Velero has shown it, else as the cluster has it when it is among the VM's
// neighbours. A request for each VM would be the larger part of what a backup costs the API server.
func (r *Run) instance(ctx context.Context, id kubevirt.ID, neighbours []graph.Neighbour) (map[string]any, error) {
	if known := r.inBlock(id); known.obj != nil {
		return known.obj, nil
	}
	if !slices.ContainsFunc(neighbours, func(n graph.Neighbour) bool { return n.ID == id }) {
		return nil, nil
	}
	return r.reader.Get(ctx, id)
}

// as reads an object as a type.
func as[T any](obj map[string]any) (*T, error) {
	var typed T
	if err := runtime.DefaultUnstructuredConverter.FromUnstructured(obj, &typed); err != nil {
		return nil, fmt.Errorf("reading a %T: %w", typed, err)
	}
	return &typed, nil
}
