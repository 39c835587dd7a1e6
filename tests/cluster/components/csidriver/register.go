package main

import (
	"context"
	"errors"
	"io/fs"
	"log"
	"net"
	"os"

	"google.golang.org/grpc"
	registration "k8s.io/kubelet/pkg/apis/pluginregistration/v1"
)

// register tells a kubelet about the driver, as the node-driver-registrar does: the kubelet finds the socket in its folder and
// asks.
func register(o options) (stop func(), err error) {
	if err := os.Remove(o.register); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, err
	}
	listener, err := net.Listen("unix", o.register)
	if err != nil {
		return nil, err
	}
	server := grpc.NewServer()
	registration.RegisterRegistrationServer(server, registrar{o: o})
	go func() {
		if err := server.Serve(listener); err != nil {
			log.Printf("serving the kubelet: %v", err)
		}
	}()
	return server.Stop, nil
}

type registrar struct {
	registration.UnimplementedRegistrationServer
	o options
}

// GetInfo says where the driver serves.
func (r registrar) GetInfo(context.Context, *registration.InfoRequest) (*registration.PluginInfo, error) {
	return &registration.PluginInfo{
		Type: registration.CSIPlugin, Name: r.o.name, Endpoint: r.o.endpoint, SupportedVersions: []string{"1.0.0"},
	}, nil
}

// NotifyRegistrationStatus logs what the kubelet thinks of it.
func (r registrar) NotifyRegistrationStatus(_ context.Context, s *registration.RegistrationStatus) (*registration.RegistrationStatusResponse, error) {
	log.Printf("the kubelet: registered %t %s", s.GetPluginRegistered(), s.GetError())
	return &registration.RegistrationStatusResponse{}, nil
}
