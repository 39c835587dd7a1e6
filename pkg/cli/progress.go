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
	mu    sync.Mutex
	out   io.Writer
	text  string
	shown bool
	timer *time.Timer
}

// newProgress writes to stderr if that is a terminal.
func newProgress(stderr io.Writer) *progress {
	if file, is := stderr.(*os.File); is && term.IsTerminal(int(file.Fd())) {
		return progressOn(stderr)
	}
	return progressOn(io.Discard)
}

func progressOn(out io.Writer) *progress {
	p := &progress{out: out}
	p.timer = time.AfterFunc(patience, func() {
		p.mu.Lock()
		defer p.mu.Unlock()
		p.shown = true
		p.show()
	})
	return p
}

func (p *progress) show() {
	fmt.Fprint(p.out, "\r\x1b[K"+printable(p.text))
}

// say replaces the line.
func (p *progress) say(format string, args ...any) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.text = fmt.Sprintf(format, args...); p.shown {
		p.show()
	}
}

// done wipes the line, before anything else is printed.
func (p *progress) done() {
	p.timer.Stop()
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.shown {
		fmt.Fprint(p.out, "\r\x1b[K")
	}
}
