package guest

import (
	"testing"
	"time"
)

func TestTheTableCountsWrongVerdicts(t *testing.T) {
	good := Truth{Journal: 8, Database: 7, Integrity: "ok"}
	torn := Truth{Journal: 8, Database: 9, Integrity: "ok"}
	results := Results{Date: "2026-11-23", Backups: []Observation{
		{Situation: "calm", Verdict: "filesystem", Truth: good, Window: 2 * time.Second, Pause: 3 * time.Second, Storage: 100 * time.Millisecond, Asking: 40 * time.Millisecond},
		{Situation: "calm", Verdict: "filesystem", Truth: torn, Window: 4 * time.Second, Pause: 5 * time.Second, Storage: 200 * time.Millisecond, Asking: 60 * time.Millisecond},
		{Situation: "storm", Verdict: "crash", Reason: "HookFailed", Truth: torn},
	}}
	want := `| 2026-11-23: while the guest is backed up, | backups | verdict | snapshots consistent | verdict wrong |
|---|---|---|---|---|
| calm | 2 | ` + "`filesystem`: 2" + ` | 1 | 1 |
| storm | 1 | ` + "`crash` HookFailed: 1" + ` | 0 | 0 |

Frozen guests did not write for 5.0 s (median; 5.0 s at most) by their own clock. From the first snapshot's request to the last one's end the plugin measured 4.0 s (median; 4.0 s at most). The storage needed 0.2 s (median; 0.2 s at most) for the snapshots of both disks. To ask the guest took the plugin 60 ms (median; 60 ms at most).
`
	if got := results.Table(); got != want {
		t.Errorf("got:\n%s\nwant:\n%s", got, want)
	}
}

func TestWhatIsConsistent(t *testing.T) {
	for name, c := range map[string]struct {
		truth Truth
		want  bool
	}{
		"frozen":                     {Truth{Journal: 7, Database: 7, Integrity: "ok"}, true},
		"frozen between the two":     {Truth{Journal: 8, Database: 7, Integrity: "ok"}, true},
		"root disk not frozen":       {Truth{RootRecovery: true, Journal: 7, Database: 7, Integrity: "ok"}, false},
		"data disk not frozen":       {Truth{DataRecovery: true, Journal: 7, Database: 7, Integrity: "ok"}, false},
		"data disk later":            {Truth{Journal: 7, Database: 8, Integrity: "ok"}, false},
		"root disk later":            {Truth{Journal: 9, Database: 7, Integrity: "ok"}, false},
		"a broken database":          {Truth{Journal: 7, Database: 7, Integrity: "row 3 missing from index"}, false},
		"a file system not in order": {Truth{Journal: 7, Database: 7, Integrity: "ok", Problem: "e2fsck"}, false},
	} {
		if got := c.truth.Consistent(); got != c.want {
			t.Errorf("%s: %t", name, got)
		}
	}
}
