package main

// equivalent are the mutants that change nothing that can be seen, each with the reason.
var equivalent = map[string]string{}
