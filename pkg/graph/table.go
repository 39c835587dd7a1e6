package graph

import (
	"maps"
	"slices"
	"strings"

	"k8s.io/apimachinery/pkg/runtime/schema"
)

// A Row tells people what the graph follows: the kinds that have a reference, where they have it, and to what it leads.
type Row struct{ From, Where, To string }

// Rows returns the whole table, fields first, then lookups.
func Rows() []Row {
	var rows []Row
	for _, reference := range references {
		rows = append(rows, Row{From: names(slices.Collect(maps.Keys(reference.From))), Where: "`" + reference.Path + "`", To: reference.To.Resource})
	}
	for _, lookup := range lookups {
		rows = append(rows, Row{From: names(lookup.from), Where: lookup.why})
	}
	return rows
}

func names(kinds []schema.GroupResource) string {
	var list []string
	for _, kind := range kinds {
		list = append(list, kind.Resource)
	}
	slices.Sort(list)
	return strings.Join(list, ", ")
}
