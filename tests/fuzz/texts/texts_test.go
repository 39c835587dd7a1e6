// Package texts gives what reads texts, such as options and answers of guests, those that nobody would write.
package texts

import (
	"slices"
	"strings"
	"testing"
	"time"

	"velero-plugin-for-kubevirt/pkg/consistency"
	"velero-plugin-for-kubevirt/pkg/kubevirt"
	"velero-plugin-for-kubevirt/pkg/options"
)

// FuzzOptions: what is asked is one of the valid values, or an error that names the key.
func FuzzOptions(f *testing.F) {
	for _, option := range options.All {
		for _, value := range append(slices.Clone(option.Values), "", "TRUE", "1", "yes", "30s", "-1s", "1e3h") {
			f.Add(value, "", 0)
			f.Add("true", value, 3)
		}
	}
	f.Fuzz(func(t *testing.T, label, annotation string, which int) {
		option := options.All[uint(which)%uint(len(options.All))]
		for _, place := range option.Places {
			value, err := option.Value(options.Source{
				Place: place, Name: "shop/web", Labels: map[string]string{option.Key: label}, Annotations: map[string]string{option.Key: annotation},
				Data: map[string]string{strings.TrimPrefix(option.Key, options.Prefix): label},
			})
			duration, noDuration := time.ParseDuration(value)
			isDuration := option.Values == nil && noDuration == nil && duration > 0
			if err == nil && !isDuration && !slices.Contains(option.Values, value) {
				t.Fatalf("%s: %q, %q give %q", option.Key, label, annotation, value)
			}
			if err != nil && !strings.Contains(err.Error(), strings.TrimPrefix(option.Key, options.Prefix)) {
				t.Fatalf("%s: %v", option.Key, err)
			}
		}
	})
}

// FuzzGuestAnswer: a guest is frozen only if its agent's answer says so, in so many words.
func FuzzGuestAnswer(f *testing.F) {
	for _, printed := range []string{
		"virsh # {\"return\":\"frozen\"}\n", "virsh # qemu-agent-command shop_web '{}'\n{\"return\":\"thawed\"}\n", "error: argument unsupported", `{"return": "frozen`, `{"return":{}}`, "",
	} {
		f.Add(printed)
	}
	f.Fuzz(func(t *testing.T, printed string) {
		frozen, err := consistency.SaysFrozen(printed)
		if frozen && (err != nil || !strings.Contains(printed, `"frozen"`)) {
			t.Fatalf("%q, %v", printed, err)
		}
		if err == nil && !frozen && !strings.Contains(printed, `"thawed"`) {
			t.Fatalf("%q is taken for an answer", printed)
		}
	})
}

// FuzzID: an ID that is written is read as the same.
func FuzzID(f *testing.F) {
	f.Add("secrets/shop/key")
	f.Add("virtualmachines.kubevirt.io/shop/web")
	f.Add("nodes/n")
	f.Add("//")
	f.Fuzz(func(t *testing.T, text string) {
		id, err := kubevirt.ParseID(text)
		if err != nil {
			return
		}
		if again, err := kubevirt.ParseID(id.String()); err != nil || again != id {
			t.Fatalf("%q is %+v, then %+v, %v", text, id, again, err)
		}
	})
}
