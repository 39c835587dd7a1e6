package cli

import (
	"cmp"
	"context"
	"fmt"
	"slices"
	"strings"

	velerov1 "github.com/vmware-tanzu/velero/pkg/apis/velero/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/runtime/schema"

	"velero-plugin-for-kubevirt/pkg/cluster"
	"velero-plugin-for-kubevirt/pkg/consistency"
	"velero-plugin-for-kubevirt/pkg/graph"
	"velero-plugin-for-kubevirt/pkg/kubevirt"
	"velero-plugin-for-kubevirt/pkg/object"
	"velero-plugin-for-kubevirt/pkg/restore"
	"velero-plugin-for-kubevirt/pkg/rules"
)

// A verification is a backup and what was found in it.
type verification struct {
	backup    *velerov1.Backup // empty when the backup was read from a file
	contents  cluster.Memory
	reader    graph.Reader // of the contents
	volumes   []volumeInfo
	target    target // the cluster that the backup is compared with; nil for none
	namespace string // whose VMs are looked at; empty for all
	selector  labels.Selector

	vms     []verifiedVM
	changes map[kubevirt.ID][]rules.Applied // what the restore rules do, by item
	broken  map[kubevirt.ID]error           // items that the rules cannot read
}

// A target is a cluster into which a backup may be restored.
type target interface {
	graph.Reader
	// Serves tells whether the cluster has a resource.
	Serves(resource schema.GroupResource) (bool, error)
}

// A volumeInfo is what Velero says of a volume (Velero 1.18.1, internal/volume/volumes_information.go).
type volumeInfo struct {
	PVCName       string `json:"pvcName"`
	PVCNamespace  string `json:"pvcNamespace"`
	BackupMethod  string `json:"backupMethod"`
	Skipped       bool   `json:"skipped"`
	SkippedReason string `json:"skippedReason"`
	Result        string `json:"result"`
}

// A verifiedVM is a VM of the backup, or an instance of its own.
type verifiedVM struct {
	kubevirt.ID
	level   consistency.Level // empty when the backup does not say
	reason  string
	message string
	window  string // for which its guest was frozen
	disks   []backedUpDisk
	leadsTo []kubevirt.ID // everything that it is restored with
	missing []string      // what it needs and the backup has not
	lacks   []string      // what the cluster has not
	err     error         // why this could not be found out
}

// A backedUpDisk is how a disk is in the backup.
type backedUpDisk struct {
	claim string
	how   string // snapshot, moved, files or none
	why   string // it is none
}

// volumeSnapshot is the annotation of a backed-up claim that names its VolumeSnapshot.
const volumeSnapshot = velerov1.VolumeSnapshotLabel

// How a disk may be in a backup.
const (
	asSnapshot = "snapshot"
	asMoved    = "moved"
	asFiles    = "files"
	asNone     = "none"
)

// look finds out about every VM that is asked for.
func (v *verification) look(ctx context.Context) error {
	var err error
	if v.reader, err = cluster.NewCached(v.contents); err != nil {
		return err
	}
	v.applyRules(ctx)
	for _, resource := range guests {
		for _, item := range v.contents[resource] {
			if isOfVM(item.Object) || (v.namespace != "" && item.GetNamespace() != v.namespace) || !v.selector.Matches(labels.Set(item.GetLabels())) {
				continue
			}
			v.vms = append(v.vms, v.verify(ctx, kubevirt.ID{GroupResource: resource, Namespace: item.GetNamespace(), Name: item.GetName()}, item.Object))
		}
	}
	slices.SortFunc(v.vms, func(a, b verifiedVM) int {
		return cmp.Or(strings.Compare(a.Namespace, b.Namespace), strings.Compare(a.Name, b.Name))
	})
	return nil
}

func isOfVM(obj map[string]any) bool {
	owner := object.Owner(obj)
	return owner != nil && owner.Kind == "VirtualMachine"
}

func (v *verification) verify(ctx context.Context, id kubevirt.ID, obj map[string]any) verifiedVM {
	vm := verifiedVM{ID: id, reason: object.Annotation(obj, kubevirt.ConsistencyReason), window: object.Annotation(obj, kubevirt.FreezeWindow)}
	vm.level, vm.message = consistency.Stamped(obj)
	nodes, err := graph.Walk(ctx, id, v.reader)
	if err != nil {
		vm.err = err
		return vm
	}
	vm.missing, vm.err = missingAmong(nodes)
	for _, node := range nodes {
		if node.State == graph.Present {
			vm.leadsTo = append(vm.leadsTo, node.ID)
		}
		vm.err = cmp.Or(vm.err, v.broken[node.ID])
	}
	instance := kubevirt.ID{GroupResource: kubevirt.VirtualMachineInstances, Namespace: id.Namespace, Name: id.Name}
	for _, node := range nodes {
		if node.ID == id || node.ID == instance {
			vm.addDisks(v, node.Neighbours)
		}
	}
	if v.target != nil && vm.err == nil {
		vm.lacks, vm.err = v.lacking(ctx, vm)
	}
	return vm
}

// addDisks adds the claims among what a VM or its instance refers to.
func (vm *verifiedVM) addDisks(v *verification, neighbours []graph.Neighbour) {
	for _, neighbour := range neighbours {
		known := slices.ContainsFunc(vm.disks, func(disk backedUpDisk) bool { return disk.claim == neighbour.Name })
		if neighbour.GroupResource == kubevirt.PersistentVolumeClaims && !known {
			vm.disks = append(vm.disks, v.disk(neighbour.ID))
		}
	}
}

// disk tells how a claim's data is in the backup: by what the backup's items say, and, of what is no CSI snapshot, by what Velero says.
func (v *verification) disk(id kubevirt.ID) backedUpDisk {
	disk := backedUpDisk{claim: id.Name, how: asNone}
	claim := v.item(id)
	if claim == nil {
		disk.why = "the claim is not in the backup"
		return disk
	}
	upload, snapshot := object.Annotation(claim, velerov1.DataUploadNameAnnotation), object.Annotation(claim, volumeSnapshot)
	switch {
	case upload != "":
		disk.how, disk.why = v.upload(upload)
	case snapshot != "":
		disk.how, disk.why = v.snapshot(kubevirt.ID{GroupResource: kubevirt.VolumeSnapshots, Namespace: id.Namespace, Name: snapshot})
	default:
		disk.why = "it has no snapshot"
	}
	if disk.how != asNone {
		return disk
	}
	for _, info := range v.volumes { // of two about one claim, the later counts
		if info.PVCName != id.Name || info.PVCNamespace != id.Namespace {
			continue
		}
		switch {
		case info.Skipped:
			disk.how, disk.why = asNone, "Velero skipped it: "+info.SkippedReason
		case info.Result == "failed":
			disk.how, disk.why = asNone, "Velero says that it failed"
		case info.BackupMethod == "PodVolumeBackup":
			disk.how, disk.why = asFiles, ""
		case info.BackupMethod == "NativeSnapshot":
			disk.how, disk.why = asSnapshot, ""
		}
	}
	return disk
}

// upload tells what came of a DataUpload.
func (v *verification) upload(name string) (how, why string) {
	namespace, name, _ := strings.Cut(name, "/")
	upload := v.item(kubevirt.ID{GroupResource: kubevirt.DataUploads, Namespace: namespace, Name: name})
	phase, _ := object.String(upload, "status.phase")
	message, _ := object.String(upload, "status.message")
	switch {
	case upload == nil:
		return asNone, fmt.Sprintf("its DataUpload %s is not in the backup", name)
	case phase != "Completed":
		return asNone, strings.TrimSpace(fmt.Sprintf("its DataUpload %s is %s %s", name, phase, message))
	}
	return asMoved, ""
}

// snapshot tells whether a VolumeSnapshot can be restored: by the handle that its content has.
func (v *verification) snapshot(id kubevirt.ID) (how, why string) {
	snapshot := v.item(id)
	if snapshot == nil {
		return asNone, fmt.Sprintf("its VolumeSnapshot %s is not in the backup", id.Name)
	}
	name, _ := object.String(snapshot, "status.boundVolumeSnapshotContentName")
	content := v.item(kubevirt.ID{GroupResource: kubevirt.VolumeSnapshotContents, Name: name})
	if content == nil {
		return asNone, fmt.Sprintf("the content of its VolumeSnapshot %s is not in the backup", id.Name)
	}
	if handle, _ := object.String(content, "status.snapshotHandle"); handle == "" {
		return asNone, fmt.Sprintf("its VolumeSnapshot %s has no handle", id.Name)
	}
	return asSnapshot, ""
}

// item returns an item of the backup, nil when it has none.
func (v *verification) item(id kubevirt.ID) map[string]any {
	obj, _ := v.reader.Get(context.Background(), id) // memory does not fail
	return obj
}

// applyRules has the restore rules work on a copy of each item: against the cluster, or against one that has nothing but the Backup.
func (v *verification) applyRules(ctx context.Context) {
	v.changes, v.broken = map[kubevirt.ID][]rules.Applied{}, map[kubevirt.ID]error{}
	run, asked := v.restoreRun()
	for _, resource := range v.resources() {
		for _, item := range v.contents[resource] {
			id := kubevirt.ID{GroupResource: resource, Namespace: item.GetNamespace(), Name: item.GetName()}
			if _, known := kubevirt.ResourceOf(item.GetAPIVersion(), item.GetKind()); !known {
				continue
			}
			applied, err := run.Apply(ctx, id, asVeleroRestores(item), item.Object, asked)
			if err != nil {
				v.broken[id] = err
			}
			if v.target == nil { // nothing is known of nodes
				applied = slices.DeleteFunc(applied, func(a rules.Applied) bool { return a.Rule == "vm-node-pin" })
			}
			if len(applied) > 0 {
				v.changes[id] = applied
			}
		}
	}
}

// restoreRun returns a restore of the backup, which is not made.
func (v *verification) restoreRun() (*restore.Run, *velerov1.Restore) {
	asked := &velerov1.Restore{Spec: velerov1.RestoreSpec{BackupName: v.backup.Name}}
	asked.Namespace, asked.Name = v.backup.Namespace, "verify"
	for _, items := range v.contents {
		for _, item := range items {
			if !slices.Contains(asked.Spec.IncludedNamespaces, item.GetNamespace()) {
				asked.Spec.IncludedNamespaces = append(asked.Spec.IncludedNamespaces, item.GetNamespace())
			}
		}
	}
	if v.target != nil {
		return restore.NewRun(v.target, nil, silent()), asked
	}
	moved := v.backup.Spec.SnapshotMoveData != nil && *v.backup.Spec.SnapshotMoveData
	backup := &unstructured.Unstructured{Object: map[string]any{"spec": map[string]any{"snapshotMoveData": moved}}}
	backup.SetNamespace(v.backup.Namespace)
	backup.SetName(v.backup.Name)
	return restore.NewRun(cluster.Memory{kubevirt.VeleroBackups: {backup}}, nil, silent()), asked
}

// resources returns those of the backup, sorted.
func (v *verification) resources() []schema.GroupResource {
	var resources []schema.GroupResource
	for resource := range v.contents {
		resources = append(resources, resource)
	}
	slices.SortFunc(resources, func(a, b schema.GroupResource) int { return strings.Compare(a.String(), b.String()) })
	return resources
}

// asVeleroRestores returns a copy of an item without what Velero takes away before it calls a plugin (Velero 1.18.1, pkg/restore/restore.go,
// resetMetadataAndStatus).
func asVeleroRestores(item *unstructured.Unstructured) map[string]any {
	obj := item.DeepCopy().Object
	delete(obj, "status")
	metadata, _ := obj["metadata"].(map[string]any)
	for _, field := range []string{
		"generateName", "selfLink", "uid", "resourceVersion", "generation", "creationTimestamp", "deletionTimestamp", "deletionGracePeriodSeconds", "ownerReferences",
	} {
		delete(metadata, field)
	}
	return obj
}
