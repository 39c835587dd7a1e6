package main

import (
	"slices"
	"testing"
)

func TestPassing(t *testing.T) {
	words := "=== RUN   " + smoke[0] + `
--- FAIL: ` + smoke[0] + ` (30.00s)
    --- PASS: ` + smoke[0] + `/ByLabel (10.00s)
=== RUN   ` + smoke[1] + `
--- PASS: ` + smoke[1] + ` (12.34s)
--- SKIP: ` + smoke[2] + ` (0.00s)
--- PASS: ` + smoke[3] + `AndMore (1.00s)
`
	if got := passing(words); !slices.Equal(got, smoke[1:2]) {
		t.Errorf("%q passed", got)
	}
}
