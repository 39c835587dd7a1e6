package main

import (
	"slices"
	"testing"
)

const source = `package p

func f(list []int, a, b bool) int {
	for _, n := range list {
		if n < 3 && a {
			continue
		}
		if b {
			return n
		}
	}
	return 0
}
`

func TestEveryPlaceIsFound(t *testing.T) {
	mutants, err := sites("p.go", []byte(source))
	if err != nil {
		t.Fatal(err)
	}
	var got []string
	for _, m := range mutants {
		got = append(got, m.String())
	}
	want := []string{
		"p.go f: n < 3 && a => !(n < 3 && a)",
		"p.go f: n < 3 && a => n < 3 || a",
		"p.go f: n < 3 => n <= 3",
		"p.go f: continue => break",
		"p.go f: b => !(b)",
	}
	if !slices.Equal(got, want) {
		t.Errorf("got %q", got)
	}
	if mutants[2].line != 5 || string(mutants[2].source) == source || len(mutants[2].source) != len(source)+1 {
		t.Errorf("line %d: %s", mutants[2].line, mutants[2].source)
	}
}

func TestEntriesAreTakenOutOfAList(t *testing.T) {
	mutants, err := sites("pkg/graph/lookups.go", []byte("package graph\nvar lookups = []lookup{{find: a, x: 1}, {find: b}}\n"))
	if err != nil || len(mutants) != 2 {
		t.Fatalf("%v, %v", mutants, err)
	}
	if got := string(mutants[0].source); got != "package graph\nvar lookups = []lookup{ {find: b}}\n\nvar _ = []any{a}\n" {
		t.Errorf("without the first: %q", got)
	}
}
