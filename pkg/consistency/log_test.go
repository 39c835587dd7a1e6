package consistency

import (
	"testing"
	"time"

	"github.com/sirupsen/logrus"
	logtest "github.com/sirupsen/logrus/hooks/test"

	"velero-plugin-for-kubevirt/pkg/kubevirt"
)

func TestOneLineForEachVerdict(t *testing.T) {
	crash := Verdict{Level: Crash, Findings: []Finding{{Reason: Paused}}}
	for name, c := range map[string]struct {
		verdict Verdict
		asked   Asked
		level   logrus.Level
		window  any
	}{
		"consistent":                   {Verdict{Level: Filesystem}, Asked{}, logrus.InfoLevel, "1.5s"},
		"stopped":                      {Verdict{Level: Offline}, Asked{}, logrus.InfoLevel, nil},
		"paused":                       {crash, Asked{}, logrus.WarnLevel, nil},
		"paused, which is an error":    {crash, Asked{Required: true}, logrus.ErrorLevel, nil},
		"the objects alone are wanted": {crash, Asked{ObjectsOnly: true}, logrus.InfoLevel, nil},
		"no snapshots":                 {Verdict{Level: Crash, Findings: []Finding{{Reason: SnapshotDisabled}}}, Asked{}, logrus.InfoLevel, nil},
		"a disk is missing":            {Verdict{Level: Crash, Findings: []Finding{{Reason: DiskNotSnapshotted}}}, Asked{}, logrus.WarnLevel, nil},
	} {
		t.Run(name, func(t *testing.T) {
			log, hook := logtest.NewNullLogger()
			c.verdict.Log(log, kubevirt.ID{GroupResource: kubevirt.VirtualMachines, Namespace: "shop", Name: "web"}, Measured{Window: 1500 * time.Millisecond}, c.asked)
			entry := hook.LastEntry()
			if entry == nil || entry.Level != c.level || entry.Data["window"] != c.window || entry.Data["item"] != "virtualmachines.kubevirt.io/shop/web" {
				t.Fatalf("%+v", entry)
			}
			if _, said := entry.Data["error"]; said == c.verdict.Good() {
				t.Errorf("what speaks against the VM: %v", entry.Data)
			}
		})
	}
}
