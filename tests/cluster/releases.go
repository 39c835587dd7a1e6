package cluster

import (
	"fmt"
	"maps"
	"slices"
	"strings"
)

// releases are the versions of components that a cluster can have, by the folder of their module. The first is the one that
// go.mod requires and a cluster has by default. For each of the others there is a file with its name and .mod beside it.
var releases = map[string][]string{
	"kubernetes": {"v1.36.3"},
	"kubevirt":   {"v1.8.4", "v1.7.0"},
	"velero":     {"v1.18.1", "v1.17.2", "v1.16.2"},
}

// Releases lists the versions of a component that a cluster can have, the default first.
func Releases(component string) []string { return slices.Clone(releases[component]) }

// ParseReleases reads Options.Releases from text such as "velero=v1.17.2,kubevirt=v1.7.0".
func ParseReleases(text string) (map[string]string, error) {
	chosen := map[string]string{}
	for item := range strings.SplitSeq(text, ",") {
		component, release, ok := strings.Cut(item, "=")
		if !ok && item != "" {
			return nil, fmt.Errorf("reading releases: %q is not COMPONENT=VERSION", item)
		}
		if ok {
			chosen[component] = release
		}
	}
	return chosen, nil
}

func (o Options) checkReleases() error {
	for component, release := range o.Releases {
		known, ok := releases[component]
		if !ok {
			return fmt.Errorf("no release of %q can be chosen, but of %s", component, strings.Join(slices.Sorted(maps.Keys(releases)), ", "))
		}
		if !slices.Contains(known, release) {
			return fmt.Errorf("there is no release %q of %s, but %s", release, component, strings.Join(known, ", "))
		}
	}
	return nil
}

// release returns which version of a component the cluster has, empty for those without choice.
func (o Options) release(component string) string {
	if release := o.Releases[component]; release != "" {
		return release
	}
	if known := releases[component]; known != nil {
		return known[0]
	}
	return ""
}

// releaseMark stands for the version in a Program's linker flags.
const releaseMark = "$RELEASE"

// released returns a program as it is built for the cluster's releases.
func (o Options) released(p Program) Program {
	release := o.release(p.Module)
	p.LDFlags = strings.ReplaceAll(p.LDFlags, releaseMark, release)
	if release != "" && release != releases[p.Module][0] && !p.Pinned {
		p.Mod = release + ".mod"
	}
	return p
}
