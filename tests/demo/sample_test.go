package main

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

const printedOnce = `$ velero backup create demo-20261124-121003 --wait
  completed  in 6.6 s, 0 errors, 0 warnings
  left out
    pods/shop/virt-launcher-web-2gxsr                                              KubeVirt makes a new one
    controllerrevisions.apps/shop/revision-start-vm-05b97ced-18f3-44f1-a62c-4fe50d977991-1  KubeVirt writes a new one
`

func TestTheSampleMayDifferInTimesAndNamesOnly(t *testing.T) {
	path := filepath.Join(t.TempDir(), "README.md")
	if err := os.WriteFile(path, []byte("before\n<!-- demo -->\n```\nold\n```\n<!-- end -->\nafter\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	if checkSample(path, printedOnce) == nil {
		t.Error("an old sample is taken for current")
	}
	if err := writeSample(path, printedOnce); err != nil {
		t.Fatal(err)
	}
	text, err := os.ReadFile(path)
	if want := "before\n<!-- demo -->\n```\n" + printedOnce + "```\n<!-- end -->\nafter\n"; err != nil || string(text) != want {
		t.Errorf("written: %q, %v", text, err)
	}
	again := strings.NewReplacer("20261124-121003", "20261225-000000", "6.6 s", "11.0 s", "2gxsr ", "abcde", "05b97ced", "00000000").Replace(printedOnce)
	if err := checkSample(path, again); err != nil {
		t.Error(err)
	}
	for what, changed := range map[string]string{
		"a line less":      strings.Replace(printedOnce, "  left out\n", "", 1),
		"another number":   strings.Replace(printedOnce, "0 warnings", "1 warnings", 1),
		"another sentence": strings.Replace(printedOnce, "KubeVirt makes", "CDI makes", 1),
	} {
		if checkSample(path, changed) == nil {
			t.Errorf("%s: not noticed", what)
		}
	}
}
