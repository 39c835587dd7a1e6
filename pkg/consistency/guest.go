package consistency

import (
	"encoding/json"
	"fmt"
	"regexp"
	"strings"
)

// AskGuest returns a command for the compute container of a launcher, and the line by which it asks whether the guest is frozen. To start
// the command and to connect it takes longer than to ask, and the guest is frozen meanwhile: virsh that is given no command connects, waits
// for lines and ends with them (libvirt 11.3, tools/virsh.c). It is the question that virt-launcher asks before it freezes, it changes
// nothing, and a frozen guest answers it. KubeVirt's own answers come from a cache that is up to 5 s old (KubeVirt 1.9.0,
// pkg/virt-launcher/virtwrap/agent-poller), too late for most snapshots. sh and virsh are in the launcher's image (KubeVirt 1.7 to 1.9,
// rpm/BUILD.bazel), the address is virt-launcher's (cmd/virt-launcher/virt-launcher.go).
//
// When virsh has ended the command runs thaw, if any. Virsh ends when its input does, also because whoever froze the guest has died or lost the connection:
// then the launcher thaws its guest by itself, and not only after the 300 s of virt-freezer. That nobody reads what it prints must not end it.
func AskGuest(namespace, name string, thaw []string) (command []string, line string) {
	return virsh(thaw), agentLine(namespace, name, `{"execute":"guest-fsfreeze-status"}`)
}

// AskAgent returns the same, without a thaw, for any command of the guest agent's.
func AskAgent(namespace, name, execute string, arguments map[string]any) (command []string, line string, err error) {
	text, err := json.Marshal(map[string]any{"execute": execute, "arguments": arguments})
	if err != nil {
		return nil, "", fmt.Errorf("asking a guest agent to %s: %w", execute, err)
	}
	// virsh ends the text at an apostrophe; JSON has another way to write one.
	return virsh(nil), agentLine(namespace, name, strings.ReplaceAll(string(text), "'", `\u0027`)), nil
}

// virsh returns the command that waits for lines, and runs another one behind.
func virsh(then []string) []string {
	return append([]string{"sh", "-c", `trap "" PIPE; virsh --quiet --connect "qemu+unix:///session?socket=/var/run/libvirt/virtqemud-sock"; exec "$@"`, "sh"}, then...)
}

func agentLine(namespace, name, command string) string {
	return fmt.Sprintf("qemu-agent-command %s_%s '%s' --timeout 1\n", namespace, name, command)
}

// returned is the agent's answer among what virsh prints.
var returned = regexp.MustCompile(`(?m)^.*?\{"return": *(.*)\}\s*$`)

// AgentSays reads the answer to AskAgent.
func AgentSays(printed string) ([]byte, error) {
	said := returned.FindStringSubmatch(printed)
	if said == nil {
		return nil, fmt.Errorf("the guest agent answers %q", printed)
	}
	return []byte(said[1]), nil
}

// answer is the guest's among what virsh prints: its prompt, the line, errors.
var answer = regexp.MustCompile(`\{"return": *"(\w+)"`)

// SaysFrozen reads the guest's answer.
func SaysFrozen(printed string) (bool, error) {
	switch said := answer.FindStringSubmatch(printed); {
	case said != nil && said[1] == "frozen":
		return true, nil
	case said != nil && said[1] == "thawed":
		return false, nil
	}
	return false, fmt.Errorf("the guest agent answers %q, neither frozen nor thawed", printed)
}
