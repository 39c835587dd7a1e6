package cli

import (
	"encoding/json"
	"fmt"
	"io"

	"sigs.k8s.io/yaml"

	"velero-plugin-for-kubevirt/pkg/kubevirt"
)

// printForMachines prints a report as JSON or YAML, or the names of its VMs as "kubectl get -o name" does. It does nothing for the formats that people read.
func printForMachines(out io.Writer, format string, report any, vms []kubevirt.ID) (printed bool, err error) {
	var text []byte
	switch format {
	case "json":
		text, err = json.MarshalIndent(report, "", "  ")
		text = append(text, '\n')
	case "yaml":
		text, err = yaml.Marshal(report)
	case "name":
		for _, vm := range vms {
			text = fmt.Appendln(text, printable(singular(vm)+"."+vm.Group+"/"+vm.Name))
		}
	default:
		return false, nil
	}
	if err == nil {
		_, err = out.Write(text)
	}
	return true, err
}

// singular is the name of a guest's kind in small letters.
func singular(id kubevirt.ID) string { return id.Resource[:len(id.Resource)-1] }

// A tally counts VMs by what was found of them.
type tally struct {
	VMs     int `json:"vms"`
	Good    int `json:"good"`
	NotGood int `json:"notGood"`
	Unknown int `json:"unknown"`
}

func (t *tally) add(found state) {
	t.VMs++
	switch found {
	case good:
		t.Good++
	case bad:
		t.NotGood++
	case unknown:
		t.Unknown++
	}
}
