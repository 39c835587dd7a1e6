package cli

import (
	"bytes"
	"testing"
	"testing/synctest"
	"time"
)

func TestWhatTakesLongerThanTwoSecondsSaysSo(t *testing.T) {
	for took, want := range map[time.Duration]string{
		time.Second:     "",
		3 * time.Second: "\r\x1b[Kreading a\r\x1b[Kreading \\x1bb\r\x1b[K",
	} {
		synctest.Test(t, func(t *testing.T) {
			var out bytes.Buffer
			p := progressOn(&out)
			p.say("reading a")
			time.Sleep(took)
			synctest.Wait()
			p.say("reading %s", "\x1bb")
			p.done()
			if out.String() != want {
				t.Errorf("after %s: %q", took, out.String())
			}
		})
	}
}

func TestWhereNoPersonLooksNothingIsSaid(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var out bytes.Buffer
		p := newProgress(&out)
		time.Sleep(time.Minute)
		p.say("reading")
		if p.done(); out.Len() > 0 {
			t.Errorf("%q", out.String())
		}
	})
}
