package graph

import (
	"fmt"
	"reflect"
	"regexp"
	"slices"
	"strings"
	"testing"

	"k8s.io/apimachinery/pkg/runtime/schema"

	"velero-plugin-for-kubevirt/pkg/kubevirt"
)

// notFollowed says why a field that looks like a reference is not one of the table. The patterns match the end of a path.
var notFollowed = []struct{ pattern, reason string }{
	// Names of parts of the same object.
	{`(disks|filesystems|interfaces|inputs|gpus|hostDevices|networks|volumes|utilityVolumes|resourceClaims|ports|features|options|httpHeaders)\[\]\.name`, "names a part of the object itself"},
	{`(sound|watchdog)\.name`, "names a part of the object itself"},
	{`(gpus|hostDevices)\[\]\.(claimName|requestName)`, "names an entry of resourceClaims, which is followed"},
	{`networks\[\]\.resourceClaim\.(claimName|requestName)`, "names an entry of resourceClaims, which is followed"},
	{`acpi\.(msdm|slic)NameRef`, "names a volume, whose secret is followed"},
	{`downwardAPI\.fields\[\]\.resourceFieldRef\.(containerName|resource)`, "names a container of the launcher pod"},
	{`inferFromVolume`, "names a volume, and is resolved when the VM is created"},
	{`status\.volumeSnapshotStatuses\[\]\.name|volumeStatus\[\]\.name|migratedVolumes\[\]\.volumeName|backupStatus\.volumes\[\]\.volumeName`, "names a volume of the spec"},
	{`volumeRequests\[\]\.(add|remove)VolumeOptions\.(disk\.)?name`, "names a volume of the spec"},
	{`status\.interfaces\[\]\.(name|infoSource|interfaceName|podInterfaceName)`, "names an interface of the guest"},
	// Looked up by something better than this field.
	{`(instancetype|preference)\.name|(instancetypeRef|preferenceRef)\.name`, "looked up together with its kind"},
	{`interfaces\[\]\.binding\.name`, "looked up in the KubeVirt configuration"},
	{`(pvc|storage)\.dataSource(Ref)?\.(name|namespace)`, "looked up together with its kind, while a DataVolume is not filled"},
	{`status\.activePods\{\}|(source|target)Pod|(source|target)State\.pod|hotplugVolume\.attachPodName`, "pods are looked up by UID"},
	{`(source|target)PersistentStatePVCName|(source|target)State\.persistentStatePVCName`, "backend storage is looked up by its label"},
	{`(pvc|snapshot|dataSource|sourceRef)\.namespace`, "stands beside a name that is followed"},
	// Outside the cluster, or part of what a cluster offers.
	{`(container|containerDisk)\.image`, "an image, outside the cluster"},
	{`kernelArgs|dhcpOptions\.(bootFileName|tftpServerName)|hostname|guestOSInfo\.(name|prettyName)|(targetF|f)ileName|domainName|checkpointName`, "text of the guest or the host"},
	{`http\.extraHeaders\[\]`, "text of a request"},
	{`deviceName`, "a device that nodes offer"},
	{`schedulerName|nodeName|evacuationNodeName|(source|target)Node|(source|target)State\.node|qosClass`, "a node, or what runs on it"},
	{`(storageClassName|volumeAttributesClassName)`, "storage classes belong to the target cluster"},
	{`(pvc|storage)\.volumeName`, "the PersistentVolume comes with its PVC"},
	{`(podAffinityTerm\.)?namespaces\[\]|domainNamespace`, "a namespace to look for other pods in"},
	{`migrationPolicyName|migrationConfiguration\.network`, "settings of the cluster for migrations"},
	{`secrets\[\]\.(name|namespace)`, "a token that Kubernetes makes anew"},
	// Must not come along.
	{`utilityVolumes\[\]\.claimName`, "a scratch disk of a running operation"},
	{`backupStatus\.backupName|virtualMachineRevisionName`, "belongs to a running VM; KubeVirt makes it anew"},
	{`spec\.targetClaim`, "points back at the PVC that names the source"},
	{`(spec|status)\.source\.(pvc|snapshot)\.(name|namespace)`, "an image that many share; a VM that was cloned from it does not need it any more"},
	{`status\.source\.dataSource\.(name|namespace)`, "a copy of the spec"},
	{`[mM]etadata\.(name|generateName|namespace|managedFields\[\]\.subresource|ownerReferences\[\]\.name)`, "metadata of an object that KubeVirt makes"},
}

// wholeKinds are the kinds that nothing is followed from.
var wholeKinds = map[string]string{
	"VirtualMachineInstanceMigration":   "an operation: it must not run again",
	"VirtualMachineSnapshot":            "an operation: it must not run again",
	"VirtualMachineSnapshotContent":     "belongs to a snapshot, which must not be taken again",
	"VirtualMachineRestore":             "an operation: it must not run again",
	"VirtualMachineExport":              "an operation: it must not run again",
	"VirtualMachineClone":               "an operation: it must not run again",
	"VirtualMachineBackup":              "an operation: it must not run again",
	"VirtualMachineBackupTracker":       "points into a disk that the restore replaces",
	"KubeVirt":                          "the installation itself",
	"MigrationPolicy":                   "selects by label; a setting of the cluster",
	"Plugin":                            "a setting of the cluster",
	"VirtualMachineInstancetype":        "names devices and nodes of the cluster",
	"VirtualMachineClusterInstancetype": "names devices and nodes of the cluster",
	"VirtualMachinePreference":          "names a storage class, which belongs to the target cluster",
	"VirtualMachineClusterPreference":   "names a storage class, which belongs to the target cluster",
	"DataImportCron":                    "imports images that can be imported again; its secrets are in a backup of its namespace",
	"VolumeUploadSource":                "names nothing but the PVC that names it",
	"VolumeCloneSource":                 "lives beside the PVC that is cloned, and is made anew",
	"ObjectTransfer":                    "an operation: it must not run again",
	"StorageProfile":                    "a setting of the cluster",
	"CDI":                               "the installation itself",
	"CDIConfig":                         "the installation itself",
}

// resolve returns the type that a path leads to in an API type.
func resolve(t reflect.Type, path string) (reflect.Type, error) {
	for _, step := range strings.Split(path, ".") {
		name, isList := strings.CutSuffix(step, "[]")
		for t.Kind() == reflect.Pointer {
			t = t.Elem()
		}
		field, found := fieldNamed(t, name)
		if !found {
			return nil, fmt.Errorf("%s has no field %q", t, name)
		}
		if t = field; isList {
			if t.Kind() != reflect.Slice {
				return nil, fmt.Errorf("%q is a %s, not a list", name, t.Kind())
			}
			t = t.Elem()
		}
	}
	for t.Kind() == reflect.Pointer {
		t = t.Elem()
	}
	return t, nil
}

func fieldNamed(t reflect.Type, name string) (reflect.Type, bool) {
	if t.Kind() != reflect.Struct {
		return nil, false
	}
	for i := range t.NumField() {
		field := t.Field(i)
		tag, _, _ := strings.Cut(field.Tag.Get("json"), ",")
		if tag == name {
			return field.Type, true
		}
		if tag == "" && field.Anonymous {
			embedded := field.Type
			for embedded.Kind() == reflect.Pointer {
				embedded = embedded.Elem()
			}
			if found, ok := fieldNamed(embedded, name); ok {
				return found, true
			}
		}
	}
	return nil, false
}

// unresolved lists the references whose path leads nowhere, or not to a string, and those whose optional is no boolean.
func unresolved(table []Reference) []string {
	var wrong []string
	for _, reference := range table {
		for kind, prefix := range reference.From {
			path := strings.TrimPrefix(prefix+"."+reference.Path, ".")
			api, known := referrers[kind]
			if !known {
				wrong = append(wrong, fmt.Sprintf("%s: its Go type is not in referrers", kind))
				continue
			}
			t, err := resolve(reflect.TypeOf(api), path)
			if err != nil || t.Kind() != reflect.String {
				wrong = append(wrong, fmt.Sprintf("%s %s: %v %v", kind, path, t, err))
			}
			if reference.OptionalIf == "" {
				continue
			}
			beside := path[:strings.LastIndexByte(path, '.')+1] + reference.OptionalIf
			if t, err := resolve(reflect.TypeOf(api), beside); err != nil || t.Kind() != reflect.Bool {
				wrong = append(wrong, fmt.Sprintf("%s %s: %v %v", kind, beside, t, err))
			}
		}
	}
	return wrong
}

// undecided lists the fields of an API type that look like references and are neither in the table nor in notFollowed.
func undecided(kind schema.GroupResource, api any) []string {
	var paths []string
	for _, reference := range references {
		if prefix, embeds := reference.From[kind]; embeds {
			paths = append(paths, strings.TrimPrefix(prefix+"."+reference.Path, "."))
		}
	}
	var open []string
	for _, l := range leaves(reflect.TypeOf(api)) {
		if !isReference(l) || slices.Contains(paths, l.path) || reasonFor(l.path) != "" {
			continue
		}
		open = append(open, kind.Resource+" "+l.path)
	}
	return open
}

func reasonFor(path string) string {
	for _, rule := range notFollowed {
		if regexp.MustCompile(`(^|\.)(` + rule.pattern + `)$`).MatchString(path) {
			return rule.reason
		}
	}
	return ""
}

func TestEveryPathOfTheTableIsInTheAPI(t *testing.T) {
	for _, wrong := range unresolved(references) {
		t.Error(wrong)
	}
}

func TestEveryReferenceOfTheAPIIsDecided(t *testing.T) {
	for kind, api := range referrers {
		for _, open := range undecided(kind, api) {
			t.Errorf("%s: put it into the table, or into notFollowed with a reason", open)
		}
	}
	for _, api := range others {
		if wholeKinds[reflect.TypeOf(api).Name()] == "" {
			t.Errorf("%T: say in wholeKinds why nothing is followed from it", api)
		}
	}
}

// A reason that fits no field is a leftover, and may hide a field to come.
func TestEveryReasonIsNeeded(t *testing.T) {
	for _, rule := range notFollowed {
		pattern := regexp.MustCompile(`(^|\.)(` + rule.pattern + `)$`)
		used := false
		for _, api := range referrers {
			used = used || slices.ContainsFunc(leaves(reflect.TypeOf(api)), func(l leaf) bool { return isReference(l) && pattern.MatchString(l.path) })
		}
		if !used {
			t.Errorf("no field ends in %s", rule.pattern)
		}
	}
}

// The tests above must be able to fail.
func TestAWrongPathAndAMissingFieldAreFound(t *testing.T) {
	wrong := []Reference{
		{From: vmiSpec, Path: "volumes[].configMap.nmae", To: kubevirt.ConfigMaps},
		{From: vmiSpec, Path: "volumes.configMap.name", To: kubevirt.ConfigMaps},
		{From: vm, Path: "spec.template", To: kubevirt.ConfigMaps},
		{From: vm, Path: "spec.template.spec.volumes[].configMap.name", To: kubevirt.ConfigMaps, OptionalIf: "maybe"},
	}
	if found := unresolved(wrong); len(found) != 2*len(vmiSpec)+2 {
		t.Errorf("want %d errors, got %q", 2*len(vmiSpec)+2, found)
	}
	type tomorrow struct {
		Spec struct {
			Passwords []struct {
				SecretName string `json:"secretName"`
			} `json:"passwords"`
		} `json:"spec"`
	}
	if found := undecided(kubevirt.VirtualMachines, tomorrow{}); !slices.Equal(found, []string{"virtualmachines spec.passwords[].secretName"}) {
		t.Errorf("got %q", found)
	}
}
