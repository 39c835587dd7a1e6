// Command guest is what runs in a virtual machine of the tests: its first process, which starts the real guest agent and then
// writes to both disks without pause; called with the word check, the judge of what is on them; and, by the name of shutdown, what the
// agent shuts the guest down with.
//
// Every number goes to a journal on the root disk, then to an SQLite database on the data disk, and when both have it on stable
// storage the console says so. At any moment the journal has as many numbers as the database or one more.
package main

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"

	"golang.org/x/sys/unix"
)

// Where a guest keeps its files; they begin with the root folder for whoever looks at the disks from outside.
const (
	journalFile  = "/var/lib/journal"
	databaseFile = "/data/numbers.db"
)

func main() {
	if err := run(); err != nil {
		fmt.Fprintln(os.Stderr, "guest:", err)
		os.Exit(1)
	}
}

func run() error {
	if filepath.Base(os.Args[0]) == "shutdown" {
		return unix.Kill(1, unix.SIGTERM)
	}
	if len(os.Args) == 2 && os.Args[1] == "check" {
		return json.NewEncoder(os.Stdout).Encode(check())
	}
	if os.Getpid() != 1 {
		return fmt.Errorf("this is the first process of a guest; otherwise call it with the word check")
	}
	return boot()
}
