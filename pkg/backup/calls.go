package backup

import (
	"context"
	"maps"
	"slices"
	"strings"

	velerov1 "github.com/vmware-tanzu/velero/pkg/apis/velero/v1"
	"golang.org/x/sync/errgroup"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"velero-plugin-for-kubevirt/pkg/graph"
	"velero-plugin-for-kubevirt/pkg/kubevirt"
)

// Calls are what Velero has to call the plugin for, besides VMs and what has no VM. A call for nothing only takes time.
type Calls struct {
	// ItemBlocks tells that a backup needs them, and the verdicts and the disks that come with them.
	ItemBlocks bool
	// Instances tells that there may be VirtualMachineInstances that belong to no VM.
	Instances bool
}

// allCalls is the answer when it is not known what is needed.
var allCalls = Calls{ItemBlocks: true, Instances: true}

// Calls returns what Velero has to call the plugin for in the backups that it runs. It is found out when Velero asks for the first time, before it
// collects the items of the backup; if no ItemBlocks are needed, the lists that the verdicts need are read from then on.
func (r *Run) Calls() Calls { return r.calls() }

// neededCalls looks at the backups that Velero runs: it asks for the selectors of a backup's actions when that backup is InProgress, and may run others
// at the same time (Velero 1.18.1, pkg/controller/backup_controller.go).
func (r *Run) neededCalls() Calls {
	ctx := context.Background()
	running, err := r.runningBackups(ctx)
	if err != nil || len(running) == 0 || slices.ContainsFunc(running, needsItemBlocks) {
		r.logUnknownCalls(err)
		return allCalls
	}
	var needed Calls
	for _, backup := range running {
		vmis, err := r.instancesIn(ctx, backup)
		if err != nil {
			r.logUnknownCalls(err)
			return Calls{Instances: true}
		}
		needed.Instances = needed.Instances || slices.ContainsFunc(vmis, func(vmi *metav1.PartialObjectMetadata) bool { return !isVM(metav1.GetControllerOfNoCopy(vmi)) })
		go r.readAhead(backup, vmis)
	}
	return needed
}

func (r *Run) logUnknownCalls(err error) {
	if err != nil {
		r.log.WithError(err).Info("could not see which backups Velero runs, and of what; the plugin is called whether or not that is needed")
	}
}

func (r *Run) runningBackups(ctx context.Context) ([]*velerov1.Backup, error) {
	var running []*velerov1.Backup
	err := r.reader.Each(ctx, kubevirt.VeleroBackups, func(obj map[string]any) error {
		backup, err := as[velerov1.Backup](obj)
		if err == nil && backup.Status.Phase == velerov1.BackupPhaseInProgress {
			running = append(running, backup)
		}
		return err
	})
	return running, err
}

// listsAtOnce are how many lists are asked for at the same time.
const listsAtOnce = 8

// instancesIn lists the VMIs that a backup may have, by namespace or all at once. The lists are those that the verdicts need.
func (r *Run) instancesIn(ctx context.Context, backup *velerov1.Backup) ([]*metav1.PartialObjectMetadata, error) {
	namespaces := backup.Spec.IncludedNamespaces
	if len(namespaces) == 0 || slices.ContainsFunc(namespaces, func(name string) bool { return strings.ContainsAny(name, "*?[]{}") }) {
		namespaces = []string{""} // all
	}
	var group errgroup.Group
	group.SetLimit(listsAtOnce)
	lists := make([]*graph.Objects, len(namespaces))
	for i, namespace := range namespaces {
		group.Go(func() (err error) {
			lists[i], err = r.reader.List(ctx, graph.Query{GroupResource: kubevirt.VirtualMachineInstances, Namespace: namespace})
			return err
		})
	}
	if err := group.Wait(); err != nil {
		return nil, err
	}
	var vmis []*metav1.PartialObjectMetadata
	for _, list := range lists {
		for i := range list.All {
			vmis = append(vmis, &list.All[i])
		}
	}
	return vmis, nil
}

// readAhead asks for the lists of the namespaces that VMIs are in, one after the other. It has time: Velero collects all items of a backup before it calls
// the plugin for the first VM, seconds later (Velero 1.18.1, pkg/backup/backup.go).
func (r *Run) readAhead(backup *velerov1.Backup, vmis []*metav1.PartialObjectMetadata) {
	scope, err := r.scope(backup)
	if err != nil {
		r.log.WithError(err).Debug("nothing is read ahead")
		return
	}
	namespaces := map[string]bool{}
	for _, vmi := range vmis {
		namespaces[vmi.Namespace] = true
	}
	for _, namespace := range slices.Sorted(maps.Keys(namespaces)) {
		if !scope.admits(kubevirt.ID{GroupResource: kubevirt.VirtualMachineInstances, Namespace: namespace}) {
			continue
		}
		for _, query := range graph.ListsForRunningVM(namespace) {
			r.readList(query)
		}
	}
}

// readLists asks for all lists of a namespace at once when its first item comes: each may wait 100 ms for the API server's cache to hear from etcd
// (Kubernetes v1.36, pkg/storage/cacher). What the caller needs besides the lists for a running VM it names.
func (r *Run) readLists(namespace string, besides ...graph.Query) {
	r.mu.Lock()
	known := r.namespaces[namespace]
	r.namespaces[namespace] = true
	r.mu.Unlock()
	if known {
		return
	}
	for _, query := range append(graph.ListsForRunningVM(namespace), besides...) {
		go r.readList(query)
	}
}

// readList asks for a list. Whoever needs it waits for it, and learns of its error.
func (r *Run) readList(query graph.Query) {
	if _, err := r.reader.List(context.Background(), query); err != nil {
		r.log.WithError(err).Debug("a list failed; it is asked for again when it is needed")
	}
}
