// Command fuzz gives the parts of the plugin that read what others wrote – objects, annotations, files, answers of guests – a million things
// each that nobody would write. The targets are in the packages below this folder; a plain "go test" runs them with what they begin with. A fuzzer looks after each
// input at all that its package imports: so those that import little have a package of their own, and are several times faster.
package main

import (
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/exec"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"
)

// A Target is one property, and how often nothing was found that breaks it.
type Target struct {
	Name       string
	Executions int
	Seconds    float64
	Date       string
}

// packages have the targets.
var packages = []string{"./tests/fuzz/objects", "./tests/fuzz/texts", "./tests/fuzz/policy"}

func main() {
	limit := flag.String("time", "1000000x", "how often or for how long each target runs, as go test -fuzztime")
	only := flag.String("target", "", "run the targets whose names begin like this")
	file := flag.String("write", "", "file to write the results to; it keeps those of targets that are not run")
	flag.Parse()
	if err := run(*limit, *only, *file); err != nil {
		fmt.Fprintln(os.Stderr, "Error:", err)
		os.Exit(1)
	}
}

func run(limit, only, file string) error {
	for _, pkg := range packages {
		list, err := exec.Command("go", "test", "-list", "^Fuzz", pkg).Output()
		if err != nil {
			return fmt.Errorf("listing the targets: %w", err)
		}
		for name := range strings.FieldsSeq(string(list)) {
			if !strings.HasPrefix(name, "Fuzz") || !strings.HasPrefix(name, only) {
				continue
			}
			target, err := fuzz(pkg, name, limit)
			if err != nil {
				return err
			}
			if err := record(target, file); err != nil {
				return fmt.Errorf("writing the results: %w", err)
			}
		}
	}
	return nil
}

// fuzz runs a target.
func fuzz(pkg, name, limit string) (Target, error) {
	begin := time.Now()
	out, err := exec.Command("go", "test", "-run", "^$", "-fuzz", "^"+name+"$", "-fuzztime", limit, pkg).CombinedOutput()
	if err != nil {
		return Target{}, fmt.Errorf("%s found something; keep the file that is named here, every test runs it from now on:\n%s", name, out)
	}
	t := Target{Name: name, Executions: executions(string(out)), Seconds: time.Since(begin).Seconds(), Date: begin.Format(time.DateOnly)}
	fmt.Printf("%-22s %8d executions %6.0f s\n", t.Name, t.Executions, t.Seconds)
	return t, nil
}

// record puts the result of a target into the file, if there is to be one, in the place of its last one.
func record(t Target, file string) error {
	if file == "" {
		return nil
	}
	targets, err := read(file)
	if err != nil {
		return err
	}
	if n := slices.IndexFunc(targets, func(other Target) bool { return other.Name == t.Name }); n >= 0 {
		targets[n] = t
	} else {
		targets = append(targets, t)
	}
	slices.SortFunc(targets, func(a, b Target) int { return strings.Compare(a.Name, b.Name) })
	data, err := json.MarshalIndent(targets, "", "  ")
	if err != nil {
		return err
	}
	return os.WriteFile(file, append(data, '\n'), 0o644)
}

// read reads what the last runs of the targets did; nothing when there is no such file yet.
func read(file string) (targets []Target, err error) {
	data, err := os.ReadFile(file)
	if errors.Is(err, os.ErrNotExist) {
		return nil, nil
	}
	if err == nil {
		err = json.Unmarshal(data, &targets)
	}
	return targets, err
}

// progress is what go test prints of a fuzzer: "fuzz: elapsed: 3s, execs: 12345 (4115/sec), new interesting: 2 (total: 12)".
var progress = regexp.MustCompile(`execs: (\d+)`)

// executions returns how many the fuzzer counts at its end.
func executions(printed string) int {
	count := 0
	for _, found := range progress.FindAllStringSubmatch(printed, -1) {
		count, _ = strconv.Atoi(found[1])
	}
	return count
}
