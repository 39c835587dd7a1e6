package drill

import (
	"encoding/json"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"sigs.k8s.io/yaml"
)

func read(t *testing.T, text string) map[string]any {
	t.Helper()
	var obj map[string]any
	if err := yaml.Unmarshal([]byte(text), &obj); err != nil {
		t.Fatal(err)
	}
	return obj
}

const connected = `
spec:
  template:
    spec:
      domain: {devices: {interfaces: [{name: default, masquerade: {}}, {name: lan, bridge: {}}, {name: san, sriov: {}}]}}
      networks: [{name: default, pod: {}}, {name: lan, multus: {networkName: home/lan}}, {name: san, multus: {networkName: san}}]`

func TestAVMIsCutOff(t *testing.T) {
	for name, c := range map[string]struct {
		vm      string
		instead map[string]string
		want    string // what the patch says of the spec, besides the annotations
	}{
		"networks are taken away": {connected, nil,
			`{networks: [{name: default, pod: {}}], domain: {devices: {interfaces: [{name: default, masquerade: {}}]}}}`},
		"one is put in the place of another": {connected, map[string]string{"home/lan": "sandbox/lan"},
			`{networks: [{name: default, pod: {}}, {name: lan, multus: {networkName: sandbox/lan}}],
			  domain: {devices: {interfaces: [{name: default, masquerade: {}}, {name: lan, bridge: {}}]}}}`},
		"only Multus": {`{spec: {template: {spec: {domain: {devices: {interfaces: [{name: lan}]}}, networks: [{name: lan, multus: {networkName: lan}}]}}}}`, nil,
			`{networks: [], domain: {devices: {interfaces: []}}}`},
		"no networks": {`{spec: {template: {spec: {domain: {devices: {}}}}}}`, nil, `null`},
	} {
		t.Run(name, func(t *testing.T) {
			patch, err := cutOff(read(t, c.vm), c.instead)
			if err != nil {
				t.Fatal(err)
			}
			want := map[string]any{"spec": map[string]any{"running": nil, "runStrategy": "Always", "template": map[string]any{
				"metadata": map[string]any{"annotations": map[string]any{"k8s.v1.cni.cncf.io/networks": nil, "v1.multus-cni.io/default-network": nil}},
			}}}
			if spec := read(t, c.want); spec != nil {
				want["spec"].(map[string]any)["template"].(map[string]any)["spec"] = spec
			}
			var got map[string]any
			if err := json.Unmarshal(patch, &got); err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(want, got); diff != "" {
				t.Error(diff)
			}
		})
	}
}

func TestWhoseAgentIsWaitedFor(t *testing.T) {
	for _, c := range []struct {
		options Options
		had     bool
		want    bool
	}{
		{Options{}, true, true}, {Options{}, false, false},
		{Options{WaitFor: Running}, true, false}, {Options{WaitFor: Agent}, false, true},
		{Options{WaitFor: Running, Exec: "true"}, false, true},
	} {
		if got := (&Run{Options: c.options}).wantsAgent(VM{HadAgent: c.had}); got != c.want {
			t.Errorf("%+v, had an agent: %v: waits for the agent: %v", c.options, c.had, got)
		}
	}
}

func TestWhatTheGuestSaysOfACommand(t *testing.T) {
	for text, want := range map[string]string{
		`{"exited": true, "exitcode": 0, "out-data": "cnVubmluZwo="}`:                             "",
		`{"exited": true, "exitcode": 1, "out-data": "ZGVncmFkZWQK", "err-data": "bm8KbG9nCg=="}`: `"check" in the guest: exit code 1: degraded no log`,
		`{"exited": true, "signal": 9}`:                                                           `"check" in the guest: signal 9: `,
	} {
		var status execStatus
		if err := json.Unmarshal([]byte(text), &status); err != nil {
			t.Fatal(err)
		}
		got := ""
		if err := status.judge("check"); err != nil {
			got = err.Error()
		}
		if got != want {
			t.Errorf("%s: %q, want %q", text, got, want)
		}
	}
}

func TestSummary(t *testing.T) {
	ended := time.Date(2026, 11, 24, 3, 0, 0, 0, time.FixedZone("", 3600))
	if text, passed := Summary([]Result{{Passed: true}, {Passed: true}}, ended); !passed || text != "passed 2026-11-24T02:00:00Z, 2 of 2" {
		t.Error(text, passed)
	}
	if text, passed := Summary([]Result{{Passed: true}, {}}, ended); passed || text != "failed 2026-11-24T02:00:00Z, 1 of 2" {
		t.Error(text, passed)
	}
}

func TestAnEventTakesLongReasons(t *testing.T) {
	if got := shorten(strings.Repeat("ä", 1000)); len(got) > 1024 || !strings.HasSuffix(got, "ä...") {
		t.Errorf("%d bytes, ends in %q", len(got), got[len(got)-6:])
	}
	if got := shorten("short"); got != "short" {
		t.Error(got)
	}
}
