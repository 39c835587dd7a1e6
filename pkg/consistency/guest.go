package consistency

import (
	"encoding/json"
	"fmt"
)

// AskGuest returns the command that asks, in the compute container of its launcher, whether a guest is frozen. It waits for a line
// first: to start a command in a pod takes longer than to ask, and the guest is frozen meanwhile. It is the question that virt-launcher
// asks before it freezes, it changes nothing, and a frozen guest answers it. KubeVirt's own answers come from a cache that is up to 5 s
// old (KubeVirt 1.9.0, pkg/virt-launcher/virtwrap/agent-poller), too late for most snapshots. virsh is in the launcher's image (KubeVirt
// 1.7 to 1.9, rpm/BUILD.bazel), the address is virt-launcher's (cmd/virt-launcher/virt-launcher.go).
func AskGuest(namespace, name string) []string {
	return []string{
		"sh", "-c", `read -r now && exec "$@"`, "sh",
		"virsh", "--quiet", "--connect", "qemu+unix:///session?socket=/var/run/libvirt/virtqemud-sock",
		"qemu-agent-command", namespace + "_" + name, `{"execute":"guest-fsfreeze-status"}`, "--timeout", "1",
	}
}

// SaysFrozen reads the guest's answer.
func SaysFrozen(answer string) (bool, error) {
	var status struct {
		Return string `json:"return"`
	}
	if err := json.Unmarshal([]byte(answer), &status); err != nil {
		return false, fmt.Errorf("the guest agent answers %q: %w", answer, err)
	}
	switch status.Return {
	case "frozen":
		return true, nil
	case "thawed":
		return false, nil
	}
	return false, fmt.Errorf("the guest agent answers %q, neither frozen nor thawed", answer)
}
