package graph

import (
	"reflect"
	"regexp"
	"slices"
	"strings"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"
	backupv1 "kubevirt.io/api/backup/v1alpha1"
	clonev1 "kubevirt.io/api/clone/v1beta1"
	virtv1 "kubevirt.io/api/core/v1"
	exportv1 "kubevirt.io/api/export/v1"
	instancetypev1 "kubevirt.io/api/instancetype/v1beta1"
	migrationsv1 "kubevirt.io/api/migrations/v1alpha1"
	pluginv1 "kubevirt.io/api/plugin/v1alpha1"
	poolv1 "kubevirt.io/api/pool/v1beta1"
	snapshotv1 "kubevirt.io/api/snapshot/v1beta1"
	cdiv1 "kubevirt.io/containerized-data-importer-api/pkg/apis/core/v1beta1"
	forkliftv1 "kubevirt.io/containerized-data-importer-api/pkg/apis/forklift/v1beta1"

	"velero-plugin-for-kubevirt/pkg/kubevirt"
)

// referrers gives the Go type of each kind that the table follows references from.
var referrers = map[schema.GroupResource]any{
	kubevirt.VirtualMachines:                   virtv1.VirtualMachine{},
	kubevirt.VirtualMachineInstances:           virtv1.VirtualMachineInstance{},
	kubevirt.VirtualMachineInstanceReplicaSets: virtv1.VirtualMachineInstanceReplicaSet{},
	kubevirt.VirtualMachineInstancePresets:     virtv1.VirtualMachineInstancePreset{},
	kubevirt.VirtualMachinePools:               poolv1.VirtualMachinePool{},
	kubevirt.DataVolumes:                       cdiv1.DataVolume{},
	kubevirt.DataSources:                       cdiv1.DataSource{},
	kubevirt.VolumeImportSources:               cdiv1.VolumeImportSource{},
	kubevirt.OvirtVolumePopulators:             forkliftv1.OvirtVolumePopulator{},
	kubevirt.OpenstackVolumePopulators:         forkliftv1.OpenstackVolumePopulator{},
	kubevirt.ServiceAccounts:                   corev1.ServiceAccount{},
}

// others are the other kinds of the two APIs. Nothing is followed from them.
var others = []any{
	virtv1.VirtualMachineInstanceMigration{}, virtv1.KubeVirt{},
	instancetypev1.VirtualMachineInstancetype{}, instancetypev1.VirtualMachineClusterInstancetype{},
	instancetypev1.VirtualMachinePreference{}, instancetypev1.VirtualMachineClusterPreference{},
	snapshotv1.VirtualMachineSnapshot{}, snapshotv1.VirtualMachineSnapshotContent{}, snapshotv1.VirtualMachineRestore{},
	exportv1.VirtualMachineExport{}, clonev1.VirtualMachineClone{}, migrationsv1.MigrationPolicy{},
	backupv1.VirtualMachineBackup{}, backupv1.VirtualMachineBackupTracker{}, pluginv1.Plugin{},
	cdiv1.DataImportCron{}, cdiv1.VolumeUploadSource{}, cdiv1.VolumeCloneSource{}, cdiv1.ObjectTransfer{},
	cdiv1.StorageProfile{}, cdiv1.CDI{}, cdiv1.CDIConfig{},
}

// A leaf is a field of an API that holds a string, or a list of them.
type leaf struct {
	path string // with [] for lists and {} for maps
	name string // the field's own name
}

// leaves lists the string fields below a type, by the names they have in JSON.
func leaves(t reflect.Type) []leaf {
	var found []leaf
	collect(t, "", "", nil, &found)
	return found
}

func collect(t reflect.Type, path, name string, inside []reflect.Type, found *[]leaf) {
	for t.Kind() == reflect.Pointer {
		t = t.Elem()
	}
	switch t.Kind() {
	case reflect.String:
		*found = append(*found, leaf{path, name})
	case reflect.Slice, reflect.Array:
		collect(t.Elem(), path+"[]", name, inside, found)
	case reflect.Map:
		collect(t.Elem(), path+"{}", name, inside, found)
	case reflect.Struct:
		if slices.Contains(inside, t) {
			return // recursive types, such as JSON schemas
		}
		inside = append(slices.Clone(inside), t)
		for i := range t.NumField() {
			field := t.Field(i)
			tag, _, _ := strings.Cut(field.Tag.Get("json"), ",")
			below := path
			switch {
			case tag == "-" || !field.IsExported():
				continue
			case tag == "" && field.Anonymous:
				tag = name
			case path == "":
				below = tag
			default:
				below = path + "." + tag
			}
			collect(field.Type, below, tag, inside, found)
		}
	}
}

// looksLikeAReference is by the names that Kubernetes APIs give to references. It is meant to be too wide: what it finds
// and the table does not have must be in notFollowed, with a reason.
var looksLikeAReference = regexp.MustCompile(`(?i)(name|ref|claim|secret|configmap|source|network|account|class|template|volume|image|stream|args|pod|namespace|node|headers)s?$`)

func isReference(l leaf) bool {
	return !strings.HasPrefix(l.path, "metadata.") && looksLikeAReference.MatchString(l.name)
}
