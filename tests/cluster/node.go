package cluster

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"time"

	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"sigs.k8s.io/yaml"
)

// node is two nodes that kwok plays: pods bound to them become ready at once and run nothing. Commands sent into them
// come to this program.
var node = part{
	name:     playedNodes,
	programs: []Program{{Name: "kwok", Module: "kwok", Package: "sigs.k8s.io/kwok/cmd/kwok"}},
	start:    startNode,
}

const (
	playedNodes = "nodes"
	// NodeName names the first node.
	NodeName = "node01"
	// SecondNodeName names the other node.
	SecondNodeName = "node02"
	nodeIP         = "127.0.0.1"
	// playedNode is the annotation by which kwok knows its nodes.
	playedNode = "kwok.x-k8s.io/node"
)

func startNode(ctx context.Context, c *Cluster) error {
	kubeletPort, err := startKubelet(c)
	if err != nil {
		return err
	}
	ownPort, err := c.port()
	if err != nil {
		return err
	}
	config, err := kwokConfig(ctx, c.builder, kubeletPort, ownPort)
	if err != nil {
		return err
	}
	if err := os.WriteFile(c.path("kwok.yaml"), config, 0o644); err != nil {
		return fmt.Errorf("writing kwok's configuration: %w", err)
	}
	for _, name := range []string{NodeName, SecondNodeName} {
		if _, err := c.clients.create(ctx, nodeObject(name, kubeletPort)); err != nil {
			return err
		}
	}
	_, err = c.supervisor.start(ctx, command{
		name:   "kwok",
		binary: c.binaries["kwok"],
		args:   []string{"--kubeconfig", c.Kubeconfig, "--config", c.path("kwok.yaml")},
		ready: func(ctx context.Context) error {
			ready := func(live *unstructured.Unstructured) bool { return conditionTrue(live, "Ready") }
			first := c.clients.await(ctx, object("v1", "Node", "", NodeName), "ready", 2*time.Second, ready)
			return errors.Join(first, c.clients.await(ctx, object("v1", "Node", "", SecondNodeName), "ready", 2*time.Second, ready))
		},
	})
	return err
}

// kwokConfig is kwok's configuration: its options, and the stages that say what becomes of nodes and pods.
func kwokConfig(ctx context.Context, b *builder, kubeletPort, ownPort int) ([]byte, error) {
	options, err := yaml.Marshal(map[string]any{
		"apiVersion": "config.kwok.x-k8s.io/v1alpha1",
		"kind":       "KwokConfiguration",
		"options": map[string]any{
			"nodeIP": nodeIP, "nodePort": kubeletPort, "cidr": "10.244.0.0/16",
			// Its own server is not asked for anything, but would else take nodePort on all addresses.
			"serverAddress": loopback(ownPort), "enableDebuggingHandlers": false,
			"manageAllNodes": false, "manageNodesWithAnnotationSelector": playedNode + "=fake",
			"enableCRDs": []string{}, // stages come from this file, not from the API server
			// Given a file, kwok fills in no defaults: without these it exits, and without the last it never starts
			// pods that were bound before it.
			"nodeLeaseDurationSeconds": 40, "nodeLeaseParallelism": 4,
			"nodePlayStageParallelism": 4, "podPlayStageParallelism": 4, "podsOnNodeSyncParallelism": 4,
		},
	})
	if err != nil {
		return nil, fmt.Errorf("writing kwok's options: %w", err)
	}
	stages, err := readStages(ctx, b)
	if err != nil {
		return nil, err
	}
	return bytes.Join(append([][]byte{options}, stages...), []byte("\n---\n")), nil
}

// readStages returns kwok's own stages for nodes and pods that do at once what they are asked to.
func readStages(ctx context.Context, b *builder) ([][]byte, error) {
	dir, err := b.moduleDir(ctx, "kwok", "sigs.k8s.io/kwok")
	if err != nil {
		return nil, err
	}
	var stages [][]byte
	for _, stage := range []string{
		"node/fast/node-initialize", "node/heartbeat-with-lease/node-heartbeat-with-lease",
		"pod/fast/pod-ready", "pod/fast/pod-complete", "pod/fast/pod-delete",
	} {
		content, err := os.ReadFile(filepath.Join(dir, "kustomize", "stage", filepath.FromSlash(stage)+".yaml"))
		if err != nil {
			return nil, fmt.Errorf("reading kwok's stages: %w", err)
		}
		stages = append(stages, content)
	}
	return stages, nil
}

func nodeObject(name string, kubeletPort int) *unstructured.Unstructured {
	resources := map[string]any{
		"cpu": "64", "memory": "256Gi", "ephemeral-storage": "500Gi", "pods": "1000",
		"devices.kubevirt.io/kvm": "1k", "devices.kubevirt.io/tun": "1k", "devices.kubevirt.io/vhost-net": "1k",
	}
	node := object("v1", "Node", "", name)
	node.SetAnnotations(map[string]string{playedNode: "fake"})
	node.SetLabels(map[string]string{
		"kubernetes.io/hostname": name, "kubernetes.io/arch": "amd64", "kubernetes.io/os": "linux",
		// What virt-handler would find out about the machine.
		"kubevirt.io/schedulable": "true",
		// The first is what VMs ask for, the second what the handler says they got: the target of a migration must have it.
		"machine-type.node.kubevirt.io/q35": "true", "machine-type.node.kubevirt.io/pc-q35-rhel9.6.0": "true",
		"cpu-vendor.node.kubevirt.io/Intel": "true", "cpu-model.node.kubevirt.io/Skylake-Server": "true",
		"host-model-cpu.node.kubevirt.io/Skylake-Server": "true", "cpu-model-migration.node.kubevirt.io/Skylake-Server": "true",
	})
	node.Object["status"] = map[string]any{
		// The API server prefers the Hostname for reaching a kubelet, and the node's name does not resolve.
		"addresses": []any{
			map[string]any{"type": "InternalIP", "address": nodeIP},
			map[string]any{"type": "Hostname", "address": nodeIP},
		},
		"daemonEndpoints": map[string]any{"kubeletEndpoint": map[string]any{"Port": int64(kubeletPort)}},
		"allocatable":     resources,
		"capacity":        resources,
	}
	return node
}
