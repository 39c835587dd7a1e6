package cluster

import (
	"context"
	"strconv"
)

// scheduler binds pods to the node. A volume that waits for its first consumer is made only for a pod that the scheduler
// has placed, and CDI's pods name no node.
var scheduler = part{
	name: "scheduler",
	programs: []Program{
		{Name: "kube-scheduler", Module: "kubernetes", Package: "k8s.io/kubernetes/cmd/kube-scheduler", LDFlags: kubernetesVersion},
	},
	start: startScheduler,
}

func startScheduler(ctx context.Context, c *Cluster) error {
	id, err := c.authority.issue("system:kube-scheduler")
	if err != nil {
		return err
	}
	kubeconfig, err := c.writeKubeconfig("kube-scheduler.kubeconfig", id)
	if err != nil {
		return err
	}
	port, err := c.port()
	if err != nil {
		return err
	}
	_, err = c.supervisor.start(ctx, command{
		name:   "kube-scheduler",
		binary: c.binaries["kube-scheduler"],
		args: []string{
			"--kubeconfig=" + kubeconfig, "--leader-elect=false", "--kube-api-qps=200", "--kube-api-burst=400",
			"--bind-address=127.0.0.1", "--secure-port=" + strconv.Itoa(port), "--tls-cert-file=" + id.cert, "--tls-private-key-file=" + id.key,
		},
		ready: c.answersOK("https://"+loopback(port)+"/readyz", id),
	})
	return err
}
