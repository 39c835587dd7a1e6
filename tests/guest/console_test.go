//go:build linux

package guest

import (
	"fmt"
	"testing"
	"time"
)

func TestAPauseIsBetweenTwoNumbers(t *testing.T) {
	var lines []Line
	for n, up := range []time.Duration{1, 2, 300, 301, 304} { // the numbers 0 to 4
		lines = append(lines, Line{Up: up * time.Second, Text: fmt.Sprint("wrote ", n)})
	}
	lines = append(lines, Line{Up: 999 * time.Second, Text: "shutting down"})
	for number, want := range map[int]time.Duration{1: 298 * time.Second, 2: 298 * time.Second, 3: 3 * time.Second, 7: 0} {
		if got := Pause(lines, number); got != want {
			t.Errorf("around %d the guest did not write for %s, want %s", number, got, want)
		}
	}
	if got := LongestPause(lines); got != 298*time.Second {
		t.Errorf("the longest pause is %s", got)
	}
}
