package cluster

import "context"

// scheduler binds pods to the nodes. A volume that waits for its first consumer is made only for a pod that the scheduler
// has placed, and CDI's pods name no node.
var scheduler = part{
	name: "scheduler",
	programs: []Program{
		{Name: "kube-scheduler", Module: "kubernetes", Package: "k8s.io/kubernetes/cmd/kube-scheduler", LDFlags: kubernetesVersion},
		{Name: "kubectl", Module: "kubernetes", Package: "k8s.io/kubernetes/cmd/kubectl", LDFlags: kubernetesVersion}, // for stories that type what documentation says
	},
	start: startScheduler,
}

func startScheduler(ctx context.Context, c *Cluster) error {
	return c.startController(ctx, "kube-scheduler")
}
