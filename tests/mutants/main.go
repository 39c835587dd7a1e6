// Command mutants breaks the plugin in one place at a time and runs the tests: a condition is negated, && becomes ||, a comparison moves, continue becomes
// break, a rule, reference or lookup is taken out. A mutant that no test notices is behaviour that nothing guards: it is printed, and the exit code is 1.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"math/rand/v2"
	"os"
	"os/signal"
	"slices"
	"strings"
	"sync"
	"time"
)

// packages are those that decide. Adapters and printing have tests of their own.
var packages = []string{
	"pkg/rules", "pkg/graph", "pkg/consistency", "pkg/options", "pkg/object", "pkg/backup", "pkg/snapshot", "pkg/freeze", "pkg/restore",
}

func main() {
	all := flag.Bool("all", false, "try all mutants, not a sample")
	only := flag.String("package", "", "one package, say pkg/rules")
	limit := flag.Duration("time", 4*time.Minute, "how long a sample may take")
	seed := flag.Uint64("seed", uint64(time.Now().Unix()), "which sample")
	flag.Parse()
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	defer stop()
	if err := run(ctx, *all, *only, *limit, *seed); err != nil {
		fmt.Fprintln(os.Stderr, "mutants:", err)
		os.Exit(1)
	}
}

func run(ctx context.Context, all bool, only string, limit time.Duration, seed uint64) error {
	var mutants []mutant
	for _, folder := range packages {
		if only != "" && folder != only {
			continue
		}
		found, err := mutantsOf(folder)
		if err != nil {
			return err
		}
		mutants = append(mutants, found...)
		if _, err := goTest(ctx, "./"+folder); err != nil {
			return fmt.Errorf("without a mutant: %w", err)
		}
	}
	if len(mutants) == 0 {
		return fmt.Errorf("no mutants in %s; the packages are %s", only, strings.Join(packages, ", "))
	}
	if !all {
		fmt.Printf("a sample of %d mutants, SEED=%d\n", len(mutants), seed)
		rand.New(rand.NewPCG(seed, 0)).Shuffle(len(mutants), func(i, j int) { mutants[i], mutants[j] = mutants[j], mutants[i] })
	}
	counts, unlisted, err := tryAll(ctx, mutants, all, limit)
	if err != nil {
		return err
	}
	tried := counts[killed] + counts[survived]
	fmt.Printf("%d of %d mutants were killed, %.1f %%; %d survive for a reason that is listed; %d places make no mutant that compiles\n",
		counts[killed], tried, 100*float64(counts[killed])/float64(tried), counts[survived]-len(unlisted), counts[invalid])
	var errs []error
	for _, m := range unlisted {
		errs = append(errs, fmt.Errorf("%s:%d survives: %s", m.file, m.line, m))
	}
	return errors.Join(errs...)
}

// workers try mutants side by side.
const workers = 2

// tryAll tries mutants, or as many as fit into the limit, and returns how many had which outcome and those that survive without a listed reason.
func tryAll(ctx context.Context, mutants []mutant, all bool, limit time.Duration) (map[outcome]int, []mutant, error) {
	var mu sync.Mutex
	counts, seen, unlisted := map[outcome]int{}, map[string]outcome{}, []mutant{}
	var errs []error
	next, end := make(chan mutant), time.Now().Add(limit)
	go func() {
		defer close(next)
		for _, m := range mutants {
			if !all && time.Now().After(end) || ctx.Err() != nil {
				return
			}
			next <- m
		}
	}()
	var group sync.WaitGroup
	for range workers {
		group.Go(func() {
			for m := range next {
				result, killer, err := try(ctx, m)
				mu.Lock()
				fmt.Printf("%-9s %s:%d %s  %s\n", result, m.file, m.line, m, killer)
				counts[result]++
				seen[m.String()] = result
				if result == survived && equivalent[m.String()] == "" {
					unlisted = append(unlisted, m)
				}
				if err != nil {
					errs = append(errs, err)
				}
				mu.Unlock()
			}
		})
	}
	group.Wait()
	for text := range equivalent {
		if result, tried := seen[text]; tried && result != survived {
			errs = append(errs, fmt.Errorf("equivalent.go lists a mutant that is %s: %s", result, text))
		} else if !tried && all && slices.ContainsFunc(mutants, func(m mutant) bool { return strings.HasPrefix(text, m.file+" ") }) {
			errs = append(errs, fmt.Errorf("equivalent.go lists a mutant that is none any more: %s", text))
		}
	}
	return counts, unlisted, errors.Join(errs...)
}
