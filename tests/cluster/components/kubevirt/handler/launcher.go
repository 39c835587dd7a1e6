package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"time"

	"google.golang.org/grpc"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/klog/v2"
	v1 "kubevirt.io/api/core/v1"

	"kubevirt.io/kubevirt/pkg/handler-launcher-com/cmd/info"
	cmdv1 "kubevirt.io/kubevirt/pkg/handler-launcher-com/cmd/v1"
	grpcutil "kubevirt.io/kubevirt/pkg/util/net/grpc"
	"kubevirt.io/kubevirt/pkg/virt-launcher/virtwrap/api"
)

// A launcher is the virt-launcher of one pod: the real protocol on the socket that virt-freezer talks to.
type launcher struct {
	unimplemented // what neither virt-freezer nor virt-api asks for here

	handler   *handler
	namespace string
	name      string
	pod       types.UID
	guest     *guest
	folder    string
	server    *grpc.Server
}

// unimplemented keeps the embedded field unexported. A call of its methods panics.
type unimplemented struct{ cmdv1.CmdServer }

func startLauncher(h *handler, key string, pod types.UID, g *guest) (*launcher, error) {
	l := &launcher{
		handler: h, namespace: g.namespace, name: g.name, pod: pod, guest: g,
		folder: filepath.Join(h.sockets, string(pod)), server: grpc.NewServer(),
	}
	listener, err := grpcutil.CreateSocket(filepath.Join(l.folder, "launcher-sock"))
	if err != nil {
		return nil, fmt.Errorf("serving the launcher of %s: %w", key, err)
	}
	info.RegisterCmdInfoServer(l.server, versions{})
	cmdv1.RegisterCmdServer(l.server, l)
	go func() {
		if err := l.server.Serve(listener); err != nil && !errors.Is(err, grpc.ErrServerStopped) {
			klog.ErrorS(err, "serving a launcher", "instance", key)
		}
	}()
	return l, nil
}

func (l *launcher) stop() {
	l.server.Stop()
	if err := os.RemoveAll(l.folder); err != nil {
		klog.ErrorS(err, "removing a launcher's socket")
	}
}

// versions says which protocol the launchers speak.
type versions struct{}

// Info answers which versions of the protocol are served.
func (versions) Info(context.Context, *info.CmdInfoRequest) (*info.CmdInfoResponse, error) {
	return &info.CmdInfoResponse{SupportedCmdVersions: []uint32{cmdv1.CmdVersion}}, nil
}

func response(err error) *cmdv1.Response {
	if err != nil {
		return &cmdv1.Response{Message: err.Error()}
	}
	return &cmdv1.Response{Success: true}
}

// instance returns the launcher's instance, or nil.
func (l *launcher) instance() *v1.VirtualMachineInstance {
	return l.handler.instance(l.namespace + "/" + l.name)
}

// Ping answers that the launcher lives.
func (l *launcher) Ping(context.Context, *cmdv1.EmptyRequest) (*cmdv1.Response, error) {
	return response(nil), nil
}

// GetGuestInfo answers what the guest's agent says; without an agent, nothing.
func (l *launcher) GetGuestInfo(context.Context, *cmdv1.EmptyRequest) (*cmdv1.GuestInfoResponse, error) {
	text, err := json.Marshal(guestInfo(l.instance(), l.guest))
	if err != nil {
		return nil, err
	}
	return &cmdv1.GuestInfoResponse{Response: response(nil), GuestInfoResponse: string(text)}, nil
}

// GetDomain answers whether the guest runs in this launcher: not while it is paused, nor if it runs in another one.
func (l *launcher) GetDomain(context.Context, *cmdv1.EmptyRequest) (*cmdv1.DomainResponse, error) {
	domain := api.NewMinimalDomainWithNS(l.namespace, l.name)
	domain.Status.Status = api.Running
	if _, paused := l.guest.now(); paused {
		domain.Status.Status, domain.Status.Reason = api.Paused, api.ReasonPausedUser
	}
	if vmi := l.instance(); vmi == nil || vmi.Status.NodeName != vmi.Status.ActivePods[l.pod] {
		domain.Status.Status = api.Shutoff
	}
	text, err := json.Marshal(domain)
	if err != nil {
		return nil, err
	}
	return &cmdv1.DomainResponse{Response: response(nil), Domain: string(text)}, nil
}

// FreezeVirtualMachine freezes the guest, which thaws by itself after the request's timeout.
func (l *launcher) FreezeVirtualMachine(_ context.Context, r *cmdv1.FreezeRequest) (*cmdv1.Response, error) {
	return response(freeze(l.instance(), l.guest, time.Duration(r.UnfreezeTimeoutSeconds)*time.Second)), nil
}

// UnfreezeVirtualMachine thaws the guest.
func (l *launcher) UnfreezeVirtualMachine(context.Context, *cmdv1.VMIRequest) (*cmdv1.Response, error) {
	return response(thaw(l.instance(), l.guest)), nil
}

// The texts of the next two come from KubeVirt v1.8.4, pkg/virt-launcher/virtwrap/storage/fsfreeze.go, and libvirt.
var (
	errMigrating = errors.New("failed to freeze VMI, VMI is currently during migration")
	errNoAgent   = errors.New("Guest agent not available for now") //nolint:staticcheck // libvirt's words, which virt-freezer looks for
	errNoFreeze  = errors.New("internal error: unable to execute QEMU agent command 'guest-fsfreeze-status': The command guest-fsfreeze-status has been disabled for this instance")
)

// vssHold is how long Windows stays frozen.
const vssHold = 10 * time.Second

func freeze(vmi *v1.VirtualMachineInstance, g *guest, timeout time.Duration) error {
	switch {
	case vmi == nil:
		return errors.New("the instance is gone")
	case vmi.Status.MigrationState != nil && vmi.Status.MigrationState.StartTimestamp != nil && !vmi.Status.MigrationState.Completed:
		return errMigrating
	case !hasAgent(vmi):
		return errNoAgent
	}
	if vmi.Annotations[agentAnnotation] == noFreeze {
		return errNoFreeze
	}
	if text, set := vmi.Annotations[freezeErrorAnnotation]; set {
		return errors.New(text)
	}
	if vmi.Annotations[agentAnnotation] == windows {
		timeout = min(timeout, vssHold)
	}
	g.freeze(timeout)
	return nil
}

func thaw(vmi *v1.VirtualMachineInstance, g *guest) error {
	if vmi != nil && !hasAgent(vmi) {
		return errNoAgent
	}
	g.unfreeze(thawed)
	return nil
}

// guestInfo is what the guest's agent says about the guest.
func guestInfo(vmi *v1.VirtualMachineInstance, g *guest) v1.VirtualMachineInstanceGuestAgentInfo {
	if vmi == nil || !hasAgent(vmi) {
		return v1.VirtualMachineInstanceGuestAgentInfo{}
	}
	result := v1.VirtualMachineInstanceGuestAgentInfo{GAVersion: "9.0", Hostname: g.name, OS: guestOS}
	if vmi.Annotations[agentAnnotation] == noFreeze {
		return result
	}
	for _, command := range []string{"guest-fsfreeze-status", "guest-fsfreeze-freeze", "guest-fsfreeze-thaw"} {
		result.SupportedCommands = append(result.SupportedCommands, v1.GuestAgentCommandInfo{Name: command, Enabled: true})
	}
	result.FSFreezeStatus = thawed
	if isFrozen, _ := g.now(); isFrozen {
		result.FSFreezeStatus = frozen
	}
	return result
}
