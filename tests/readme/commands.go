// Package readme keeps README.md and those of the packages true: their tables are generated from the code, their make commands are run by CI, and
// their velero commands by the end-to-end tests.
package readme

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
)

// Files are the READMEs, below the top folder.
var Files = []string{"README.md", "pkg/rules/README.md", "pkg/graph/README.md", "pkg/consistency/README.md", "pkg/restore/README.md", "tests/README.md", "tests/image/README.md", ".github/SECURITY.md"}

// CLI is the reference of commands: the stories of each command run what stands under its heading.
const CLI = "pkg/cli/README.md"

// Commands returns the lines of the sh blocks of all READMEs: what they tell a person to type. Top is the top folder.
func Commands(top string) ([]string, error) {
	var commands []string
	for _, file := range Files {
		text, err := os.ReadFile(filepath.Join(top, file))
		if err != nil {
			return nil, fmt.Errorf("reading %s: %w", file, err)
		}
		commands = append(commands, commandsIn(string(text))...)
	}
	return commands, nil
}

// CommandsUnder returns those of one file below one heading, such as "## graph".
func CommandsUnder(top, file, heading string) ([]string, error) {
	text, err := os.ReadFile(filepath.Join(top, file))
	if err != nil {
		return nil, fmt.Errorf("reading %s: %w", file, err)
	}
	_, below, found := strings.Cut(string(text), "\n"+heading+"\n")
	if !found {
		return nil, fmt.Errorf("%s has no heading %q", file, heading)
	}
	section, _, _ := strings.Cut(below, "\n## ")
	return commandsIn(section), nil
}

func commandsIn(text string) []string {
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
