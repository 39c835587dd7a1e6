package rollback

import (
	"context"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"slices"

	velerov1 "github.com/vmware-tanzu/velero/pkg/apis/velero/v1"
	"github.com/vmware-tanzu/velero/pkg/label"
	"k8s.io/apimachinery/pkg/runtime/schema"

	"velero-plugin-for-kubevirt/pkg/kubevirt"
	"velero-plugin-for-kubevirt/pkg/object"
	"velero-plugin-for-kubevirt/pkg/vm"
)

// A Direction is what was asked for last. What is half done goes on in that direction.
type Direction string

// The directions.
const (
	Back   Direction = "rollback"
	Undo   Direction = "undo"
	Finish Direction = "finish"
)

// A Record is what has to be known to go on with a rollback that was interrupted, and to go back. It is written before anything is changed, into a Secret
// beside the VM: a VM may hold passwords for its guest (cloud-init), which roles that read ConfigMaps are not to see. It goes with its namespace, and Velero
// does not back it up: restored, it would speak of volumes of another day.
type Record struct {
	Backup, Velero string // the Backup, and Velero's namespace
	Label          string // by which the VM is selected in the backup
	Restore        string // the Restore's name
	Direction      Direction
	Done           bool // the rollback has been done: the VM is as it was backed up
	Objects        []Object
	Volumes        []Volume
	Restored       []string // the claims that the backup has of the VM, by name
}

// An Object is one that the rollback takes away, as it was: the VM, its revisions, DataVolumes and claims.
type Object struct {
	ID      kubevirt.ID
	UID     string
	Content map[string]any
}

// A Volume is a PersistentVolume that the rollback keeps.
type Volume struct {
	Name            string
	Claim, ClaimUID string
	ReclaimPolicy   string // what it was
}

const recordKey = "record"

// recordType is the Secret's type: it tells people what it is.
const recordType = "velero.kubevirt.io/rollback"

func recordID(of kubevirt.ID) kubevirt.ID {
	return kubevirt.ID{GroupResource: kubevirt.Secrets, Namespace: of.Namespace, Name: "velero-rollback-" + of.Name}
}

// Load reads the record of a VM, nil when there is none.
func Load(ctx context.Context, cluster vm.Cluster, of kubevirt.ID) (*Record, error) {
	id := recordID(of)
	secret, err := cluster.Now(ctx, id)
	if err != nil || secret == nil {
		return nil, err
	}
	text, err := object.String(secret, "data."+recordKey)
	if err != nil {
		return nil, fmt.Errorf("reading %s: %w", id, err)
	}
	content, err := base64.StdEncoding.DecodeString(text)
	if err != nil {
		return nil, fmt.Errorf("reading %s: %w", id, err)
	}
	var record Record
	if err := json.Unmarshal(content, &record); err != nil {
		return nil, fmt.Errorf("reading %s: %w", id, err)
	}
	return &record, nil
}

// create writes the record for the first time.
func (r *Run) create(ctx context.Context) error {
	content, err := json.Marshal(r.Record)
	if err != nil {
		return fmt.Errorf("writing %s: %w", recordID(r.VM), err)
	}
	id := recordID(r.VM)
	_, err = r.Cluster.Create(ctx, id, map[string]any{
		"apiVersion": "v1", "kind": "Secret", "type": recordType,
		"metadata": map[string]any{
			"namespace": id.Namespace, "name": id.Name,
			"labels": map[string]any{velerov1.ExcludeFromBackupLabel: "true"},
		},
		"stringData": map[string]any{recordKey: string(content)},
	})
	return err
}

// save writes what has changed.
func (r *Run) save(ctx context.Context) error {
	content, err := json.Marshal(r.Record)
	if err != nil {
		return fmt.Errorf("writing %s: %w", recordID(r.VM), err)
	}
	return r.patch(ctx, recordID(r.VM), map[string]any{"stringData": map[string]any{recordKey: string(content)}})
}

// old returns what is recorded of an object, nil when it was not there.
func (r *Record) old(id kubevirt.ID) *Object {
	i := slices.IndexFunc(r.Objects, func(o Object) bool { return o.ID == id })
	if i < 0 {
		return nil
	}
	return &r.Objects[i]
}

// isOld tells whether an object is the one that was there before.
func (r *Record) isOld(id kubevirt.ID, obj map[string]any) bool {
	old := r.old(id)
	return obj != nil && old != nil && old.UID == object.UID(obj)
}

// isRestored tells whether the rollback's Restore made an object.
func (r *Record) isRestored(obj map[string]any) bool {
	return object.Label(obj, velerov1.RestoreNameLabel) == label.GetValidName(r.Restore)
}

// had returns the recorded objects of some resources.
func (r *Record) had(resources ...schema.GroupResource) []Object {
	return slices.DeleteFunc(slices.Clone(r.Objects), func(o Object) bool { return !slices.Contains(resources, o.ID.GroupResource) })
}
