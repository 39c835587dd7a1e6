package vm

import (
	"testing"

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
