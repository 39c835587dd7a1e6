package cli

import (
	"fmt"
	"io"
	"slices"
	"strconv"
	"strings"
	"text/tabwriter"
	"unicode"

	"github.com/spf13/pflag"
)

// A format is the value of --output: one of a command's formats, the first of which is the default.
type format struct {
	value string
	known []string
}

func formatFlag(flags *pflag.FlagSet, known ...string) *format {
	f := &format{known[0], known}
	flags.VarP(f, "output", "o", f.list())
	return f
}

// String, Set and Type make format a pflag.Value.
func (f *format) String() string { return f.value }

// Type is what the help calls the value.
func (f *format) Type() string { return "format" }

// Set refuses what the command cannot print.
func (f *format) Set(value string) error {
	if !slices.Contains(f.known, value) {
		return fmt.Errorf("want %s", f.list())
	}
	f.value = value
	return nil
}

func (f *format) list() string {
	last := len(f.known) - 1
	if last == 0 {
		return f.known[0]
	}
	return strings.Join(f.known[:last], ", ") + " or " + f.known[last]
}

// printTable prints rows in columns, as kubectl does. An empty cell is <none>.
func printTable(out io.Writer, header []string, rows [][]string) error {
	w := tabwriter.NewWriter(out, 6, 4, 3, ' ', 0)
	fmt.Fprintln(w, strings.Join(header, "\t"))
	for _, row := range rows {
		cells := make([]string, len(row))
		for i, cell := range row {
			if cells[i] = printable(cell); cell == "" {
				cells[i] = "<none>"
			}
		}
		fmt.Fprintln(w, strings.Join(cells, "\t"))
	}
	return w.Flush()
}

// printableLines is printable for a text of several lines.
func printableLines(text string) string {
	return strings.ReplaceAll(printable(text), `\n`, "\n")
}

// printable returns text that cannot move the cursor of a terminal: names in a file may be anybody's.
func printable(text string) string {
	var b strings.Builder
	for _, r := range text {
		switch {
		case unicode.IsPrint(r):
			b.WriteRune(r)
		default:
			quoted := strconv.QuoteRuneToASCII(r)
			b.WriteString(quoted[1 : len(quoted)-1])
		}
	}
	return b.String()
}
