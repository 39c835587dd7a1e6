package cli

import (
	"strings"
	"testing"
)

// Nothing of this asks a cluster.
func TestARollbackThatIsNotUnderstood(t *testing.T) {
	for arguments, want := range map[string]string{
		"nightly":                            "want BACKUP vm/NAME",
		"vm/web":                             "want BACKUP vm/NAME",
		"nightly vm/web vm/db":               "accepts between 1 and 2 arg(s)",
		"nightly dv/web":                     "want one VM",
		"nightly vm":                         "want one VM",
		"nightly pod/web":                    `unknown kind "pod"`,
		"vm/web --undo --finish":             "[undo finish]",
		"nightly vm/web --undo":              "unknown kind",
		"nightly vm/shop/web -n office":      "--namespace says office",
		"nightly vm/web --timeout yesterday": "must be a duration",
	} {
		code, _, said := run(append([]string{"rollback"}, strings.Fields(arguments)...)...)
		if code != exitUnknown || !strings.Contains(said, want) {
			t.Errorf("rollback %s: exit code %d, %q, want one that says %q", arguments, code, said, want)
		}
	}
}

func TestADrillThatIsNotUnderstood(t *testing.T) {
	for arguments, want := range map[string]string{
		"":                                "want the name of a backup",
		"nightly --from-schedule every":   "want the name of a backup",
		"nightly --wait-for boot":         "--wait-for: want running or agent",
		"nightly --network lan":           "must be formatted as key=value",
		"nightly -o wide":                 "table, json or yaml",
		"nightly --timeout yesterday":     "must be a duration",
		"nightly weekly":                  "accepts at most 1 arg(s)",
		"nightly --kubeconfig /not/there": "/not/there",
	} {
		code, _, said := run(append([]string{"drill"}, strings.Fields(arguments)...)...)
		if code != exitUnknown || !strings.Contains(said, want) {
			t.Errorf("drill %s: exit code %d, %q, want one that says %q", arguments, code, said, want)
		}
	}
}
