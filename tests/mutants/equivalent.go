package main

// equivalent are the mutants that change nothing that can be seen, each with the reason.
var equivalent = map[string]string{
	"pkg/graph/neighbours.go find: continue => break": "no reference that is followed only while a volume is unfinished names more than one object",
}
