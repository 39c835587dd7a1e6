package main

import (
	"bufio"
	"errors"
	"fmt"
	"hash/crc32"
	"io/fs"
	"os"
	"os/exec"
	"strconv"
	"strings"
)

// A finding is what the disks hold.
type finding struct {
	Journal   int    `json:"journal"`   // the last number in the journal, all before it are there
	Database  int    `json:"database"`  // the same for the database
	Integrity string `json:"integrity"` // what SQLite says of its database; ok is good
	Problem   string `json:"problem"`   // what else is wrong
}

func check() finding {
	var found finding
	var problems []error
	var err error
	if found.Journal, err = readJournal(); err != nil {
		problems = append(problems, err)
	}
	if _, err := os.Stat(databaseFile); errors.Is(err, fs.ErrNotExist) && found.Journal == 0 {
		found.Integrity = "ok" // nothing was ever written
		return found
	}
	answer, err := sqlite("PRAGMA integrity_check; SELECT coalesce(max(n), 0), count(*) FROM numbers;")
	if err != nil {
		problems = append(problems, err)
	}
	lines := strings.Split(answer, "\n")
	last := lines[len(lines)-1]
	found.Integrity = strings.Join(lines[:len(lines)-1], "; ")
	var count int
	if _, err := fmt.Sscanf(last, "%d|%d", &found.Database, &count); err != nil {
		problems = append(problems, fmt.Errorf("the database answers %q", last))
	} else if count != found.Database {
		problems = append(problems, fmt.Errorf("the database has %d numbers up to %d", count, found.Database))
	}
	if err := errors.Join(problems...); err != nil {
		found.Problem = err.Error()
	}
	return found
}

// sqlite asks the database and returns its answer.
func sqlite(question string) (string, error) {
	out, err := exec.Command("/usr/bin/sqlite3", "-batch", databaseFile, question).CombinedOutput()
	answer := strings.TrimSpace(string(out))
	if err != nil {
		return answer, fmt.Errorf("asking the database: %w: %s", err, answer)
	}
	return answer, nil
}

// entry is a line of the journal. The sum tells a line that is not the one written.
func entry(number int) string {
	text := strconv.Itoa(number)
	return fmt.Sprintf("%s %08x\n", text, crc32.ChecksumIEEE([]byte(text)))
}

// readJournal returns the last number of the journal. A last line that is cut off was never acknowledged.
func readJournal() (int, error) {
	file, err := os.Open(journalFile)
	if errors.Is(err, fs.ErrNotExist) {
		return 0, nil
	}
	if err != nil {
		return 0, err
	}
	defer file.Close()
	last := 0
	lines := bufio.NewReader(file)
	for {
		line, err := lines.ReadString('\n')
		if err != nil {
			return last, nil //nolint:nilerr // the end
		}
		if line != entry(last+1) {
			return last, fmt.Errorf("the journal has %q after %d", line, last)
		}
		last++
	}
}
