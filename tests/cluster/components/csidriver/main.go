// Command csidriver is a CSI driver for tests: a volume is a folder with a sparse disk.img, a snapshot is a copy of the folder.
// It needs neither a node nor privileges, keeps real bytes, and fails on request.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io/fs"
	"log"
	"net"
	"os"
	"os/signal"
	"path/filepath"
	"syscall"

	"github.com/container-storage-interface/spec/lib/go/csi"
	"google.golang.org/grpc"
)

func main() {
	var o options
	flag.StringVar(&o.endpoint, "endpoint", "", "path of the unix socket to serve")
	flag.StringVar(&o.root, "root", "", "folder for volumes and snapshots")
	flag.StringVar(&o.faults, "faults", "", "JSON file that says how to misbehave; it need not exist")
	flag.StringVar(&o.name, "driver-name", "files.csi.test", "the name the driver goes by")
	flag.StringVar(&o.node, "node-id", "node01", "the node this is")
	flag.BoolVar(&o.mount, "mount", false, "mount published volumes, for which root is needed; otherwise they are symbolic links")
	flag.StringVar(&o.register, "register", "", "path of the unix socket, in the kubelet's folder plugins_registry, on which a kubelet learns of the driver")
	flag.Parse()
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	err := run(ctx, o)
	stop()
	if err != nil {
		fmt.Fprintln(os.Stderr, "csidriver:", err)
		os.Exit(1)
	}
}

type options struct {
	endpoint, root, faults string
	name, node             string
	mount                  bool
	register               string
}

// run serves until the context ends.
func run(ctx context.Context, o options) error {
	if o.endpoint == "" || o.root == "" {
		return errors.New("--endpoint and --root are needed")
	}
	root, err := filepath.Abs(o.root) // others read the paths it gives out
	if err != nil {
		return fmt.Errorf("finding the root folder: %w", err)
	}
	store, err := openStore(root)
	if err != nil {
		return fmt.Errorf("opening the store: %w", err)
	}
	if err := os.Remove(o.endpoint); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("removing an old socket: %w", err)
	}
	listener, err := net.Listen("unix", o.endpoint)
	if err != nil {
		return fmt.Errorf("serving: %w", err)
	}
	faults := faultFile(o.faults)
	driver := &driver{name: o.name, node: o.node, mount: o.mount, store: store, faults: faults}
	server := grpc.NewServer(grpc.ChainUnaryInterceptor(logCalls, faults.intercept))
	csi.RegisterIdentityServer(server, driver)
	csi.RegisterControllerServer(server, driver)
	csi.RegisterGroupControllerServer(server, driver)
	csi.RegisterNodeServer(server, driver)
	defer context.AfterFunc(ctx, server.Stop)()
	if o.register != "" {
		stop, err := register(o)
		if err != nil {
			return fmt.Errorf("registering with the kubelet: %w", err)
		}
		defer stop()
	}
	if err := server.Serve(listener); err != nil {
		return fmt.Errorf("serving: %w", err)
	}
	return nil
}

// A driver implements the CSI services; see controller.go, group.go and node.go.
type driver struct {
	csi.UnimplementedIdentityServer
	csi.UnimplementedControllerServer
	csi.UnimplementedGroupControllerServer
	csi.UnimplementedNodeServer

	name, node string
	mount      bool // whether volumes are mounted
	store      *store
	faults     faultFile
}

// logCalls logs what changes something, and every error.
func logCalls(ctx context.Context, request any, info *grpc.UnaryServerInfo, handler grpc.UnaryHandler) (any, error) {
	response, err := handler(ctx, request)
	if err != nil || changes[filepath.Base(info.FullMethod)] {
		log.Printf("%s %v: %v, error: %v", filepath.Base(info.FullMethod), request, response, err)
	}
	return response, err
}

var changes = map[string]bool{
	"CreateVolume": true, "DeleteVolume": true, "ControllerExpandVolume": true, "CreateSnapshot": true, "DeleteSnapshot": true,
	"CreateVolumeGroupSnapshot": true, "DeleteVolumeGroupSnapshot": true, "NodePublishVolume": true, "NodeUnpublishVolume": true,
}

// GetPluginInfo names the driver.
func (d *driver) GetPluginInfo(context.Context, *csi.GetPluginInfoRequest) (*csi.GetPluginInfoResponse, error) {
	return &csi.GetPluginInfoResponse{Name: d.name, VendorVersion: "1"}, nil
}

// GetPluginCapabilities lists the services. Without accessibility constraints the provisioner asks for neither Node nor
// CSINode objects.
func (d *driver) GetPluginCapabilities(context.Context, *csi.GetPluginCapabilitiesRequest) (*csi.GetPluginCapabilitiesResponse, error) {
	response := &csi.GetPluginCapabilitiesResponse{}
	for _, service := range []csi.PluginCapability_Service_Type{
		csi.PluginCapability_Service_CONTROLLER_SERVICE, csi.PluginCapability_Service_GROUP_CONTROLLER_SERVICE,
	} {
		response.Capabilities = append(response.Capabilities, &csi.PluginCapability{
			Type: &csi.PluginCapability_Service_{Service: &csi.PluginCapability_Service{Type: service}},
		})
	}
	return response, nil
}

// Probe says that the driver is ready, as it always is.
func (d *driver) Probe(context.Context, *csi.ProbeRequest) (*csi.ProbeResponse, error) {
	return &csi.ProbeResponse{}, nil
}
