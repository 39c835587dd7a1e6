// Package readme keeps the README true: its tables are generated from the code, its make commands are run by CI, and its
// velero commands by the end-to-end tests.
package readme

import "strings"

// Commands returns the lines of the README's sh blocks: what it tells a person to type.
func Commands(text string) []string {
	var commands []string
	inside := false
	for line := range strings.Lines(text) {
		line = strings.TrimSpace(line)
		switch {
		case line == "```sh":
			inside = true
		case line == "```":
			inside = false
		case inside && line != "" && !strings.HasPrefix(line, "#"):
			commands = append(commands, line)
		}
	}
	return commands
}
