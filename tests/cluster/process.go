package cluster

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"sync"
	"syscall"
	"time"
)

// A command says as plain data how a process is run.
type command struct {
	name   string // names the process in messages, and its log file
	binary string
	args   []string
	env    []string                        // besides what every process gets
	ready  func(ctx context.Context) error // asked again until it returns nil
	within time.Duration                   // for becoming ready; 60 s if zero
	grace  time.Duration                   // between SIGTERM and SIGKILL; 5 s if zero
	// restart means that an exit with status 0 is no death: the program wants to begin anew.
	restart bool
}

// A process is a started command.
type process struct {
	command command
	log     string
	exited  chan struct{} // closed after the process was reaped
	err     error         // how it ended; valid once exited is closed

	mu       sync.Mutex
	cmd      *exec.Cmd // another one after each restart
	phase    phase
	restarts int
}

// maxRestarts is more than any program needs: it begins anew when somebody changes what it watches.
const maxRestarts = 5

// A phase of a process decides who learns of its exit: while it starts, whoever starts it; while it runs, everybody;
// while it is stopped, nobody needs to.
type phase int

const (
	starting phase = iota
	running
	stopping
)

// A supervisor runs the processes of one cluster.
type supervisor struct {
	dir  string // working directory and HOME of the processes; their logs are in its folder logs
	temp string // their TMPDIR

	mu       sync.Mutex
	watchdog *watchdog  // while any process runs
	running  []*process // in order of start
	died     chan struct{}
	cause    error // why died was closed
}

func newSupervisor(dir, temp string) *supervisor {
	return &supervisor{dir: dir, temp: temp, died: make(chan struct{})}
}

// onStarter runs a function on one operating system thread that lives as long as this program: Linux sends a child its
// Pdeathsig when the thread that started it ends, and Go ends threads as it likes.
func onStarter(start func() error) error {
	result := make(chan error)
	starter() <- func() { result <- start() }
	return <-result
}

var starter = sync.OnceValue(func() chan<- func() {
	calls := make(chan func())
	go func() {
		runtime.LockOSThread()
		for call := range calls {
			call()
		}
	}()
	return calls
})

// start runs a command and waits until it is ready. A process that does not become ready is left for stopAll.
func (s *supervisor) start(ctx context.Context, c command) (*process, error) {
	p := &process{command: c, log: filepath.Join(s.dir, "logs", c.name+".log"), exited: make(chan struct{})}
	var err error
	if p.cmd, err = s.launch(p); err != nil {
		return nil, err
	}
	err = s.add(p)
	go s.watch(p)
	if err != nil {
		return p, fmt.Errorf("starting %s: %w", c.name, err)
	}
	return p, s.awaitReady(ctx, p)
}

// launch starts a process's program.
func (s *supervisor) launch(p *process) (*exec.Cmd, error) {
	log, err := os.OpenFile(p.log, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o644)
	if err != nil {
		return nil, fmt.Errorf("starting %s: %w", p.command.name, err)
	}
	defer log.Close()
	cmd := exec.Command(p.command.binary, p.command.args...)
	cmd.Dir = s.dir
	cmd.Env = s.environment(p.command.env...)
	cmd.Stdout, cmd.Stderr = log, log
	cmd.SysProcAttr = childAttributes()
	if err := onStarter(cmd.Start); err != nil {
		return nil, fmt.Errorf("starting %s: %w", p.command.name, err)
	}
	return cmd, nil
}

// add takes a process under supervision.
func (s *supervisor) add(p *process) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.running = append(s.running, p)
	if s.watchdog == nil {
		var err error
		if s.watchdog, err = startWatchdog(); err != nil {
			return err
		}
	}
	return s.watchdog.started(p.cmd.Process.Pid)
}

// remove undoes add, for a process that has ended.
func (s *supervisor) remove(p *process) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.running = slices.DeleteFunc(s.running, func(other *process) bool { return other == p })
	if s.watchdog == nil {
		return nil
	}
	err := s.watchdog.ended(p.cmd.Process.Pid)
	if len(s.running) == 0 {
		err = errors.Join(err, s.watchdog.stop())
		s.watchdog = nil
	}
	return err
}

// environment is what programs get to see. The caller's own variables stay outside: a KUBECONFIG or AWS_PROFILE among
// them would lead a component astray.
func (s *supervisor) environment(more ...string) []string {
	return append([]string{"HOME=" + s.dir, "TMPDIR=" + s.temp, "PATH=" + os.Getenv("PATH"), garbage}, more...)
}

// garbage lets Go programs collect their garbage less often than they would: a quarter of the API server's time goes into that.
const garbage = "GOGC=400"

// watch reaps a process, ends what it left behind in its group, and reports an exit nobody asked for.
func (s *supervisor) watch(p *process) {
	for {
		err := reap(p.cmd)
		p.mu.Lock()
		if err == nil && p.command.restart && p.phase != stopping && p.restarts < maxRestarts {
			p.restarts++
			if err = s.again(p); err == nil {
				p.mu.Unlock()
				continue
			}
		}
		if err == nil {
			err = errors.New("exit status 0")
		}
		p.err = err
		if p.phase == running {
			s.report(p.exitError())
		}
		close(p.exited)
		p.mu.Unlock()
		return
	}
}

// again starts the program of an ended process once more.
func (s *supervisor) again(p *process) error {
	old := p.cmd.Process.Pid
	cmd, err := s.launch(p)
	if err != nil {
		return err
	}
	p.cmd = cmd
	s.mu.Lock()
	defer s.mu.Unlock()
	return errors.Join(s.watchdog.ended(old), s.watchdog.started(cmd.Process.Pid))
}

// pid is the id of the process, and of its group.
func (p *process) pid() int {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.cmd.Process.Pid
}

// enter moves a process into a phase, unless it has exited.
func (p *process) enter(next phase) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	select {
	case <-p.exited:
		return p.exitError()
	default:
		p.phase = next
		return nil
	}
}

// report closes died with the first cause.
func (s *supervisor) report(cause error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.cause == nil {
		s.cause = cause
		close(s.died)
	}
}

func (s *supervisor) err() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.cause
}

// list returns the processes that have not been stopped, in order of start.
func (s *supervisor) list() []*process {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.Clone(s.running)
}

func (p *process) exitError() error {
	return fmt.Errorf("%s exited: %w%s", p.command.name, p.err, p.logTail())
}

func (s *supervisor) awaitReady(ctx context.Context, p *process) error {
	if p.command.ready == nil {
		return p.enter(running)
	}
	within := p.command.within
	if within == 0 {
		within = time.Minute
	}
	deadline := time.Now().Add(within)
	for {
		attempt, cancel := context.WithTimeout(ctx, 5*time.Second)
		err := p.command.ready(attempt)
		cancel()
		if err == nil {
			return p.enter(running)
		}
		if time.Now().After(deadline) {
			return fmt.Errorf("%s not ready after %s: %w%s", p.command.name, within, err, p.logTail())
		}
		select {
		case <-p.exited:
			return p.exitError()
		case <-s.died:
			return s.err()
		case <-ctx.Done():
			return fmt.Errorf("waiting for %s: %w (last: %w)", p.command.name, ctx.Err(), err)
		case <-time.After(50 * time.Millisecond):
		}
	}
}

// alive returns a context that also ends when a process died.
func (s *supervisor) alive(ctx context.Context) (context.Context, context.CancelFunc) {
	ctx, cancel := context.WithCancel(ctx)
	go func() {
		select {
		case <-s.died:
			cancel()
		case <-ctx.Done():
		}
	}()
	return ctx, cancel
}

// stop ends a process: SIGTERM, then SIGKILL after its grace.
func (s *supervisor) stop(p *process) error {
	grace := p.command.grace
	if grace == 0 {
		grace = 5 * time.Second
	}
	err := p.end(syscall.SIGTERM, grace)
	if err != nil {
		err = p.end(syscall.SIGKILL, 5*time.Second)
	}
	return errors.Join(err, s.remove(p))
}

// end sends a signal to a process and waits for its end.
func (p *process) end(signal syscall.Signal, within time.Duration) error {
	if p.enter(stopping) != nil {
		return nil //nolint:nilerr // it has ended by itself
	}
	if err := p.cmd.Process.Signal(signal); err != nil && !errors.Is(err, os.ErrProcessDone) {
		return fmt.Errorf("stopping %s (process %d): %w", p.command.name, p.cmd.Process.Pid, err)
	}
	select {
	case <-p.exited:
		return nil
	case <-time.After(within):
		return fmt.Errorf("stopping %s: process %d survived %s", p.command.name, p.cmd.Process.Pid, signal)
	}
}

// KillParts kills parts of the cluster by their names, such as csidriver, as the kernel does when memory runs out, and returns what starts them again.
func (c *Cluster) KillParts(names ...string) (again func(ctx context.Context) error, err error) {
	var killed []*process
	for _, p := range c.supervisor.list() {
		if slices.Contains(names, p.command.name) {
			if err := errors.Join(p.end(syscall.SIGKILL, 5*time.Second), c.supervisor.remove(p)); err != nil {
				return nil, err
			}
			killed = append(killed, p)
		}
	}
	if len(killed) != len(names) {
		return nil, fmt.Errorf("of the parts %v %d run", names, len(killed))
	}
	return func(ctx context.Context) error {
		for _, p := range killed {
			if _, err := c.supervisor.start(ctx, p.command); err != nil {
				return err
			}
		}
		return nil
	}, nil
}

// stopAll ends every process, the last started first, whatever happens on the way.
func (s *supervisor) stopAll() error {
	var errs []error
	for {
		s.mu.Lock()
		if len(s.running) == 0 {
			s.mu.Unlock()
			return errors.Join(errs...)
		}
		last := s.running[len(s.running)-1]
		s.mu.Unlock()
		errs = append(errs, s.stop(last))
	}
}

// logTail returns the end of the process's log as lines to append to an error.
func (p *process) logTail() string {
	content, err := readTail(p.log, 16<<10)
	if err != nil {
		return fmt.Sprintf(" (reading its log: %v)", err)
	}
	return fmt.Sprintf("\n%s (%s)", lastLines(content, 10), p.log)
}

// readTail returns up to size bytes from the end of a file.
func readTail(path string, size int64) ([]byte, error) {
	file, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer file.Close()
	info, err := file.Stat()
	if err != nil {
		return nil, err
	}
	return io.ReadAll(io.NewSectionReader(file, max(0, info.Size()-size), size))
}

func lastLines(text []byte, n int) []byte {
	lines := bytes.Split(bytes.TrimSpace(text), []byte("\n"))
	return bytes.Join(lines[max(0, len(lines)-n):], []byte("\n"))
}

// runProgram runs a program to its end and returns what it printed; an error includes what it complained about.
func runProgram(ctx context.Context, binary string, env []string, args ...string) ([]byte, error) {
	cmd := exec.CommandContext(ctx, binary, args...)
	cmd.Env = env
	var stdout, stderr bytes.Buffer
	cmd.Stdout, cmd.Stderr = &stdout, &stderr
	cmd.SysProcAttr = childAttributes()
	cmd.WaitDelay = 5 * time.Second
	err := onStarter(cmd.Start)
	if err == nil {
		err = cmd.Wait()
	}
	if err != nil {
		printed := slices.Concat(stdout.Bytes(), stderr.Bytes())
		return stdout.Bytes(), fmt.Errorf("running %s: %w\n%s", filepath.Base(binary), errors.Join(err, ctx.Err()), lastLines(printed, 30))
	}
	return stdout.Bytes(), nil
}
