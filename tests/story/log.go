package story

import (
	"context"
	"fmt"
	"strings"

	"github.com/go-logfmt/logfmt"
)

// A Line is one line of a backup's or restore's log, by field.
type Line map[string]string

// Level is info, warning or error.
func (l Line) Level() string { return l["level"] }

// Message is the line's text.
func (l Line) Message() string { return l["msg"] }

// Rule is the plugin's rule that decided something, empty for lines that are not about that.
func (l Line) Rule() string { return l["rule"] }

// Item is the object that the decision is about, as resource.group/namespace/name.
func (l Line) Item() string { return l["item"] }

// Decisions returns the lines in which the plugin says what it changed or left out.
func (r *Report) Decisions() []Line {
	var decisions []Line
	for _, line := range r.Log {
		if line.Rule() != "" {
			decisions = append(decisions, line)
		}
	}
	return decisions
}

// LeftOut returns the decisions to leave an item out.
func (r *Report) LeftOut() []Line {
	var left []Line
	for _, line := range r.Decisions() {
		if line["reason"] != "" {
			left = append(left, line)
		}
	}
	return left
}

// Trouble returns the warnings and errors of the log.
func (r *Report) Trouble() []string {
	var trouble []string
	for _, line := range r.Log {
		switch line.Level() {
		case "warning", "error", "fatal", "panic":
			trouble = append(trouble, fmt.Sprintf("%s: %s %s", line.Level(), line.Message(), line["error"]))
		}
	}
	return trouble
}

// log reads "velero backup logs" or "velero restore logs", which are in logfmt unless the server says otherwise.
func (s *Site) log(ctx context.Context, what, name string) ([]Line, error) {
	text, err := s.Velero(ctx, what, "logs", name)
	if err != nil {
		return nil, err
	}
	decoder := logfmt.NewDecoder(strings.NewReader(text))
	var lines []Line
	for decoder.ScanRecord() {
		line := Line{}
		for decoder.ScanKeyval() {
			line[string(decoder.Key())] = string(decoder.Value())
		}
		lines = append(lines, line)
	}
	if err := decoder.Err(); err != nil {
		return nil, fmt.Errorf("reading the log of %s %s: %w", what, name, err)
	}
	return lines, nil
}
