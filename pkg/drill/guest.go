package drill

import (
	"context"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"time"

	"velero-plugin-for-kubevirt/pkg/consistency"
	"velero-plugin-for-kubevirt/pkg/object"
	"velero-plugin-for-kubevirt/pkg/vm"
)

// An execStatus is what the guest agent says of a command (QEMU, qga/qapi-schema.json, GuestExecStatus).
type execStatus struct {
	Exited   bool   `json:"exited"`
	ExitCode int    `json:"exitcode"`
	Signal   int    `json:"signal"`
	Out      string `json:"out-data"`
	Err      string `json:"err-data"`
}

// exec has the guest agent run a command, which must succeed.
func (r *Run) exec(ctx context.Context, vmi map[string]any) error {
	shell := []string{"/bin/sh", "-c"}
	os, err := object.String(vmi, "status.guestOSInfo.id")
	if err != nil {
		return err
	}
	if os == "mswindows" {
		shell = []string{"cmd.exe", "/c"}
	}
	var started struct {
		PID int `json:"pid"`
	}
	err = r.agent(ctx, vmi, "guest-exec", map[string]any{"path": shell[0], "arg": []string{shell[1], r.Options.Exec}, "capture-output": true}, &started)
	if err != nil {
		return err
	}
	for {
		var status execStatus
		if err := r.agent(ctx, vmi, "guest-exec-status", map[string]any{"pid": started.PID}, &status); err != nil {
			return err
		}
		if status.Exited {
			return status.judge(r.Options.Exec)
		}
		r.Waiting("the guest runs " + r.Options.Exec)
		select {
		case <-ctx.Done():
			return vm.NotGood(fmt.Sprintf("%q runs in the guest, and has not ended: %v", r.Options.Exec, ctx.Err()))
		case <-time.After(time.Second / 2):
		}
	}
}

func (s execStatus) judge(command string) error {
	if s.ExitCode == 0 && s.Signal == 0 {
		return nil
	}
	ended := fmt.Sprintf("exit code %d", s.ExitCode)
	if s.Signal != 0 {
		ended = fmt.Sprintf("signal %d", s.Signal)
	}
	var said []string
	for _, text := range []string{s.Out, s.Err} {
		decoded, err := base64.StdEncoding.DecodeString(text)
		if err != nil {
			return fmt.Errorf("reading what %q said in the guest: %w", command, err)
		}
		said = append(said, strings.Fields(string(decoded))...)
	}
	return vm.NotGood(fmt.Sprintf("%q in the guest: %s: %s", command, ended, strings.Join(said, " ")))
}

// agent has virsh in the launcher send a command to the guest agent.
func (r *Run) agent(ctx context.Context, vmi map[string]any, execute string, arguments map[string]any, into any) error {
	launcher, err := r.Launcher(ctx, object.Namespace(vmi), object.UID(vmi))
	if err != nil {
		return err
	}
	command, line, err := consistency.AskAgent(object.Namespace(vmi), object.Name(vmi), execute, arguments)
	if err != nil {
		return err
	}
	printed, err := r.Cluster.Exec(ctx, launcher, "compute", command, strings.NewReader(line))
	if err != nil {
		return err
	}
	answer, err := consistency.AgentSays(printed)
	if err == nil {
		err = json.Unmarshal(answer, into)
	}
	if err != nil {
		return errors.Join(vm.NotGood("the guest agent does not do "+execute), err)
	}
	return nil
}
