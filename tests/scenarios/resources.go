package scenarios

import (
	velerov1 "github.com/vmware-tanzu/velero/pkg/apis/velero/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
)

// resources says under which resource each kind in the scenarios is found.
var resources = map[string]schema.GroupResource{
	"VirtualMachine":                    {Group: "kubevirt.io", Resource: "virtualmachines"},
	"VirtualMachineInstance":            {Group: "kubevirt.io", Resource: "virtualmachineinstances"},
	"DataVolume":                        {Group: "cdi.kubevirt.io", Resource: "datavolumes"},
	"VirtualMachineInstancetype":        {Group: "instancetype.kubevirt.io", Resource: "virtualmachineinstancetypes"},
	"VirtualMachinePreference":          {Group: "instancetype.kubevirt.io", Resource: "virtualmachinepreferences"},
	"VirtualMachineClusterInstancetype": {Group: "instancetype.kubevirt.io", Resource: "virtualmachineclusterinstancetypes"},
	"ControllerRevision":                {Group: "apps", Resource: "controllerrevisions"},
	"Namespace":                         {Resource: "namespaces"},
	"PersistentVolume":                  {Resource: "persistentvolumes"},
	"PersistentVolumeClaim":             {Resource: "persistentvolumeclaims"},
	"Pod":                               {Resource: "pods"},
	"Secret":                            {Resource: "secrets"},
	"ConfigMap":                         {Resource: "configmaps"},
	"ServiceAccount":                    {Resource: "serviceaccounts"},
}

// Resource returns the resource of an object of a scenario.
func Resource(obj *unstructured.Unstructured) (schema.GroupResource, bool) {
	resource, known := resources[obj.GetKind()]
	return resource, known
}

// Backup returns the Backup that a request is part of.
func Backup(request Request) *velerov1.Backup {
	backup := &velerov1.Backup{ObjectMeta: metav1.ObjectMeta{Namespace: "velero", Name: "nightly"}}
	if err := runtime.DefaultUnstructuredConverter.FromUnstructured(request.Backup, &backup.Spec); err != nil {
		panic(err) // a typo in request.yaml
	}
	return backup
}
