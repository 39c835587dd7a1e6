package cli

import (
	"slices"
	"strings"
	"testing"

	"velero-plugin-for-kubevirt/pkg/kubevirt"
)

func TestNamesAreReadAsKubectlReadsThem(t *testing.T) {
	web := kubevirt.ID{GroupResource: kubevirt.VirtualMachines, Namespace: "shop", Name: "web"}
	db := kubevirt.ID{GroupResource: kubevirt.VirtualMachines, Namespace: "shop", Name: "db"}
	bare := kubevirt.ID{GroupResource: kubevirt.VirtualMachines, Name: "web"}
	disk := kubevirt.ID{GroupResource: kubevirt.DataVolumes, Namespace: "shop", Name: "web"}
	for _, given := range []struct {
		args      string
		namespace string
		want      []kubevirt.ID
	}{
		{"", "shop", nil},
		{"vm", "", []kubevirt.ID{{GroupResource: kubevirt.VirtualMachines}}},
		{"VMs", "shop", []kubevirt.ID{{GroupResource: kubevirt.VirtualMachines, Namespace: "shop"}}},
		{"vm web", "", []kubevirt.ID{bare}},
		{"vm/web", "", []kubevirt.ID{bare}},
		{"vm shop/web shop/db", "", []kubevirt.ID{web, db}},
		{"vm/web dv/web", "shop", []kubevirt.ID{web, disk}},
		{"virtualmachine.kubevirt.io/web", "shop", []kubevirt.ID{web}},
		{"vm/shop/web", "shop", []kubevirt.ID{web}},
	} {
		got, err := namesOf(strings.Fields(given.args), given.namespace)
		if err != nil || !slices.Equal(got, given.want) {
			t.Errorf("%q in %q: %v, %v", given.args, given.namespace, got, err)
		}
	}
}

func TestNamesThatAreNone(t *testing.T) {
	for _, mistake := range []struct{ args, want string }{
		{"vm other/web", `"other/web" is in namespace other, and --namespace says shop`},
		{"vm/", `"" is not NAME`},
		{"vm /web", `"/web" is not NAME`},
		{"vm/a/b/c", `"a/b/c" is not NAME`},
		{"vm/web web", `unknown kind "web"`},
		{"table", `unknown kind "table"`},
		{"virtualmachine.example.com/web", `unknown kind "virtualmachine.example.com"`},
	} {
		if got, err := namesOf(strings.Fields(mistake.args), "shop"); err == nil || !strings.Contains(err.Error(), mistake.want) {
			t.Errorf("%q: %v, %v", mistake.args, got, err)
		}
	}
}
