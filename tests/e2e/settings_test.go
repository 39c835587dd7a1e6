//go:build e2e

package e2e

import (
	"testing"
)

// settings are what the VM of settings.yaml names, and what it does not.
var settings = []struct {
	kind, name, key string
}{
	{"ConfigMap", "menu", "soup"}, {"ConfigMap", "answers", "autounattend.xml"},
	{"Secret", "recipe", "soup"}, {"Secret", "keys", "chef"}, {"Secret", "passwords", "chef"},
	{"ServiceAccount", "waiter", ""},
}

func TestWhatAVMIsSetUpWithComesBack(t *testing.T) {
	w := anywhere(t)
	w.create(t, "inn", "settings.yaml")
	before := map[string]string{}
	for _, setting := range settings {
		before[setting.name] = text(w.find(t, "v1", setting.kind, "inn")[setting.name], "data", setting.key)
	}
	w.backUpLoseRestore(t, "inn", "--selector", "app=kitchen")
	for _, setting := range settings {
		obj := w.find(t, "v1", setting.kind, "inn")[setting.name]
		if obj == nil || text(obj, "data", setting.key) != before[setting.name] {
			t.Errorf("%s %s came back as %v", setting.kind, setting.name, obj)
		}
	}
	if w.find(t, "v1", "ConfigMap", "inn")["unrelated"] != nil {
		t.Error("a ConfigMap came along that is not the VM's")
	}
}
