package kubevirt

import (
	"testing"

	export "kubevirt.io/api/export/v1beta1"
	pool "kubevirt.io/api/pool/v1beta1"
)

func TestWordsAreThoseOfTheAPI(t *testing.T) {
	for ours, theirs := range map[string]string{
		ExporterRole:  export.App,
		PoolFinalizer: pool.VirtualMachinePoolControllerFinalizer,
	} {
		if ours != theirs {
			t.Errorf("we say %q, the API %q", ours, theirs)
		}
	}
}
