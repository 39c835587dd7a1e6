package main

import (
	"encoding/json"
	"fmt"
	"os"
	"time"
)

// A journal is a file that tests read: one line of JSON for everything that happened to a guest's file systems.
type journal struct{ file *os.File }

// An entry is one line of the journal.
type entry struct {
	Namespace string    `json:"namespace"`
	Name      string    `json:"name"`
	Action    string    `json:"action"`
	Time      time.Time `json:"time"`
}

func openJournal(path string) (*journal, error) {
	file, err := os.OpenFile(path, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o644)
	if err != nil {
		return nil, fmt.Errorf("opening the journal: %w", err)
	}
	return &journal{file}, nil
}

// write appends a line in one piece.
func (j *journal) write(namespace, name, action string, at time.Time) error {
	line, err := json.Marshal(entry{namespace, name, action, at})
	if err != nil {
		return err
	}
	_, err = j.file.Write(append(line, '\n'))
	return err
}

func (j *journal) close() error { return j.file.Close() }
