package drill

import (
	"encoding/json"

	virtv1 "kubevirt.io/api/core/v1"

	"velero-plugin-for-kubevirt/pkg/kubevirt"
	"velero-plugin-for-kubevirt/pkg/object"
)

// cutOff returns a merge patch that takes the Multus networks of a stopped VM away, or puts others in their place, and starts it. The pod network stays: the
// scratch namespace's NetworkPolicy lets nothing through it.
func cutOff(vm map[string]any, instead map[string]string) ([]byte, error) {
	spec, err := object.Map(vm, "spec.template.spec")
	if err != nil {
		return nil, err
	}
	networks, gone, err := networksOf(spec, instead)
	if err != nil {
		return nil, err
	}
	interfaces, err := object.Find(spec, "domain.devices.interfaces[]")
	if err != nil {
		return nil, err
	}
	kept := []any{}
	for _, field := range interfaces {
		if nic, _ := field.Value.(map[string]any); !gone[nic["name"]] {
			kept = append(kept, field.Value)
		}
	}
	template := map[string]any{"metadata": map[string]any{"annotations": map[string]any{kubevirt.MultusNetworks: nil, kubevirt.MultusDefaultNetwork: nil}}}
	if len(gone) > 0 || len(instead) > 0 {
		template["spec"] = map[string]any{"networks": networks, "domain": map[string]any{"devices": map[string]any{"interfaces": kept}}}
	}
	return json.Marshal(map[string]any{"spec": map[string]any{"running": nil, "runStrategy": string(virtv1.RunStrategyAlways), "template": template}})
}

// networksOf returns the networks that stay, and the names of those that go.
func networksOf(spec map[string]any, instead map[string]string) (stay []any, gone map[any]bool, err error) {
	found, err := object.Find(spec, "networks[]")
	if err != nil {
		return nil, nil, err
	}
	stay, gone = []any{}, map[any]bool{}
	for _, field := range found {
		network, err := object.Map(map[string]any{"network": field.Value}, "network")
		if err != nil {
			return nil, nil, err
		}
		multus, err := object.Map(network, "multus")
		if err != nil {
			return nil, nil, err
		}
		if multus == nil {
			stay = append(stay, network)
			continue
		}
		name, _ := multus["networkName"].(string)
		if other := instead[name]; other != "" {
			multus["networkName"] = other
			stay = append(stay, network)
		} else {
			gone[network["name"]] = true
		}
	}
	return stay, gone, nil
}
