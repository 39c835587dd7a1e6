package backup

import (
	"context"
	"errors"
	"maps"
	"net/url"
	"slices"
	"time"

	velerov1 "github.com/vmware-tanzu/velero/pkg/apis/velero/v1"
	"golang.org/x/sync/errgroup"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/labels"
	virtv1 "kubevirt.io/api/core/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"velero-plugin-for-kubevirt/pkg/consistency"
	"velero-plugin-for-kubevirt/pkg/graph"
	"velero-plugin-for-kubevirt/pkg/kubevirt"
	"velero-plugin-for-kubevirt/pkg/object"
)

// A Server is how Velero's server is set up, as far as it decides what becomes of disks.
type Server struct {
	CSI  bool          // it takes CSI snapshots
	Poll time.Duration // how long it waits before it looks again whether a snapshot is cut
}

// A Forecast is what a backup would see of a VM, or of an instance of its own, if it were made now.
type Forecast struct {
	ID      kubevirt.ID
	Taken   bool // the backup takes the item
	Asked   consistency.Asked
	Facts   consistency.Facts
	Verdict consistency.Verdict
	Disks   []Disk // as in Facts
	Err     error  // why this could not be found out
}

// A Disk is a claim of a VM, and how it would be backed up.
type Disk struct {
	kubevirt.ID
	Driver  string // of CSI
	Class   string // VolumeSnapshotClass
	Cut     bool   // the plugin takes its snapshot, with those of all such disks at once
	Group   string // of the volumes that Velero snapshots together; empty for a claim of its own
	LeftOut string // why it would have no snapshot
}

// Why a disk would have no snapshot that is not to have one.
const (
	excluded = "the backup leaves out the claim"
	notAsked = "the backup's options or volume policy ask for no snapshot of it"
)

// isCut tells whether a disk would be snapshotted, if it is to be.
func (d Disk) isCut() bool { return slices.Contains([]string{"", excluded, notAsked}, d.LeftOut) }

// Forecast tells what a backup would see of VMs and instances. It changes nothing. Of what can only happen during a backup – a hook that fails, a snapshot
// that the driver refuses – it knows nothing: it takes it that all goes well.
func (r *Run) Forecast(ctx context.Context, items []*unstructured.Unstructured, backup *velerov1.Backup, server Server) ([]Forecast, error) {
	scope, err := r.scope(backup)
	if err != nil {
		return nil, err
	}
	f := forecaster{Run: r, backup: backup, scope: scope, server: server}
	vms := f.enterAll(ctx, items)
	vms = append(vms, f.enterAll(ctx, f.others(ctx, vms))...)
	for _, block := range blocksOf(vms) {
		block.chooses()
	}
	inParallel(len(vms), func(n int) {
		if vm := vms[n]; vm.Taken && vm.Err == nil {
			vm.Err = f.look(ctx, vm)
		}
	})
	for _, block := range blocksOf(vms) {
		block.freezes(server)
	}
	forecasts := make([]Forecast, len(items))
	for n, vm := range vms[:len(items)] {
		vm.Verdict = consistency.Judge(vm.Facts)
		forecasts[n] = vm.Forecast
	}
	return forecasts, nil
}

// inParallel calls do for 0 to n-1.
func inParallel(n int, do func(int)) {
	var group errgroup.Group
	group.SetLimit(listsAtOnce)
	for i := range n {
		group.Go(func() error {
			do(i)
			return nil
		})
	}
	_ = group.Wait() // none of them fails
}

// A forecastVM is a VM that is being looked at.
type forecastVM struct {
	Forecast
	obj        map[string]any
	instance   map[string]any // nil when it does not run
	neighbours []graph.Neighbour
	group      []kubevirt.ID // the other VMs that it is frozen together with
	selected   bool          // by a label, its own or that of what is in its ItemBlock
}

// inBlock returns what a VM has in its ItemBlock by which it meets other VMs.
func (vm *forecastVM) inBlock() []kubevirt.ID {
	ids := append([]kubevirt.ID{vm.ID}, vm.group...)
	for _, disk := range vm.Disks {
		ids = append(ids, disk.ID)
	}
	return ids
}

// A forecaster looks at VMs as a backup would.
type forecaster struct {
	*Run
	backup *velerov1.Backup
	scope  *scope
	server Server
}

// enterAll finds what is in the ItemBlocks of VMs.
func (f *forecaster) enterAll(ctx context.Context, items []*unstructured.Unstructured) []*forecastVM {
	vms := make([]*forecastVM, len(items))
	inParallel(len(items), func(n int) { vms[n] = f.enter(ctx, items[n]) })
	return vms
}

// others returns the VMs that are frozen together with VMs, and are not among them.
func (f *forecaster) others(ctx context.Context, vms []*forecastVM) []*unstructured.Unstructured {
	seen := map[kubevirt.ID]bool{}
	for _, vm := range vms {
		seen[vm.ID] = true
	}
	var others []*unstructured.Unstructured
	for _, vm := range vms {
		for _, id := range vm.group {
			if seen[id] {
				continue
			}
			obj, err := f.reader.Get(ctx, id)
			if err != nil {
				vm.Err = err
			}
			if obj != nil { // else it is gone meanwhile
				seen[id] = true
				others = append(others, &unstructured.Unstructured{Object: obj})
			}
		}
	}
	return others
}

// enter finds what is in the ItemBlock of a VM.
func (f *forecaster) enter(ctx context.Context, item *unstructured.Unstructured) *forecastVM {
	resource, _ := kubevirt.ResourceOf(item.GetAPIVersion(), item.GetKind())
	vm := &forecastVM{obj: item.Object}
	vm.ID = kubevirt.ID{GroupResource: resource, Namespace: item.GetNamespace(), Name: item.GetName()}
	vm.Taken = f.scope.takes(graph.Neighbour{ID: vm.ID, Labels: item.GetLabels()})
	if !vm.Taken {
		return vm
	}
	if vm.group, vm.Err = f.group(ctx, vm.ID, vm.obj, f.scope); vm.Err != nil {
		return vm
	}
	if vm.neighbours, vm.instance, vm.Err = f.ofBoth(ctx, vm.ID, vm.obj); vm.Err != nil {
		return vm
	}
	for _, claim := range claimsIn(vm.neighbours) {
		vm.Disks = append(vm.Disks, Disk{ID: claim})
	}
	vm.selected, vm.Err = f.selects(ctx, vm)
	return vm
}

// look finds how a VM would be backed up.
func (f *forecaster) look(ctx context.Context, vm *forecastVM) (err error) {
	if vm.Asked, err = askedOf(vm.obj, f.backup); err != nil {
		return err
	}
	vm.Facts = consistency.Facts{Snapshots: f.scope.snapshots, Joined: true, Group: groupOf(vm.obj)}
	copied := map[kubevirt.ID]bool{}
	if vm.instance != nil {
		if err := f.lookAtGuest(ctx, vm.instance, &vm.Facts, copied); err != nil {
			return err
		}
		if vm.Facts.MaxFreeze, err = maxFreezeFor(vm.obj, consistency.IsWindows(vm.Facts.After), f.backup, f.scope); err != nil {
			return err
		}
	}
	if vm.ID.GroupResource == kubevirt.VirtualMachines {
		if vm.Facts.Machine, err = as[virtv1.VirtualMachine](vm.obj); err != nil {
			return err
		}
	}
	for n, disk := range vm.Disks {
		if vm.Disks[n], err = f.disk(ctx, disk.ID); err != nil {
			return err
		}
		taken := vm.Disks[n].LeftOut == ""
		vm.Facts.Disks = append(vm.Facts.Disks, consistency.Disk{Name: disk.Name, Snapshotted: taken, Files: !taken && copied[disk.ID]})
	}
	return nil
}

// selects tells whether a backup selects a VM, or what has it in its ItemBlock: its instance, pods and disks, and the pool or replica set that made it.
func (f *forecaster) selects(ctx context.Context, vm *forecastVM) (bool, error) {
	selectors := f.backup.Spec.OrLabelSelectors
	if f.backup.Spec.LabelSelector != nil {
		selectors = []*metav1.LabelSelector{f.backup.Spec.LabelSelector} // Velero refuses both
	}
	if len(selectors) == 0 {
		return true, nil
	}
	bring := []graph.Neighbour{{ID: vm.ID, Labels: object.Labels(vm.obj)}}
	for _, neighbour := range vm.neighbours {
		if slices.Contains(memberKinds, neighbour.GroupResource) {
			bring = append(bring, neighbour)
		}
	}
	if owner := object.Owner(vm.obj); owner != nil {
		resource, _ := kubevirt.ResourceOf(owner.APIVersion, owner.Kind)
		maker := kubevirt.ID{GroupResource: resource, Namespace: vm.ID.Namespace, Name: owner.Name}
		obj, err := f.reader.Get(ctx, maker)
		if err != nil {
			return false, err
		}
		bring = append(bring, graph.Neighbour{ID: maker, Labels: object.Labels(obj)})
	}
	for _, one := range selectors {
		selector, err := metav1.LabelSelectorAsSelector(one)
		if err != nil {
			return false, err
		}
		if slices.ContainsFunc(bring, func(n graph.Neighbour) bool { return f.scope.takes(n) && selector.Matches(labels.Set(n.Labels)) }) {
			return true, nil
		}
	}
	return false, nil
}

// lookAtGuest finds what a backup would see of a running guest before it is frozen, and, as all goes well, after the last snapshot.
func (f *forecaster) lookAtGuest(ctx context.Context, obj map[string]any, facts *consistency.Facts, copied map[kubevirt.ID]bool) error {
	vmi, err := as[virtv1.VirtualMachineInstance](obj)
	if err != nil {
		return err
	}
	facts.After = vmi
	pods, err := f.runningPods(ctx, vmi)
	if err != nil {
		return err
	}
	for _, pod := range pods {
		maps.Copy(copied, f.scope.copiesFiles(pod))
		if owner := metav1.GetControllerOfNoCopy(pod); owner != nil && owner.Kind == "VirtualMachineInstance" && facts.Snapshots {
			facts.Launchers = append(facts.Launchers, consistency.Launcher{Before: pod, After: pod})
		}
	}
	if len(facts.Launchers) == 0 {
		return nil
	}
	facts.Before = vmi
	if !consistency.HasAgent(vmi) {
		return nil
	}
	info, err := f.reader.GuestInfo(ctx, vmi.Namespace, vmi.Name)
	if err != nil {
		return err
	}
	facts.Agent, err = as[virtv1.VirtualMachineInstanceGuestAgentInfo](info)
	facts.Frozen = consistency.OffersFreeze(facts.Agent)
	return err
}

// runningPods returns the running pods of an instance that the backup takes.
func (f *forecaster) runningPods(ctx context.Context, vmi *virtv1.VirtualMachineInstance) ([]*corev1.Pod, error) {
	found, err := graph.PodsOf(ctx, f.reader, vmi.Namespace, string(vmi.UID))
	if err != nil {
		return nil, err
	}
	var pods []*corev1.Pod
	for _, metadata := range found {
		id := kubevirt.ID{GroupResource: kubevirt.Pods, Namespace: metadata.Namespace, Name: metadata.Name}
		if slices.ContainsFunc(pods, func(pod *corev1.Pod) bool { return pod.Name == id.Name }) || !f.scope.takes(graph.Neighbour{ID: id, Labels: metadata.Labels}) {
			continue
		}
		obj, err := f.reader.Get(ctx, id)
		if err != nil {
			return nil, err
		}
		pod, err := as[corev1.Pod](obj)
		if err != nil {
			return nil, err
		}
		if pod.Status.Phase == corev1.PodRunning {
			pods = append(pods, pod)
		}
	}
	return pods, nil
}

// disk tells how a claim would be backed up.
func (f *forecaster) disk(ctx context.Context, id kubevirt.ID) (Disk, error) {
	disk := Disk{ID: id}
	obj, err := f.reader.Get(ctx, id)
	if err != nil {
		return disk, err
	}
	claim, err := as[corev1.PersistentVolumeClaim](obj)
	if err != nil {
		return disk, err
	}
	disk.Group = claim.Labels[f.backup.Spec.VolumeGroupSnapshotLabelKey]
	switch {
	case !f.scope.snapshots:
		disk.LeftOut = "the backup takes no snapshots"
		return disk, nil
	case !f.scope.takes(graph.Neighbour{ID: id, Labels: claim.Labels}):
		disk.LeftOut = excluded
		return disk, nil
	case claim.Spec.VolumeName == "" || claim.Status.Phase != corev1.ClaimBound:
		disk.LeftOut = "the claim has no volume"
		return disk, nil
	}
	volume := &corev1.PersistentVolume{}
	if err := f.scope.policy.client.Get(ctx, client.ObjectKey{Name: claim.Spec.VolumeName}, volume); err != nil {
		return disk, err
	}
	if volume.Spec.CSI != nil {
		disk.Driver = volume.Spec.CSI.Driver
	}
	if disk.Cut, err = f.scope.policy.asksFor(obj); err != nil {
		return disk, err
	}
	if !disk.Cut {
		disk.LeftOut, err = f.leftOut(ctx, obj, volume)
	}
	if disk.LeftOut != "" || err != nil {
		return disk, err
	}
	class, err := f.scope.policy.classFor(ctx, claim, f.backup)
	switch {
	case err == nil:
		disk.Class = class.Name
	case isAnswer(err):
		disk.LeftOut, err = err.Error(), nil
	}
	return disk, err
}

// isAnswer tells an error that says what the cluster does not have from one that only says that it could not be asked.
func isAnswer(err error) bool {
	var refused apierrors.APIStatus
	var unreached *url.Error
	return apierrors.IsNotFound(err) || !errors.As(err, &refused) && !errors.As(err, &unreached) && !errors.Is(err, context.Canceled)
}

// leftOut tells why Velero takes no snapshot of a claim with a volume, before a class for it is looked for.
func (f *forecaster) leftOut(ctx context.Context, claim map[string]any, volume *corev1.PersistentVolume) (string, error) {
	takes, err := f.scope.policy.leavesToVelero(ctx, claim)
	switch {
	case err != nil:
		return "", err
	case !takes:
		return notAsked, nil
	case volume.Spec.CSI == nil:
		return "its volume is no CSI volume", nil
	case !f.server.CSI:
		return "Velero's server takes no CSI snapshots: its feature EnableCSI is off", nil
	}
	return "", nil
}
