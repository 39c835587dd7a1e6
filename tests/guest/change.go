//go:build linux

package guest

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"time"

	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/types"
	"sigs.k8s.io/controller-runtime/pkg/client"

	plugin "velero-plugin-for-kubevirt/pkg/cluster"
	"velero-plugin-for-kubevirt/pkg/consistency"
	"velero-plugin-for-kubevirt/pkg/kubevirt"
)

// Subresource asks virt-api to do something with a running VM, such as pause or freeze.
func (w *NodeCluster) Subresource(ctx context.Context, vm VM, verb string) error {
	path := fmt.Sprintf("/apis/subresources.kubevirt.io/v1/namespaces/%s/virtualmachineinstances/%s/%s", vm.Namespace, vm.Name, verb)
	body := map[string]any{}
	if verb == "freeze" {
		body["unfreezeTimeout"] = "5m"
	}
	content, err := json.Marshal(body)
	if err != nil {
		return err
	}
	if err := w.core.CoreV1().RESTClient().Put().AbsPath(path).Body(content).Do(ctx).Error(); err != nil {
		return fmt.Errorf("asking for %s of VirtualMachineInstance %s/%s: %w", verb, vm.Namespace, vm.Name, err)
	}
	return nil
}

// InGuest runs a line of shell in the guest, through its agent, and does not wait for its end.
func (w *NodeCluster) InGuest(ctx context.Context, vm VM, line string) error {
	// Its own session: what is started must outlive the agent, which may be what the line ends.
	request, err := json.Marshal(map[string]any{"execute": "guest-exec", "arguments": map[string]any{
		"path": "/usr/bin/setsid", "arg": []string{"--fork", "/bin/sh", "-c", "exec >/dev/null 2>&1 </dev/null; sleep 1; " + line},
		"env": []string{"PATH=/usr/sbin:/usr/bin:/sbin:/bin"},
	}})
	if err != nil {
		return err
	}
	_, err = w.askAgent(ctx, vm, string(request))
	return err
}

// Thaw thaws a guest behind everybody's back.
func (w *NodeCluster) Thaw(ctx context.Context, vm VM) error {
	_, err := w.askAgent(ctx, vm, `{"execute":"guest-fsfreeze-thaw"}`)
	return err
}

// askAgent sends a request to a guest agent, as a person could in the launcher, and returns the answer.
func (w *NodeCluster) askAgent(ctx context.Context, vm VM, request string) (string, error) {
	return w.inLauncher(ctx, vm, []string{
		"virsh", "--quiet", "--connect", "qemu+unix:///session?socket=/var/run/libvirt/virtqemud-sock",
		"qemu-agent-command", vm.Namespace + "_" + vm.Name, request, "--timeout", "10",
	}, "")
}

func (w *NodeCluster) inLauncher(ctx context.Context, vm VM, command []string, line string) (string, error) {
	live, err := plugin.NewLive(w.Cluster.RESTConfig)
	if err != nil {
		return "", err
	}
	pod, err := w.launcher(ctx, vm)
	if err != nil {
		return "", err
	}
	return live.Exec(ctx, kubevirt.ID{GroupResource: kubevirt.Pods, Namespace: pod.Namespace, Name: pod.Name}, "compute", command, strings.NewReader(line))
}

// IsFrozen asks a guest whether it is frozen.
func (w *NodeCluster) IsFrozen(ctx context.Context, vm VM) (bool, error) {
	command, line := consistency.AskGuest(vm.Namespace, vm.Name, nil)
	answer, err := w.inLauncher(ctx, vm, command, line)
	if err != nil {
		return false, err
	}
	return consistency.SaysFrozen(answer)
}

// AwaitFrozen waits until a guest is frozen, or thawed. One that is too busy to answer in time is asked again.
func (w *NodeCluster) AwaitFrozen(ctx context.Context, vm VM, frozen bool, limit time.Duration) error {
	var silent error
	err := await(ctx, limit, fmt.Sprintf("frozen to be %t of the guest %s/%s", frozen, vm.Namespace, vm.Name), func() (bool, error) {
		var is bool
		is, silent = w.IsFrozen(ctx, vm)
		return silent == nil && is == frozen, nil
	})
	if err != nil {
		return errors.Join(err, silent)
	}
	return nil
}

// withoutHooks takes from the launcher pod the hooks by which Velero freezes and thaws its guest, or gives them back. KubeVirt does that
// to a running VM.
func (w *NodeCluster) withoutHooks(ctx context.Context, vm VM, skip bool) error {
	value := "null"
	if skip {
		value = `"true"`
	}
	patch := `{"metadata": {"annotations": {"kubevirt.io/skip-backup-hooks": ` + value + `}}}`
	if err := w.Patch(ctx, vm.object("VirtualMachine"), client.RawPatch(types.MergePatchType, []byte(patch))); err != nil {
		return err
	}
	return await(ctx, 5*time.Minute, fmt.Sprintf("the hooks of %s/%s to come or go", vm.Namespace, vm.Name), func() (bool, error) {
		pod, err := w.launcher(ctx, vm)
		return err == nil && (pod.Annotations["pre.hook.backup.velero.io/command"] == "") == skip, err
	})
}

// Stop stops a VM and waits until it is.
func (w *NodeCluster) Stop(ctx context.Context, vm VM, limit time.Duration) error {
	machine := vm.object("VirtualMachine")
	if err := w.Patch(ctx, machine, client.RawPatch(types.MergePatchType, []byte(`{"spec": {"runStrategy": "Halted"}}`))); err != nil {
		return err
	}
	return await(ctx, limit, fmt.Sprintf("VirtualMachine %s/%s to stop", vm.Namespace, vm.Name), func() (bool, error) {
		err := w.Get(ctx, client.ObjectKeyFromObject(machine), machine)
		status, _, _ := unstructured.NestedString(machine.Object, "status", "printableStatus")
		return status == "Stopped", err
	})
}
