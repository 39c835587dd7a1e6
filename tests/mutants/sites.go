package main

import (
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
)

// A mutant is the source of one file with one place changed.
type mutant struct {
	file, function string // function is empty outside of one
	before, after  string // the text that is changed
	line           int
	source         []byte // of the whole file, changed
}

// String says what is changed where, without the line: it is the same after edits elsewhere.
func (m mutant) String() string {
	return fmt.Sprintf("%s %s: %s => %s", m.file, m.function, m.before, m.after)
}

// tables are the lists whose entries are taken out, one at a time: file and variable.
var tables = []struct{ file, variable string }{
	{"pkg/rules/rules.go", "All"},
	{"pkg/graph/references.go", "references"},
	{"pkg/graph/lookups.go", "lookups"},
}

// other is what a comparison, an operator or a jump is replaced by.
var other = map[token.Token]token.Token{
	token.LSS: token.LEQ, token.LEQ: token.LSS, token.GTR: token.GEQ, token.GEQ: token.GTR, token.EQL: token.NEQ, token.NEQ: token.EQL,
	token.LAND: token.LOR, token.LOR: token.LAND, token.CONTINUE: token.BREAK,
}

// mutantsOf returns the mutants of a package's files, but not of its tests.
func mutantsOf(folder string) ([]mutant, error) {
	files, err := filepath.Glob(filepath.Join(folder, "*.go"))
	if err != nil {
		return nil, err
	}
	var mutants []mutant
	for _, file := range files {
		if strings.HasSuffix(file, "_test.go") {
			continue
		}
		source, err := os.ReadFile(file)
		if err != nil {
			return nil, err
		}
		found, err := sites(file, source)
		if err != nil {
			return nil, err
		}
		mutants = append(mutants, found...)
	}
	return mutants, nil
}

// sites returns a mutant for each place in a file that can be changed.
func sites(file string, source []byte) ([]mutant, error) {
	set := token.NewFileSet()
	parsed, err := parser.ParseFile(set, file, source, 0)
	if err != nil {
		return nil, err
	}
	offset := func(pos token.Pos) int { return set.Position(pos).Offset }
	var mutants []mutant
	function := ""
	// change replaces the text between two places; the whole expression around it names the mutant.
	change := func(from, to token.Pos, text string, whole ast.Node) {
		begin, end := offset(whole.Pos()), offset(whole.End())
		after := string(source[begin:offset(from)]) + text + string(source[offset(to):end])
		mutants = append(mutants, mutant{
			file: file, function: function, before: oneLine(source[begin:end]), after: oneLine([]byte(after)), line: set.Position(from).Line,
			source: slices.Concat(source[:begin], []byte(after), source[end:]),
		})
	}
	ast.Inspect(parsed, func(node ast.Node) bool {
		switch n := node.(type) {
		case *ast.FuncDecl:
			function = n.Name.Name
		case *ast.IfStmt:
			if comparison, is := n.Cond.(*ast.BinaryExpr); is && (comparison.Op == token.EQL || comparison.Op == token.NEQ) {
				return true // its negation is that of the comparison
			}
			text := string(source[offset(n.Cond.Pos()):offset(n.Cond.End())])
			change(n.Cond.Pos(), n.Cond.End(), "!("+text+")", n.Cond)
		case *ast.BinaryExpr:
			if replaced, is := other[n.Op]; is {
				change(n.OpPos, n.OpPos+token.Pos(len(n.Op.String())), replaced.String(), n)
			}
		case *ast.BranchStmt:
			if replaced, is := other[n.Tok]; is && n.Label == nil {
				change(n.Pos(), n.End(), replaced.String(), n)
			}
		case *ast.ValueSpec:
			for _, table := range tables {
				if filepath.ToSlash(file) == table.file && n.Names[0].Name == table.variable && len(n.Values) == 1 {
					mutants = append(mutants, withoutEntries(file, source, set, n.Values[0])...)
				}
			}
		}
		return true
	})
	return mutants, nil
}

// withoutEntries returns a mutant for each entry of a list, without the entry. The function that it names stays in use, so that the mutant compiles.
func withoutEntries(file string, source []byte, set *token.FileSet, list ast.Expr) []mutant {
	literal, is := list.(*ast.CompositeLit)
	if !is {
		return nil
	}
	var mutants []mutant
	for _, element := range literal.Elts {
		begin, end := set.Position(element.Pos()), set.Position(element.End())
		entry, rest := source[begin.Offset:end.Offset], source[end.Offset:]
		if len(rest) > 0 && rest[0] == ',' {
			rest = rest[1:]
		}
		used := ""
		if find := regexp.MustCompile(`find: ([A-Za-z]+)[,}\s]`).FindSubmatch(entry); find != nil {
			used = string(find[1])
		}
		mutants = append(mutants, mutant{
			file: file, before: oneLine(entry), after: "(taken out)", line: begin.Line,
			source: slices.Concat(source[:begin.Offset], rest, []byte("\nvar _ = []any{"+used+"}\n")),
		})
	}
	return mutants
}

// oneLine makes a piece of source readable in a report.
func oneLine(source []byte) string { return strings.Join(strings.Fields(string(source)), " ") }
