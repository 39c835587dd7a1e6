package main

import (
	"sync"
	"time"

	"k8s.io/klog/v2"
)

// What happens to a guest's file systems, as the journal calls it.
const (
	frozen     = "frozen"
	thawed     = "thawed"
	autoThawed = "thawed by timeout"
	poweredOff = "powered off while frozen"
)

// A guest is an operating system in an instance, as far as freezing and pausing it goes. It moves with a migration.
type guest struct {
	namespace, name string
	journal         *journal
	lag             time.Duration
	changed         func() // asks for the status to be looked at

	mu     sync.Mutex
	paused bool
	frozen bool
	since  time.Time   // of the last freeze or thaw
	before bool        // whether it was frozen before that
	thaw   *time.Timer // while frozen: thaws it

	claims      []string // of the disks that it writes to
	disks       []disk
	number      int64 // of the last record
	stopWriting func()
}

func newGuest(namespace, name string, j *journal, lag time.Duration, changed func()) *guest {
	return &guest{namespace: namespace, name: name, journal: j, lag: lag, changed: changed}
}

// freeze freezes the file systems, for as long as timeout at most. Zero means for ever. Freezing what is frozen does
// nothing, not even to the timeout (KubeVirt v1.8.4, pkg/virt-launcher/virtwrap/storage/fsfreeze.go).
func (g *guest) freeze(timeout time.Duration) {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.frozen {
		return
	}
	g.become(frozen)
	if timeout > 0 {
		g.thaw = time.AfterFunc(timeout, func() { g.unfreeze(autoThawed) })
	}
}

// unfreeze ends a freeze. Thawing what is not frozen does nothing.
func (g *guest) unfreeze(how string) {
	g.mu.Lock()
	defer g.mu.Unlock()
	if !g.frozen {
		return
	}
	g.become(how)
	if g.thaw != nil {
		g.thaw.Stop()
		g.thaw = nil
	}
}

func (g *guest) become(action string) {
	g.before, g.frozen, g.since = g.frozen, action == frozen, time.Now()
	klog.InfoS("guest "+action, "instance", g.namespace+"/"+g.name)
	if err := g.journal.write(g.namespace, g.name, action, g.since); err != nil {
		klog.ErrorS(err, "recording what happened to a guest")
	}
	g.changed()
}

func (g *guest) pause(paused bool) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.paused = paused
	g.changed()
}

// shown returns the state that the instance's status is to show, and when to ask again.
func (g *guest) shown() (frozen, paused bool, again time.Duration) {
	g.mu.Lock()
	defer g.mu.Unlock()
	if left := g.lag - time.Since(g.since); left > 0 {
		return g.before, g.paused, left
	}
	return g.frozen, g.paused, 0
}

// now returns the state that the guest's agent would report.
func (g *guest) now() (frozen, paused bool) {
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.frozen, g.paused
}

// powerOff ends the guest.
func (g *guest) powerOff() {
	g.mu.Lock()
	g.unplug()
	g.mu.Unlock()
	g.unfreeze(poweredOff)
}
