package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
)

// An outcome is what became of a mutant.
type outcome string

const (
	killed   outcome = "killed"
	survived outcome = "SURVIVED"
	invalid  outcome = "no mutant" // it does not compile
)

var (
	broken     = regexp.MustCompile(`\[build failed\]|\[setup failed\]`)
	failedTest = regexp.MustCompile(`--- FAIL: (\S+)`)
)

// alsoTestedBy are tests of a package elsewhere, besides its own and the scenarios.
var alsoTestedBy = map[string][]string{"pkg/graph": {"./pkg/cli"}}

// try runs the tests of a mutant's package, then the scenarios, until one fails. A test that panics or does not end kills it, too.
func try(ctx context.Context, m mutant) (result outcome, killer string, err error) {
	dir, err := os.MkdirTemp("", "mutant-")
	if err != nil {
		return "", "", err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(dir)) }()
	absolute, err := filepath.Abs(m.file)
	if err != nil {
		return "", "", err
	}
	changed, overlay := filepath.Join(dir, "mutant.go"), filepath.Join(dir, "overlay.json")
	replace, err := json.Marshal(map[string]any{"Replace": map[string]string{absolute: changed}})
	if err != nil {
		return "", "", err
	}
	if err := errors.Join(os.WriteFile(changed, m.source, 0o600), os.WriteFile(overlay, replace, 0o600)); err != nil {
		return "", "", err
	}
	folder := filepath.ToSlash(filepath.Dir(m.file))
	for _, tests := range append([]string{"./" + folder, "./tests/scenarios"}, alsoTestedBy[folder]...) {
		out, err := goTest(ctx, tests, "-overlay", overlay)
		switch {
		case ctx.Err() != nil:
			return "", "", ctx.Err()
		case err == nil:
		case broken.Match(out):
			return invalid, "", nil
		default:
			if name := failedTest.FindSubmatch(out); name != nil {
				return killed, string(name[1]), nil
			}
			return killed, tests, nil
		}
	}
	return survived, "", nil
}

func goTest(ctx context.Context, tests string, args ...string) ([]byte, error) {
	args = append([]string{"test", "-count=1", "-vet=off", "-short", "-failfast", "-timeout=60s"}, append(args, tests)...)
	out, err := exec.CommandContext(ctx, "go", args...).CombinedOutput()
	if err != nil {
		err = fmt.Errorf("testing %s: %w\n%s", tests, err, out)
	}
	return out, err
}
