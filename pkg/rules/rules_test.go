package rules

import (
	"maps"
	"slices"
	"testing"

	"github.com/sirupsen/logrus"
	logtest "github.com/sirupsen/logrus/hooks/test"
	"k8s.io/apimachinery/pkg/runtime/schema"
	kyaml "sigs.k8s.io/yaml"

	"velero-plugin-for-kubevirt/pkg/kubevirt"
	"velero-plugin-for-kubevirt/pkg/options"
)

func read(t *testing.T, text string) map[string]any {
	t.Helper()
	var obj map[string]any
	if err := kyaml.Unmarshal([]byte(text), &obj); err != nil {
		t.Fatal(err)
	}
	return obj
}

// TestNothingToDo are items that look as if a rule had something to do for them. None is changed, and no rule says that it did anything.
func TestNothingToDo(t *testing.T) {
	asked := options.Source{Place: options.OnRestore, Labels: map[string]string{"velero.kubevirt.io/restore-run-strategy": "Halted"}}
	for name, c := range map[string]struct {
		resource schema.GroupResource
		in       Input
		item     string
	}{
		"a run strategy for a VM without a spec": {kubevirt.VirtualMachines, Input{Phase: Restore, Restore: asked}, `{metadata: {name: web}}`},
		"a revision for a VM without an instancetype": {kubevirt.VirtualMachines, Input{Phase: Restore, Original: map[string]any{
			"status": map[string]any{"instancetypeRef": map[string]any{"controllerRevisionRef": map[string]any{"name": "rev"}}},
		}}, `{spec: {template: {spec: {}}}}`},
		"a revision of something without a kind": {kubevirt.ControllerRevisions, Input{Phase: Restore}, `{data: {apiVersion: instancetype.kubevirt.io/v1beta1}}`},
		"a list of what the VM needs that is there": {kubevirt.VirtualMachineInstances, Input{Phase: Backup},
			`{metadata: {annotations: {velero.kubevirt.io/additional-items: "[]"}}, spec: {}}`},
		"a source that is noted": {kubevirt.DataVolumes, Input{Phase: Backup, DataSource: map[string]any{
			"metadata": map[string]any{"namespace": "golden"}, "spec": map[string]any{"source": map[string]any{"pvc": map[string]any{"name": "linux"}}},
		}}, `{metadata: {annotations: {velero.kubevirt.io/resolved-source: '{"pvc":{"name":"linux","namespace":"golden"}}'}}, status: {phase: Succeeded}}`},
		"a pod that carries CDI's label alone":     {kubevirt.Pods, Input{Phase: Restore}, `{metadata: {labels: {app: containerized-data-importer}}}`},
		"a pod that carries another app's label":   {kubevirt.Pods, Input{Phase: Restore}, `{metadata: {labels: {app: other, cdi.kubevirt.io: importer}}}`},
		"a disk of which the backup has the claim": {kubevirt.VirtualMachines, Input{Phase: Restore, Original: listing(`["persistentvolumeclaims/shop/root"]`)}, vmWithTemplate},
		"a disk of which the backup has the DataVolume": {kubevirt.VirtualMachines, Input{Phase: Restore,
			Original: listing(`["datavolumes.cdi.kubevirt.io/shop/root"]`)}, vmWithTemplate},
	} {
		t.Run(name, func(t *testing.T) {
			item := read(t, c.item)
			applied, err := Run(c.resource, item, c.in)
			if err != nil || len(applied) != 0 {
				t.Errorf("applied %+v, %v", applied, err)
			}
		})
	}
}

const vmWithTemplate = `{metadata: {namespace: shop, name: web}, spec: {dataVolumeTemplates: [{metadata: {name: root}}], template: {spec: {}}}}`

func listing(items string) map[string]any {
	return map[string]any{"metadata": map[string]any{"annotations": map[string]any{"velero.kubevirt.io/additional-items": items}}}
}

// TestARevisionIsNamedOnlyIfItIsOfTheTypeThatTheVMNames: KubeVirt rejects one of another type.
func TestARevisionIsNamedOnlyIfItIsOfTheTypeThatTheVMNames(t *testing.T) {
	for current, want := range map[string]any{"": "rev", "large": "rev", "Large": "rev", "small": nil} {
		vm := read(t, `{spec: {instancetype: {name: large}, template: {spec: {}}}}`)
		ref := map[string]any{"controllerRevisionRef": map[string]any{"name": "rev"}}
		if current != "" {
			ref["name"] = current
		}
		if _, err := Run(kubevirt.VirtualMachines, vm, Input{Phase: Restore, Original: map[string]any{"status": map[string]any{"instancetypeRef": ref}}}); err != nil {
			t.Fatal(err)
		}
		if got := vm["spec"].(map[string]any)["instancetype"].(map[string]any)["revisionName"]; got != want {
			t.Errorf("while the status speaks of %q the revision is %v, want %v", current, got, want)
		}
	}
	wrong := read(t, `{spec: {instancetype: {name: large}}}`)
	_, err := pinRevision(wrong, read(t, `{status: {instancetypeRef: {name: 7, controllerRevisionRef: {name: rev}}}}`), "instancetype")
	if err == nil {
		t.Error("a name that is a number is no error")
	}
}

// TestWhatIsDoneIsToldOnce applies a rule twice: each edit is told, and the second time there is none.
func TestWhatIsDoneIsToldOnce(t *testing.T) {
	noted := map[string]map[string]any{"vmsnapshot-1-volume-root": {"driver": "csi"}}
	text := `{"vmsnapshot-1-volume-root": {"driver": "csi"}}`
	original := map[string]any{"metadata": map[string]any{"annotations": map[string]any{kubevirt.VolumeSnapshotsOnStorage: text}}}
	for name, in := range map[string]Input{
		volumeSnapshotsPath: {Phase: Backup, VolumeSnapshots: noted},
		"metadata.annotations[" + kubevirt.RestoreStatus + "]": {Phase: Restore, Original: original, Resource: kubevirt.VirtualMachineSnapshotContents},
	} {
		content := map[string]any{}
		for _, want := range []bool{true, false} {
			result, err := vmSnapshotContent.Apply(content, in)
			if err != nil {
				t.Fatal(err)
			}
			if told := slices.ContainsFunc(result.Changes, func(c Change) bool { return c.Path == name }); told != want {
				t.Errorf("%s: told %t, want %t: %v", name, told, want, result.Changes)
			}
		}
	}
}

func TestVolumeSnapshotsOfAVMSnapshotAreKnownByTheirNames(t *testing.T) {
	for name, want := range map[string]bool{"vmsnapshot-1-volume-root": true, "vmsnapshot-of-mine": false, "my-volume-snapshot": false} {
		original := map[string]any{"metadata": map[string]any{"name": name}}
		result, err := vmSnapshotVolume.Apply(nil, Input{Phase: Restore, Original: original, Resource: kubevirt.VolumeSnapshots})
		if err != nil || (result.LeaveOut != "") != want {
			t.Errorf("%s: %q, %v", name, result.LeaveOut, err)
		}
	}
}

func TestEveryNodePinIsFound(t *testing.T) {
	pins, err := NodePins(kubevirt.VirtualMachineInstances, read(t, `
spec:
  affinity: {nodeAffinity: {requiredDuringSchedulingIgnoredDuringExecution: {nodeSelectorTerms: [{matchExpressions: [
    {key: disk, operator: In, values: [ssd]},
    {key: topology.kubernetes.io/zone, operator: NotIn, values: [a]},
    {key: topology.kubernetes.io/zone, operator: In, values: [b, c]}]}]}}}
`))
	if err != nil || len(pins) != 1 || pins[0].label != "topology.kubernetes.io/zone" || !slices.Equal(pins[0].values, []string{"b", "c"}) {
		t.Errorf("%+v, %v", pins, err)
	}
}

func TestIdentifiers(t *testing.T) {
	const derived = "d32ff544-f682-571b-8677-3762f07ab8a4" // KubeVirt's for the name web
	for name, c := range map[string]struct {
		resource schema.GroupResource
		item     string
		want     []Identifier
	}{
		"a VM without a UUID":       {kubevirt.VirtualMachines, `{metadata: {name: web}, spec: {template: {spec: {domain: {}}}}}`, []Identifier{{FirmwareUUID, derived}}},
		"a VM with one":             {kubevirt.VirtualMachines, `{metadata: {name: web}, spec: {template: {spec: {domain: {firmware: {uuid: AB}}}}}}`, []Identifier{{FirmwareUUID, "ab"}}},
		"an instance without one":   {kubevirt.VirtualMachineInstances, `{metadata: {name: web}, spec: {domain: {}}}`, nil},
		"an instance that runs":     {kubevirt.VirtualMachineInstances, `{spec: {domain: {}}, status: {interfaces: [{name: default, mac: "02:00:00:00:00:0A"}, {mac: "02:00:00:00:00:0b"}]}}`, []Identifier{{MACAddress, "02:00:00:00:00:0a"}}},
		"a serial and an address":   {kubevirt.VirtualMachineInstances, `{spec: {domain: {firmware: {serial: S}, devices: {interfaces: [{macAddress: 02-00-00-00-00-01}]}}}}`, []Identifier{{MACAddress, "02:00:00:00:00:01"}, {FirmwareSerial, "S"}}},
		"an address that is none":   {kubevirt.VirtualMachineInstances, `{spec: {domain: {devices: {interfaces: [{macAddress: x}]}}}}`, []Identifier{{MACAddress, "x"}}},
		"a name without an address": {kubevirt.VirtualMachineInstances, `{spec: {domain: {}}, status: {interfaces: [{name: default}]}}`, nil},
	} {
		t.Run(name, func(t *testing.T) {
			if got, err := Identifiers(c.resource, read(t, c.item)); err != nil || !slices.Equal(got, c.want) {
				t.Errorf("%v, %v", got, err)
			}
		})
	}
}

// TestJSONThatIsNotMappedStaysAsItIsWritten: its owner wrote it.
func TestJSONThatIsNotMappedStaysAsItIsWritten(t *testing.T) {
	mapping := map[string]string{"shop": "staging"}
	for value, want := range map[string]string{
		`[ {"name": "net"} ]`:                         `[ {"name": "net"} ]`,
		`[ {"name": "net", "namespace": "shop"} ]`:    `[{"name":"net","namespace":"staging"}]`,
		`[{"name": "shop/net"}, {"name": "other/a"}]`: `[{"name":"staging/net"},{"name":"other/a"}]`,
	} {
		if got := mapNetworks(value, mapping); got != want {
			t.Errorf("%s becomes %s", value, got)
		}
	}
}

func TestWhatIsRoutineIsForThoseWhoDebug(t *testing.T) {
	for routine, want := range map[bool]logrus.Level{true: logrus.DebugLevel, false: logrus.InfoLevel} {
		log, hook := logtest.NewNullLogger()
		log.SetLevel(logrus.DebugLevel)
		Log(log, kubevirt.ID{Name: "web"}, []Applied{{Rule: "r", Routine: routine, Result: Result{Changes: []Change{{Path: "p", What: "changed"}}}}})
		if entry := hook.LastEntry(); entry == nil || entry.Level != want || !maps.Equal(entry.Data, logrus.Fields{"rule": "r", "item": "/web", "path": "p"}) {
			t.Errorf("%+v", entry)
		}
	}
}

func TestWhatStartsByItself(t *testing.T) {
	for spec, want := range map[string]bool{
		`{runStrategy: Always}`: true, `{runStrategy: RerunOnFailure}`: true, `{runStrategy: Once}`: true, `{running: true}`: true,
		`{runStrategy: Halted}`: false, `{runStrategy: Manual}`: false, `{running: false}`: false,
	} {
		if got, err := StartsByItself(map[string]any{"spec": read(t, spec)}); err != nil || got != want {
			t.Errorf("%s: %v, %v", spec, got, err)
		}
	}
}
