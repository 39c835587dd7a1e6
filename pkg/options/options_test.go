package options

import (
	"maps"
	"slices"
	"strings"
	"testing"
	"time"
)

func on(place Place, labels, annotations map[string]string) Source {
	return Source{Place: place, Name: "velero/x", Labels: labels, Annotations: annotations}
}

func TestValue(t *testing.T) {
	identity := Identity.Key
	for name, c := range map[string]struct {
		option  Option
		sources []Source
		want    string
		err     []string // what the error names
	}{
		"not set":                {Identity, []Source{on(OnVM, nil, nil), on(OnRestore, nil, nil)}, Auto, nil},
		"by label":               {Identity, []Source{on(OnRestore, map[string]string{identity: Keep}, nil)}, Keep, nil},
		"by annotation":          {Identity, []Source{on(OnRestore, nil, map[string]string{identity: New})}, New, nil},
		"by ConfigMap":           {Identity, []Source{on(OnRestore, nil, nil), {Place: InConfig, Data: map[string]string{"identity": Keep}}}, Keep, nil},
		"the first source wins":  {Identity, []Source{on(OnVM, nil, map[string]string{identity: New}), on(OnRestore, map[string]string{identity: Keep}, nil)}, New, nil},
		"both say the same":      {Identity, []Source{on(OnRestore, map[string]string{identity: Keep}, map[string]string{identity: Keep})}, Keep, nil},
		"where it has no effect": {Pools, []Source{on(OnVM, map[string]string{Pools.Key: AsVMs}, nil)}, AsPool, nil},
		"label and annotation": {
			Identity, []Source{on(OnRestore, map[string]string{identity: Keep}, map[string]string{identity: New})}, "",
			[]string{"Restore velero/x", `label ` + identity + `: "keep"`, `annotation ` + identity + `: "new"`},
		},
		"a wrong value":           {Identity, []Source{on(OnRestore, map[string]string{identity: "clone"}, nil)}, "", []string{"Restore velero/x", identity, `"clone"`, "auto, keep, new"}},
		"a wrong value in config": {Identity, []Source{{Place: InConfig, Name: "velero/x", Data: map[string]string{"identity": "clone"}}}, "", []string{"ConfigMap velero/x", `"clone"`}},
		"no value":                {Consistency, []Source{on(OnBackup, map[string]string{Consistency.Key: ""}, nil)}, "", []string{`""`, "best-effort, required"}},
		"a run strategy":          {RunStrategy, []Source{on(OnRestore, map[string]string{RunStrategy.Key: "RerunOnFailure"}, nil)}, "RerunOnFailure", nil},
		"an unknown run strategy": {RunStrategy, []Source{on(OnRestore, map[string]string{RunStrategy.Key: "Stopped"}, nil)}, "", []string{`"Stopped"`, "Always, Halted, Manual, RerunOnFailure, Once, WaitAsReceiver"}},
		"true":                    {MetadataBackup, []Source{on(OnBackup, map[string]string{MetadataBackup.Key: "True"}, nil)}, "true", nil},
		"false":                   {MetadataBackup, []Source{on(OnBackup, map[string]string{MetadataBackup.Key: "false"}, nil)}, "false", nil},
		"no boolean":              {MetadataBackup, []Source{on(OnBackup, map[string]string{MetadataBackup.Key: "yes"}, nil)}, "", []string{`"yes"`, "true, false"}},
	} {
		t.Run(name, func(t *testing.T) {
			got, err := c.option.Value(c.sources...)
			checkError(t, err, c.err)
			if got != c.want {
				t.Errorf("got %q, want %q", got, c.want)
			}
		})
	}
}

func TestDuration(t *testing.T) {
	const byDefault = time.Minute
	for text, want := range map[string]time.Duration{"8s": 8 * time.Second, "1m30s": 90 * time.Second, "": byDefault} {
		labels := map[string]string{}
		if text != "" {
			labels[MaxFreeze.Key] = text
		}
		if got, err := MaxFreeze.Duration(byDefault, on(OnVM, labels, nil)); err != nil || got != want {
			t.Errorf("%q: %s, %v", text, got, err)
		}
	}
	for _, text := range []string{"0s", "-1s", "8", "soon"} {
		got, err := MaxFreeze.Duration(byDefault, on(OnVM, map[string]string{MaxFreeze.Key: text}, nil))
		checkError(t, err, []string{"velero/x", MaxFreeze.Key, `"` + text + `"`, "a duration above 0 such as 30s"})
		if got != byDefault {
			t.Errorf("%q: %s", text, got)
		}
	}
}

// What the API server would never store must not hide what it did.
func TestOfVM(t *testing.T) {
	vm := map[string]any{"metadata": map[string]any{
		"namespace": "shop", "name": "web",
		"labels":      map[string]any{"tier": 1},
		"annotations": map[string]any{Identity.Key: "clone", "broken": true},
	}}
	_, err := Identity.Value(OfVM(vm))
	checkError(t, err, []string{"VirtualMachine shop/web", "annotation " + Identity.Key, `"clone"`})
}

func TestIdentityFor(t *testing.T) {
	all := func(value string) IdentityChoice { return IdentityChoice{value, value, value} }
	keep, fresh := map[string]string{Identity.Key: Keep}, map[string]string{Identity.Key: New}
	mac, uuid := map[string]string{ClearMACAddress.Key: "true"}, map[string]string{NewFirmwareUUID.Key: "true"}
	for name, c := range map[string]struct {
		vm, restore, config map[string]string
		want                IdentityChoice
		err                 []string
	}{
		"nothing asked":              {nil, nil, nil, all(Auto), nil},
		"the older labels":           {nil, with(mac, uuid), nil, IdentityChoice{New, Auto, New}, nil},
		"the older labels, false":    {nil, map[string]string{ClearMACAddress.Key: "false", NewFirmwareUUID.Key: "0"}, nil, all(Auto), nil},
		"older label over ConfigMap": {nil, mac, map[string]string{"identity": Keep}, IdentityChoice{New, Keep, Keep}, nil},
		"ConfigMap":                  {nil, nil, map[string]string{"identity": New}, all(New), nil},
		"VM over Restore":            {keep, with(mac, fresh), nil, all(Keep), nil},
		"new and clear the MAC":      {nil, with(mac, fresh), nil, all(New), nil},
		"keep, but clear the MAC":    {nil, with(mac, keep), nil, IdentityChoice{}, []string{"Restore velero/x", `identity: "keep"`, `clear-mac-address: "true"`}},
		"keep, but a new UUID":       {nil, with(uuid, keep), nil, IdentityChoice{}, []string{`identity: "keep"`, `generate-new-firmware-uuid: "true"`}},
		"new, but not the MAC":       {nil, with(map[string]string{ClearMACAddress.Key: "false"}, fresh), nil, IdentityChoice{}, []string{`identity: "new"`, `clear-mac-address: "false"`}},
		"wrong on the VM":            {map[string]string{Identity.Key: "x"}, nil, nil, IdentityChoice{"", "", ""}, []string{"VirtualMachine velero/x"}},
		"wrong on the Restore":       {nil, map[string]string{Identity.Key: "x"}, nil, IdentityChoice{}, []string{"Restore velero/x"}},
		"wrong in the ConfigMap":     {nil, nil, map[string]string{"identity": "x"}, IdentityChoice{}, []string{"ConfigMap velero/x"}},
		"wrong older label":          {nil, map[string]string{ClearMACAddress.Key: "please"}, nil, IdentityChoice{}, []string{ClearMACAddress.Key, `"please"`}},
	} {
		t.Run(name, func(t *testing.T) {
			config := Source{Place: InConfig, Name: "velero/x", Data: c.config}
			got, err := IdentityFor(on(OnVM, nil, c.vm), on(OnRestore, c.restore, nil), config)
			checkError(t, err, c.err)
			if got != c.want {
				t.Errorf("got %v, want %v", got, c.want)
			}
		})
	}
}

// A label is a DNS prefix and a name; a default must be one of the values.
func TestOptionsAreWellFormed(t *testing.T) {
	for _, o := range All {
		if !strings.HasPrefix(o.Key, Prefix) || len(o.Places) == 0 || o.What == "" {
			t.Errorf("%s: incomplete", o.Key)
		}
		if o.Default != "" && !slices.Contains(o.Values, o.Default) {
			t.Errorf("%s: the default %q is not one of %v", o.Key, o.Default, o.Values)
		}
	}
}

func with(a, b map[string]string) map[string]string {
	both := maps.Clone(a)
	maps.Copy(both, b)
	return both
}

func checkError(t *testing.T, err error, want []string) {
	t.Helper()
	if (err != nil) != (want != nil) {
		t.Fatalf("error %v, want one with %q", err, want)
	}
	for _, part := range want {
		if !strings.Contains(err.Error(), part) {
			t.Errorf("error %q does not name %q", err, part)
		}
	}
}
