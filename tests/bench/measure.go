package main

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"time"

	"velero-plugin-for-kubevirt/tests/cluster"
)

// A Sample is what one backup or restore took.
type Sample struct {
	Seconds  float64 `json:"seconds"`
	CPU      float64 `json:"cpuSeconds"`        // of the Velero server and all plugins
	Plugin   float64 `json:"pluginSeconds"`     // CPU of the measured plugin
	Requests int     `json:"requests"`          // of the measured plugin to the API server
	Bytes    int     `json:"peakResidentBytes"` // of the measured plugin
}

// measure runs do and tells what it took. name is that of the plugin's binary, by which its processes and, with a slash behind, the User-Agent of its requests
// in the API server's audit log are known.
func measure(c *cluster.Cluster, name string, do func() error) (Sample, error) {
	log := c.AuditLog()
	before, err := os.Stat(log)
	if err != nil {
		return Sample{}, err
	}
	watcher := watch(c, name)
	started := time.Now()
	err = do()
	sample := watcher.end()
	sample.Seconds = time.Since(started).Seconds()
	if err != nil {
		return Sample{}, err
	}
	sample.Requests, err = requests(log, before.Size(), name+"/")
	return sample, err
}

// requests counts the requests in an audit log after an offset whose User-Agent begins with agent.
func requests(log string, offset int64, agent string) (int, error) {
	file, err := os.Open(log)
	if err != nil {
		return 0, err
	}
	defer file.Close()
	if _, err := file.Seek(offset, io.SeekStart); err != nil {
		return 0, err
	}
	n := 0
	lines := bufio.NewScanner(file)
	lines.Buffer(nil, 1<<20)
	for lines.Scan() {
		var event struct{ UserAgent, Stage string }
		if err := json.Unmarshal(lines.Bytes(), &event); err != nil {
			return 0, fmt.Errorf("reading %s: %w", log, err)
		}
		if event.Stage == "ResponseComplete" && strings.HasPrefix(event.UserAgent, agent) {
			n++
		}
	}
	return n, lines.Err()
}

// A watcher looks at the processes of Velero and its plugins, which come and go with each backup and restore.
type watcher struct {
	velero, plugins, plugin string
	cancel                  context.CancelFunc
	done                    sync.WaitGroup
	first, last             map[int]float64 // CPU seconds by process
	ofPlugin                map[int]bool
	peak                    int
}

func watch(c *cluster.Cluster, name string) *watcher {
	ctx, cancel := context.WithCancel(context.Background())
	w := &watcher{
		velero: c.Program("velero"), plugins: filepath.Dir(c.Plugin(name)), plugin: c.Plugin(name), cancel: cancel,
		first: map[int]float64{}, last: map[int]float64{}, ofPlugin: map[int]bool{},
	}
	w.look(true)
	w.done.Go(func() {
		for ctx.Err() == nil {
			w.look(false)
			time.Sleep(50 * time.Millisecond)
		}
	})
	return w
}

func (w *watcher) end() Sample {
	w.cancel()
	w.done.Wait()
	w.look(false)
	sample := Sample{Bytes: w.peak}
	for process, seconds := range w.last {
		sample.CPU += seconds - w.first[process]
		if w.ofPlugin[process] {
			sample.Plugin += seconds - w.first[process]
		}
	}
	return sample
}

// look notes what the processes have used. A process that ends meanwhile cannot be read, and was seen before.
func (w *watcher) look(first bool) {
	programs, err := filepath.Glob("/proc/[0-9]*/exe")
	if err != nil {
		return
	}
	for _, link := range programs {
		program, err := os.Readlink(link)
		if err != nil || (program != w.velero && filepath.Dir(program) != w.plugins) {
			continue
		}
		dir := filepath.Dir(link)
		process, err := strconv.Atoi(filepath.Base(dir))
		seconds, known := cpuSeconds(dir)
		if err != nil || !known || program == w.velero && !serves(dir) {
			continue
		}
		if first {
			w.first[process] = seconds
		}
		w.last[process] = seconds
		if program == w.plugin {
			w.ofPlugin[process] = true
			w.peak = max(w.peak, cluster.PeakBytes(process))
		}
	}
}

// serves tells the server and its built-in plugins from the command line that waits for them.
func serves(dir string) bool {
	command, err := os.ReadFile(filepath.Join(dir, "cmdline"))
	arguments := strings.Split(string(command), "\x00")
	return err == nil && len(arguments) > 1 && (arguments[1] == "server" || arguments[1] == "run-plugins")
}

// cpuSeconds reads utime and stime from /proc/PID/stat, in ticks of 10 ms (proc(5)); false when the process has ended.
func cpuSeconds(dir string) (float64, bool) {
	stat, err := os.ReadFile(filepath.Join(dir, "stat"))
	if err != nil {
		return 0, false
	}
	fields := strings.Fields(string(stat[strings.LastIndexByte(string(stat), ')')+1:]))
	if len(fields) < 13 {
		return 0, false
	}
	user, err1 := strconv.ParseFloat(fields[11], 64)
	system, err2 := strconv.ParseFloat(fields[12], 64)
	return (user + system) / 100, err1 == nil && err2 == nil
}
