package cli

import (
	"fmt"
	"strings"

	"k8s.io/apimachinery/pkg/runtime/schema"

	"velero-plugin-for-kubevirt/pkg/kubevirt"
)

// kindNames are what a person may call the kinds that a command can start from: singular, and short.
var kindNames = map[string]schema.GroupResource{
	"vm": kubevirt.VirtualMachines, "virtualmachine": kubevirt.VirtualMachines,
	"vmi": kubevirt.VirtualMachineInstances, "virtualmachineinstance": kubevirt.VirtualMachineInstances,
	"vmirs": kubevirt.VirtualMachineInstanceReplicaSets, "virtualmachineinstancereplicaset": kubevirt.VirtualMachineInstanceReplicaSets,
	"vmpool": kubevirt.VirtualMachinePools, "virtualmachinepool": kubevirt.VirtualMachinePools,
	"dv": kubevirt.DataVolumes, "datavolume": kubevirt.DataVolumes,
	"pvc": kubevirt.PersistentVolumeClaims, "persistentvolumeclaim": kubevirt.PersistentVolumeClaims,
}

// kindOf reads vm, vms, virtualmachine, virtualmachines, and each with its group: what "kubectl get -o name" prints.
func kindOf(text string) (schema.GroupResource, error) {
	name, group, grouped := strings.Cut(strings.ToLower(text), ".")
	resource, known := kindNames[name]
	if !known {
		resource, known = kindNames[strings.TrimSuffix(name, "s")]
	}
	if !known || (grouped && group != resource.Group) {
		return resource, fmt.Errorf("unknown kind %q: want vm, vmi, vmirs, vmpool, dv or pvc", text)
	}
	return resource, nil
}

// namesOf reads the objects that a person names in kubectl's ways: KIND/NAME …, or KIND NAME …. A NAME may be NAMESPACE/NAME, unless that contradicts the
// namespace of the flag; without both, the ID has no namespace. A KIND alone is all of that kind: an ID without a name.
func namesOf(args []string, givenNamespace string) ([]kubevirt.ID, error) {
	var kind string
	if len(args) > 0 && !strings.Contains(args[0], "/") {
		kind, args = args[0], args[1:]
		if resource, err := kindOf(kind); err != nil || len(args) == 0 {
			return []kubevirt.ID{{GroupResource: resource, Namespace: givenNamespace}}, err
		}
	}
	var ids []kubevirt.ID
	for _, arg := range args {
		kind, name := kind, arg
		if kind == "" {
			kind, name, _ = strings.Cut(arg, "/")
		}
		resource, err := kindOf(kind)
		if err != nil {
			return nil, err
		}
		id, err := nameIn(resource, name, givenNamespace)
		if err != nil {
			return nil, err
		}
		ids = append(ids, id)
	}
	return ids, nil
}

// nameIn reads NAME or NAMESPACE/NAME.
func nameIn(resource schema.GroupResource, text, givenNamespace string) (kubevirt.ID, error) {
	id := kubevirt.ID{GroupResource: resource, Namespace: givenNamespace, Name: text}
	if namespace, name, found := strings.Cut(text, "/"); found {
		id.Namespace, id.Name = namespace, name
	}
	switch {
	case id.Name == "" || strings.Contains(id.Name, "/") || (id.Namespace == "" && strings.Contains(text, "/")):
		return id, fmt.Errorf("%q is not NAME or NAMESPACE/NAME", text)
	case givenNamespace != "" && id.Namespace != givenNamespace:
		return id, fmt.Errorf("%q is in namespace %s, and --namespace says %s", text, id.Namespace, givenNamespace)
	}
	return id, nil
}
