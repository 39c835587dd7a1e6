package main

import (
	"fmt"
	"os"
	"regexp"
	"strings"

	"github.com/google/go-cmp/cmp"
)

// sample is where a README shows what the demo prints.
var sample = regexp.MustCompile("(?s)(<!-- demo -->\n```\n)(.*?)(\n```\n<!-- end -->)")

// varying are the parts of what the demo prints that differ each time: the time in the name of the backup, how long something took, the end of a pod's name and
// a VM's UID. The width of a column goes with them.
var varying = []struct {
	pattern     *regexp.Regexp
	replacement string
}{
	{regexp.MustCompile(`demo-\d{8}-\d{6}`), "demo-DATE-TIME"},
	{regexp.MustCompile(`\bin \d+\.\d s\b`), "in N s"},
	{regexp.MustCompile(`\bfrozen for \S+`), "frozen for N"},
	{regexp.MustCompile(`(pods/shop/[a-z-]+)-[a-z0-9]{5}\b`), "$1-XXXXX"},
	{regexp.MustCompile(`(revision-start-vm)-[0-9a-f-]{36}`), "$1-UID"},
	{regexp.MustCompile(`(\S)  +`), "$1  "},
}

// checkSample compares what the demo printed with what a README shows.
func checkSample(path, printed string) error {
	text, err := os.ReadFile(path)
	if err != nil {
		return err
	}
	shown := sample.FindStringSubmatch(string(text))
	if shown == nil {
		return fmt.Errorf("%s shows no output of the demo", path)
	}
	if diff := cmp.Diff(lines(shown[2]), lines(printed)); diff != "" {
		return fmt.Errorf("the demo does not print what %s shows; run \"make demo WRITE=1\" (-README +demo):\n%s", path, diff)
	}
	return nil
}

// lines returns what does not vary, line by line.
func lines(text string) []string {
	for _, v := range varying {
		text = v.pattern.ReplaceAllString(text, v.replacement)
	}
	return strings.Split(strings.TrimSpace(text), "\n")
}

// writeSample puts what the demo printed into a README.
func writeSample(path, printed string) error {
	text, err := os.ReadFile(path)
	if err != nil {
		return err
	}
	place := sample.FindSubmatchIndex(text)
	if place == nil {
		return fmt.Errorf("%s has no place for the output of the demo", path)
	}
	written := string(text[:place[4]]) + strings.TrimSpace(printed) + string(text[place[5]:])
	return os.WriteFile(path, []byte(written), 0o644)
}
