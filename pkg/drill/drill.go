// Package drill is a rehearsal of a restore: each VM of a backup is restored into a scratch namespace of its own making, cut off from every network, started
// and asked whether its guest is well. In the end all that it made is removed.
//
// A VM is restored stopped, edited where it is, and only then started. So nothing but the scratch namespace's own object is edited, the edit is seen before a
// guest runs, and neither an option of the plugin nor a ConfigMap in Velero's namespace is needed.
package drill

import (
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"sync"
	"time"

	"velero-plugin-for-kubevirt/pkg/kubevirt"
	"velero-plugin-for-kubevirt/pkg/object"
	"velero-plugin-for-kubevirt/pkg/options"
	"velero-plugin-for-kubevirt/pkg/vm"
)

// A Cluster is what a drill reads and changes.
type Cluster interface {
	vm.Cluster
	Delete(ctx context.Context, id kubevirt.ID) error
	Exec(ctx context.Context, pod kubevirt.ID, container string, command []string, stdin io.Reader) (string, error)
}

// A VM is one to be rehearsed.
type VM struct {
	kubevirt.ID          // as it is called in the backup
	Label       string   // by which it is selected in the backup
	HadAgent    bool     // a guest agent answered when it was backed up
	Incomplete  []string // why a restore would not bring the whole VM
}

// What a VM is waited for.
const (
	Running = "running" // its guest has been started
	Agent   = "agent"   // its guest agent answers
)

// Options are what a person asks for.
type Options struct {
	Prefix   string            // of the scratch namespaces' names
	WaitFor  string            // Running, Agent, or empty for the agent of those that had one
	Exec     string            // a command for the guests
	Networks map[string]string // Multus networks by what takes their place
	Timeout  time.Duration     // for each VM
	Parallel int               // how many at a time
	Keep     bool
}

// A Result is what came of one VM. The times are since its rehearsal began; what did not happen has none.
type Result struct {
	VM       string  `json:"vm"`
	Passed   bool    `json:"passed"`
	Restored Seconds `json:"restoredSeconds,omitempty"`
	Running  Seconds `json:"runningSeconds,omitempty"`
	Agent    Seconds `json:"agentSeconds,omitempty"`
	Reason   string  `json:"reason,omitempty"` // why it did not pass
}

// Seconds are a time as machines read it.
type Seconds float64

// String is the time as people read it, empty when there is none.
func (s Seconds) String() string {
	if s == 0 {
		return ""
	}
	return fmt.Sprintf("%.1fs", float64(s))
}

// A Run is one drill.
type Run struct {
	Cluster        Cluster
	Backup, Velero string // the Backup, and Velero's namespace
	ID             string // tells this drill's objects from another's
	Options        Options
	// Namespaces are the backed-up ones by name; Launcher finds the launcher pod of an instance.
	Namespaces map[string]map[string]any
	Launcher   func(ctx context.Context, namespace, uid string) (kubevirt.ID, error)
	Waiting    func(string) // is told what is being waited for
}

// Do rehearses VMs and removes what it made. The error is one of the drill, not of a VM.
func (r *Run) Do(ctx context.Context, vms []VM) (results []Result, err error) {
	sources := map[string]bool{}
	for _, v := range vms {
		sources[v.Namespace] = true
	}
	defer func() {
		if !r.Options.Keep {
			err = errors.Join(err, r.remove(context.WithoutCancel(ctx), vms))
		}
	}()
	for namespace := range sources {
		if err := r.makeScratch(ctx, namespace); err != nil {
			return nil, err
		}
	}
	results = make([]Result, len(vms))
	free := make(chan struct{}, max(1, r.Options.Parallel))
	var all sync.WaitGroup
	for i, v := range vms {
		free <- struct{}{}
		all.Go(func() {
			defer func() { <-free }()
			results[i] = r.rehearse(ctx, v)
		})
	}
	all.Wait()
	return results, ctx.Err()
}

// rehearse restores, starts and asks one VM.
func (r *Run) rehearse(ctx context.Context, v VM) Result {
	result := Result{VM: v.Namespace + "/" + v.Name}
	if len(v.Incomplete) > 0 {
		result.Reason = v.Incomplete[0]
		if more := len(v.Incomplete) - 1; more > 0 {
			result.Reason += fmt.Sprintf(", and %d more", more)
		}
		return result
	}
	ctx, cancel := context.WithTimeout(ctx, r.Options.Timeout)
	defer cancel()
	began := time.Now()
	for _, step := range []struct {
		do   func(context.Context, VM) error
		took *Seconds
	}{{r.restore, &result.Restored}, {r.start, &result.Running}, {r.ask, &result.Agent}} {
		if err := step.do(ctx, v); err != nil {
			result.Reason = err.Error()
			return result
		}
		*step.took = Seconds(time.Since(began).Round(100 * time.Millisecond).Seconds())
	}
	if !r.wantsAgent(v) {
		result.Agent = 0
	}
	result.Passed = true
	if !r.Options.Keep { // its memory is for the next
		if err := r.stop(ctx, r.scratch(v.ID)); err != nil {
			result.Passed, result.Reason = false, err.Error()
		}
	}
	return result
}

func (r *Run) wantsAgent(v VM) bool {
	return r.Options.Exec != "" || r.Options.WaitFor == Agent || (r.Options.WaitFor == "" && v.HadAgent)
}

// scratch is what an object is called in its scratch namespace.
func (r *Run) scratch(id kubevirt.ID) kubevirt.ID {
	id.Namespace = r.Options.Prefix + id.Namespace
	return id
}

func (r *Run) restoreID(v VM) kubevirt.ID {
	return kubevirt.ID{GroupResource: kubevirt.VeleroRestores, Namespace: r.Velero, Name: "drill-" + v.Name + "-" + r.ID}
}

// restore has Velero restore a VM, stopped and with another identity.
func (r *Run) restore(ctx context.Context, v VM) error {
	id := r.restoreID(v)
	restore := vm.Restore(id, r.Backup, v.Namespace, v.Label, map[string]any{options.Identity.Key: options.New, options.RunStrategy.Key: "Halted"})
	spec, err := object.Map(restore, "spec")
	if err != nil {
		return err
	}
	spec["namespaceMapping"] = map[string]any{v.Namespace: r.scratch(v.ID).Namespace}
	if _, err := r.Cluster.Create(ctx, id, restore); err != nil {
		return err
	}
	return vm.AwaitRestore(ctx, r.Cluster, id, r.Waiting)
}

// start cuts the restored VM off and starts it.
func (r *Run) start(ctx context.Context, v VM) error {
	id := r.scratch(v.ID)
	restored, err := r.Cluster.Now(ctx, id)
	if err != nil {
		return err
	}
	if restored == nil {
		return vm.NotGood("the Restore is Completed, and has not brought the VM")
	}
	patch, err := cutOff(restored, r.Options.Networks)
	if err != nil {
		return object.Failed(restored, "cutting off", err)
	}
	if err := r.Cluster.Patch(ctx, id, patch); err != nil {
		return err
	}
	return vm.AwaitRunning(ctx, r.Cluster, id, r.Waiting)
}

// ask waits for the guest agent and has it run a command, as far as that is wanted.
func (r *Run) ask(ctx context.Context, v VM) error {
	if !r.wantsAgent(v) {
		return nil
	}
	id := r.scratch(v.ID)
	id.GroupResource = kubevirt.VirtualMachineInstances
	var instance map[string]any
	err := vm.Poll(ctx, r.Cluster, id, r.Waiting, func(vmi map[string]any) (string, error) {
		instance = vmi
		connected, err := HasAgent(vmi)
		if err != nil || connected {
			return "", err
		}
		return "the guest agent does not answer", nil
	})
	if err != nil || r.Options.Exec == "" {
		return err
	}
	return r.exec(ctx, instance)
}

// HasAgent tells whether a guest agent answers in an instance.
func HasAgent(vmi map[string]any) (bool, error) {
	conditions, err := object.Find(vmi, "status.conditions[]")
	return slices.ContainsFunc(conditions, func(field object.Field) bool {
		condition, _ := field.Value.(map[string]any)
		return condition["type"] == "AgentConnected" && condition["status"] == "True"
	}), err
}
