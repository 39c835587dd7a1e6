package cluster

import (
	"fmt"
	"io"
	"os"
	"sync"
	"time"

	"golang.org/x/term"
)

// A progress tells a person what the cluster is doing: on a terminal it counts the seconds in place, elsewhere it
// prints plain lines.
type progress struct {
	mu       sync.Mutex
	out      io.Writer
	terminal bool
}

func newProgress(out io.Writer) *progress {
	if out == nil {
		out = io.Discard
	}
	file, ok := out.(*os.File)
	return &progress{out: out, terminal: ok && term.IsTerminal(int(file.Fd()))}
}

// print writes one finished line.
func (p *progress) print(format string, args ...any) {
	p.mu.Lock()
	defer p.mu.Unlock()
	fmt.Fprintf(p.out, format+"\n", args...)
}

// A progressLine is one task under way.
type progressLine struct {
	progress *progress
	text     string
	started  time.Time
	stop     chan struct{}
	stopped  sync.WaitGroup
	broken   bool
}

// begin shows that a task started.
func (p *progress) begin(text string) *progressLine {
	l := &progressLine{progress: p, text: text, started: time.Now(), stop: make(chan struct{})}
	if !p.terminal {
		p.print("%s ...", text)
		return l
	}
	l.show("")
	l.stopped.Go(func() {
		tick := time.NewTicker(time.Second)
		defer tick.Stop()
		for {
			select {
			case <-tick.C:
				l.show("")
			case <-l.stop:
				return
			}
		}
	})
	return l
}

func (l *progressLine) show(end string) {
	l.progress.mu.Lock()
	defer l.progress.mu.Unlock()
	fmt.Fprintf(l.progress.out, "\r%s ... %d s%s", l.text, l.seconds(), end)
}

func (l *progressLine) seconds() int { return int(time.Since(l.started).Round(time.Second).Seconds()) }

// note adds a remark in a line of its own.
func (l *progressLine) note(text string) {
	if l.progress.terminal {
		l.progress.print(" (%s)", text)
		return
	}
	l.progress.print("%s: %s", l.text, text)
}

// failed makes end say that the task did not succeed.
func (l *progressLine) failed() { l.broken = true }

// end shows how long the task took.
func (l *progressLine) end() {
	close(l.stop)
	l.stopped.Wait()
	result := ""
	if l.broken {
		result = " failed"
	}
	if l.progress.terminal {
		l.show(result + "\n")
		return
	}
	l.progress.print("%s ...%s %d s", l.text, result, l.seconds())
}
