package cli

import (
	"fmt"
	"io"
	"os"
	"sync"
	"time"

	"golang.org/x/term"
)

// patience is how long nothing needs to be said.
const patience = 2 * time.Second

// A progress is one line on a terminal that says what is being done, from two seconds on. It is silent where no person looks.
type progress struct {
	mu      sync.Mutex
	out     io.Writer
	since   time.Time
	written bool
}

// newProgress writes to stderr if that is a terminal.
func newProgress(stderr io.Writer) *progress {
	p := &progress{since: time.Now()}
	if file, is := stderr.(*os.File); is && term.IsTerminal(int(file.Fd())) {
		p.out = stderr
	}
	return p
}

// say replaces the line.
func (p *progress) say(format string, args ...any) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.out != nil && time.Since(p.since) > patience {
		fmt.Fprint(p.out, "\r\x1b[K"+printable(fmt.Sprintf(format, args...)))
		p.written = true
	}
}

// done wipes the line, before anything else is printed.
func (p *progress) done() {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.written {
		fmt.Fprint(p.out, "\r\x1b[K")
		p.written = false
	}
}
