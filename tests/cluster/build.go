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
	"slices"
	"strings"
	"syscall"
	"time"
)

// A Program is one binary of the cluster and the Go package it is built from.
type Program struct {
	Name    string // of the binary, and of the program in messages
	Module  string // folder under components/ whose go.mod pins the versions
	Package string // import path, or ./folder within the module
	LDFlags string // linker flags besides -s -w; releaseMark in them stands for the version
	Pinned  bool   // go.mod has the version whatever release is asked for
	Mod     string // the file used in place of go.mod, if any
	Tags    string // build tags, if any
	C       bool   // it has parts in C
}

// A builder builds programs once and keeps them in the user's cache.
type builder struct {
	source   string // the folder of the component modules
	cache    string
	progress *progress
}

// newBuilder returns a builder for the component modules of the module that the working directory belongs to.
func newBuilder(ctx context.Context, out io.Writer) (*builder, error) {
	gomod, err := goCommand(ctx, ".", "env", "GOMOD")
	if err != nil {
		return nil, fmt.Errorf("finding the component modules: %w", err)
	}
	source := filepath.Join(filepath.Dir(strings.TrimSpace(string(gomod))), "tests", "cluster", "components")
	if _, err := os.Stat(source); err != nil {
		return nil, fmt.Errorf("finding the component modules (run from within this project's module): %w", err)
	}
	cache, err := cacheDir(programCache)
	if err != nil {
		return nil, err
	}
	return &builder{source: source, cache: cache, progress: newProgress(out)}, nil
}

// Build builds every program the cluster may need and fetches what it reads from modules, so that a later Start needs
// neither compiler time nor network. It prints one line per program to out.
func Build(ctx context.Context, out io.Writer) error {
	b, err := newBuilder(ctx, out)
	if err != nil {
		return err
	}
	programs, err := b.build(ctx, programsOf(Options{}))
	if err != nil {
		return err
	}
	_, err = readDefinitions(ctx, b, programs)
	if err != nil {
		return err
	}
	_, err = readStages(ctx, b)
	return err
}

// build returns the path of each program's binary, building those that the cache lacks.
func (b *builder) build(ctx context.Context, programs []Program) (map[string]string, error) {
	binaries := map[string]string{}
	var missing []Program
	for _, p := range programs {
		key, err := cacheKey(ctx, filepath.Join(b.source, p.Module), p)
		if err != nil {
			return nil, fmt.Errorf("building %s: %w", p.Name, err)
		}
		binaries[p.Name] = filepath.Join(b.cache, key, p.Name)
		if _, err := os.Stat(binaries[p.Name]); err != nil {
			missing = append(missing, p)
		}
	}
	for i, p := range missing {
		if err := b.buildOne(ctx, p, binaries[p.Name], i+1, len(missing)); err != nil {
			return nil, fmt.Errorf("building %s: %w", p.Name, err)
		}
	}
	return binaries, nil
}

func (b *builder) buildOne(ctx context.Context, p Program, binary string, index, total int) error {
	if err := os.MkdirAll(filepath.Dir(binary), 0o755); err != nil {
		return err
	}
	line := b.progress.begin(fmt.Sprintf("building %s (%d of %d)", p.Name, index, total))
	defer line.end()
	// A second run waits here and then finds what the first one built.
	unlock, err := lockFile(ctx, binary+".lock", func() { line.note("another run is building it") })
	if err != nil {
		return err
	}
	defer unlock()
	if _, err := os.Stat(binary); err == nil {
		return nil
	}
	// The binary gets its name only when it is complete. The compiler would refuse to replace half a file.
	partial := binary + ".partial"
	if err := os.RemoveAll(partial); err != nil {
		return err
	}
	if _, err := goCommandC(ctx, p.C, filepath.Join(b.source, p.Module), buildArgs(p, partial)...); err != nil {
		line.failed()
		return errors.Join(err, os.RemoveAll(partial))
	}
	return os.Rename(partial, binary)
}

func buildArgs(p Program, output string) []string {
	args := []string{"build", "-trimpath", "-buildvcs=false", "-ldflags", strings.TrimSpace("-s -w " + p.LDFlags), "-o", output, p.Package}
	if p.Mod != "" {
		args = slices.Insert(args, 1, "-modfile="+p.Mod)
	}
	if p.Tags != "" {
		args = slices.Insert(args, 1, "-tags="+p.Tags)
	}
	return args
}

// goCommand runs the go command in a module's folder and returns its standard output. Settings of the caller's shell
// that would change the result do not reach it.
func goCommand(ctx context.Context, dir string, args ...string) ([]byte, error) {
	return goCommandC(ctx, false, dir, args...)
}

// goCommandC does the same, with C for those few programs that have parts in it.
func goCommandC(ctx context.Context, c bool, dir string, args ...string) ([]byte, error) {
	cmd := exec.CommandContext(ctx, "go", args...)
	cmd.Dir = dir
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0", "GOFLAGS=-mod=readonly", "GOWORK=off")
	if c {
		cmd.Env = append(cmd.Env, "CGO_ENABLED=1")
	}
	var stdout, stderr bytes.Buffer
	cmd.Stdout, cmd.Stderr = &stdout, &stderr
	// The compilers are the go command's children: cancelling ends the whole group.
	cmd.SysProcAttr = childAttributes()
	cmd.Cancel = func() error { return syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL) }
	cmd.WaitDelay = 5 * time.Second
	if err := onStarter(cmd.Start); err != nil {
		return nil, fmt.Errorf("running go %s: %w", args[0], err)
	}
	if err := cmd.Wait(); err != nil {
		if ctx.Err() != nil {
			return nil, fmt.Errorf("running go %s: %w", args[0], ctx.Err())
		}
		return nil, fmt.Errorf("running go %s: %w\n%s", args[0], err, lastLines(stderr.Bytes(), 20))
	}
	return stdout.Bytes(), nil
}
