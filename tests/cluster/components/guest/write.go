package main

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"time"
)

// pause is how long the writer rests between two numbers: on a machine without hardware virtualisation there must be time left
// for somebody else.
const pause = 20 * time.Millisecond

// padding makes a number more than a few bytes on the data disk.
const padding = 2000

// write writes numbers for ever, beginning with what one of the two disks lacks: at the last end it may have been between them.
func write(found finding) error {
	journal, err := os.OpenFile(journalFile, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o644)
	if err != nil {
		return err
	}
	database, err := openDatabase()
	if err != nil {
		return err
	}
	for number := min(found.Journal, found.Database) + 1; ; number++ {
		if number > found.Journal {
			if _, err := journal.WriteString(entry(number)); err != nil {
				return err
			}
			if err := journal.Sync(); err != nil {
				return err
			}
		}
		if number > found.Database {
			if err := database.add(number); err != nil {
				return err
			}
		}
		say("wrote %d", number)
		time.Sleep(pause)
	}
}

// A database is a running SQLite.
type database struct {
	questions io.Writer
	answers   *bufio.Reader
}

func openDatabase() (*database, error) {
	shell := exec.Command("/usr/bin/sqlite3", "-batch", databaseFile)
	shell.Stderr = os.Stdout
	questions, err := shell.StdinPipe()
	if err != nil {
		return nil, err
	}
	answers, err := shell.StdoutPipe()
	if err != nil {
		return nil, err
	}
	if err := shell.Start(); err != nil {
		return nil, err
	}
	d := &database{questions, bufio.NewReader(answers)}
	// Full: what is committed is on the disk.
	return d, errors.Join(d.ask("PRAGMA journal_mode=WAL;", "wal"), d.ask("PRAGMA synchronous=FULL; SELECT 'full';", "full"),
		d.ask("CREATE TABLE IF NOT EXISTS numbers(n INTEGER PRIMARY KEY, padding BLOB NOT NULL); SELECT 'made';", "made"))
}

func (d *database) add(number int) error {
	text := strconv.Itoa(number)
	return d.ask(fmt.Sprintf("INSERT INTO numbers VALUES(%s, randomblob(%d)); SELECT %s;", text, padding, text), text)
}

func (d *database) ask(question, want string) error {
	if _, err := fmt.Fprintln(d.questions, question); err != nil {
		return err
	}
	answer, err := d.answers.ReadString('\n')
	if err != nil {
		return fmt.Errorf("waiting for the database: %w", err)
	}
	if got := strings.TrimSpace(answer); got != want {
		return fmt.Errorf("to %q the database answers %q", question, got)
	}
	return nil
}

// say writes a line with the time since the boot to the console.
func say(format string, args ...any) {
	fmt.Printf("guest %d: %s\n", time.Since(started).Milliseconds(), fmt.Sprintf(format, args...))
}

var started = time.Now()
