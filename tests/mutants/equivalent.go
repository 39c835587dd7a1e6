package main

// equivalent are the mutants that change nothing that can be seen, each with the reason.
var equivalent = map[string]string{
	"pkg/graph/neighbours.go find: continue => break":         "no reference that is followed only while a volume is unfinished names more than one object",
	"pkg/graph/filling.go typedReferences: continue => break": "each of its paths names one object",
	"pkg/graph/filling.go expectMade: n.Absent && n.GroupResource == kubevirt.PersistentVolumeClaims => n.Absent || n.GroupResource == kubevirt.PersistentVolumeClaims": "of a disk that is there nothing is expected",
	"pkg/graph/filling.go expectMade: n.GroupResource != kubevirt.DataVolumes || n.Absent => n.GroupResource != kubevirt.DataVolumes && n.Absent":                       "what is read besides is no DataVolume, which counts as finished, or is not there",
}
