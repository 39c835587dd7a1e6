package guest

import (
	"fmt"
	"slices"
	"strings"
	"time"
)

// ResultsFile is what TestTheVerdictIsTrue found when it was last asked for many backups.
const ResultsFile = "results.json"

// Results are many backups of guests that write.
type Results struct {
	Date    string        `json:"date"`
	Backups []Observation `json:"backups"`
}

// An Observation is one backup.
type Observation struct {
	Situation string        `json:"situation"`
	Verdict   string        `json:"verdict"` // of the plugin
	Reason    string        `json:"reason,omitempty"`
	Truth     Truth         `json:"truth"`             // in the snapshots
	Window    time.Duration `json:"window,omitempty"`  // for which the guest had to stay frozen, by the plugin
	Asking    time.Duration `json:"asking,omitempty"`  // of the window, for which the plugin looked at the VM and asked its guest
	Pause     time.Duration `json:"pause,omitempty"`   // in which the guest did not write, by its own clock
	Storage   time.Duration `json:"storage,omitempty"` // that the storage needed for all snapshots together
}

// A Truth is what the disks of a VM hold, whatever anybody says about them.
type Truth struct {
	// Recovery tells of each disk whether its file system has a journal that was to be replayed: only one that was mounted and not
	// frozen has.
	RootRecovery bool `json:"rootRecovery"`
	DataRecovery bool `json:"dataRecovery"`
	// Journal and Database are the last numbers in the journal on the root disk and in the database on the data disk.
	Journal  int `json:"journal"`
	Database int `json:"database"`
	// Integrity is what SQLite says of the database; ok is good.
	Integrity string `json:"integrity"`
	// Problem is what else is wrong.
	Problem string `json:"problem,omitempty"`
}

// Consistent tells whether the disks can be of one moment, at which nothing was in flight: no file system needs recovery, the database
// is whole, and the journal has as many numbers as the database, or the one more that was just being written.
func (t Truth) Consistent() bool {
	return !t.RootRecovery && !t.DataRecovery && t.Whole() && t.Together()
}

// Whole tells whether journal and database are each in order.
func (t Truth) Whole() bool { return t.Integrity == "ok" && t.Problem == "" }

// Together tells whether journal and database can be of one moment.
func (t Truth) Together() bool { return t.Journal == t.Database || t.Journal == t.Database+1 }

// Table sums up the backups by what happened to the guest, as Markdown.
func (r Results) Table() string {
	var text strings.Builder
	fmt.Fprintf(&text, "| %s: while the guest is backed up, | backups | verdict | snapshots consistent | verdict wrong |\n|---|---|---|---|---|\n", r.Date)
	var situations []string
	for _, b := range r.Backups {
		if !slices.Contains(situations, b.Situation) {
			situations = append(situations, b.Situation)
		}
	}
	for _, situation := range situations {
		backups, consistent, wrong, verdicts := 0, 0, 0, map[string]int{}
		var said []string
		for _, b := range r.Backups {
			if b.Situation != situation {
				continue
			}
			backups++
			verdict := strings.TrimSpace("`" + b.Verdict + "` " + b.Reason)
			if verdicts[verdict]++; verdicts[verdict] == 1 {
				said = append(said, verdict)
			}
			if b.Truth.Consistent() {
				consistent++
			} else if b.Verdict == "filesystem" {
				wrong++
			}
		}
		for n, verdict := range said {
			said[n] = fmt.Sprintf("%s: %d", verdict, verdicts[verdict])
		}
		fmt.Fprintf(&text, "| %s | %d | %s | %d | %d |\n", situation, backups, strings.Join(said, ", "), consistent, wrong)
	}
	return text.String() + r.freezes()
}

// freezes says for how long guests were frozen.
func (r Results) freezes() string {
	var windows, pauses, storages, askings []time.Duration
	for _, b := range r.Backups {
		if b.Verdict == "filesystem" {
			windows, pauses, storages, askings = append(windows, b.Window), append(pauses, b.Pause), append(storages, b.Storage), append(askings, b.Asking)
		}
	}
	if len(pauses) == 0 {
		return ""
	}
	text := fmt.Sprintf("\nFrozen guests did not write for %s by their own clock. From the first snapshot's request to the last one's end "+
		"the plugin measured %s.", spread(pauses, time.Second), spread(windows, time.Second))
	if !slices.Contains(storages, 0) { // it was not always written down
		text += fmt.Sprintf(" The storage needed %s for the snapshots of both disks.", spread(storages, time.Second))
	}
	if !slices.Contains(askings, 0) { // nor was this
		text += fmt.Sprintf(" To ask the guest took the plugin %s.", spread(askings, time.Millisecond))
	}
	return text + "\n"
}

// spread returns the median and the maximum, in seconds or in milliseconds.
func spread(all []time.Duration, unit time.Duration) string {
	slices.Sort(all)
	median, longest := all[len(all)/2], all[len(all)-1]
	if unit == time.Millisecond {
		return fmt.Sprintf("%d ms (median; %d ms at most)", median.Milliseconds(), longest.Milliseconds())
	}
	return fmt.Sprintf("%.1f s (median; %.1f s at most)", median.Seconds(), longest.Seconds())
}
