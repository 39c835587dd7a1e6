// Command handler plays virt-handler, virt-launcher and the guests on nodes that run nothing: it moves
// VirtualMachineInstances through the phases that virt-handler owns, serves the requests that virt-api sends to a
// virt-handler, and gives every launcher pod the socket that the real virt-freezer talks to.
//
// To the API server it is virt-handler: KubeVirt's webhooks silently undo what others write into an instance's status.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"syscall"
	"time"

	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/clientcmd"
	"kubevirt.io/client-go/kubecli"
)

// settings are the command line.
type settings struct {
	handlerConfig string
	nodeConfig    string
	sockets       string
	events        string
	listen        string
	cert, key, ca string
	bootDelay     time.Duration
	statusLag     time.Duration
}

func main() {
	var s settings
	flag.StringVar(&s.handlerConfig, "handler-kubeconfig", "", "kubeconfig of the ServiceAccount kubevirt-handler")
	flag.StringVar(&s.nodeConfig, "node-kubeconfig", "", "kubeconfig that may write the status of pods")
	flag.StringVar(&s.sockets, "sockets", "", "folder for the launchers' sockets: POD-UID/launcher-sock")
	flag.StringVar(&s.events, "events", "", "file to append a line of JSON to for every freeze and thaw")
	flag.StringVar(&s.listen, "listen", "", "address to serve virt-api on")
	flag.StringVar(&s.cert, "tls-cert", "", "certificate for it")
	flag.StringVar(&s.key, "tls-key", "", "its key")
	flag.StringVar(&s.ca, "client-ca", "", "certificates of who vouches for virt-api")
	flag.DurationVar(&s.bootDelay, "boot-delay", 200*time.Millisecond, "time from Scheduled to Running")
	flag.DurationVar(&s.statusLag, "status-lag", 200*time.Millisecond,
		"time until status.fsFreezeStatus follows the guest (virt-launcher asks the agent every 5 s)")
	flag.Parse()
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGINT, syscall.SIGTERM)
	err := run(ctx, s)
	stop()
	if err != nil {
		fmt.Fprintln(os.Stderr, "handler:", err)
		os.Exit(1)
	}
}

func run(ctx context.Context, s settings) error {
	config, err := clientConfig(s.handlerConfig)
	if err != nil {
		return err
	}
	client, err := kubecli.GetKubevirtClientFromRESTConfig(config)
	if err != nil {
		return fmt.Errorf("creating a client: %w", err)
	}
	if config, err = clientConfig(s.nodeConfig); err != nil {
		return err
	}
	node, err := kubernetes.NewForConfig(config)
	if err != nil {
		return fmt.Errorf("creating a client: %w", err)
	}
	journal, err := openJournal(s.events)
	if err != nil {
		return err
	}
	h := newHandler(client, node, s, journal)
	defer h.close()
	errs := make(chan error, 2)
	go func() { errs <- h.serve(ctx) }()
	go func() { errs <- h.control(ctx) }()
	first := <-errs
	if ctx.Err() != nil {
		return nil
	}
	return errors.Join(first, journal.close())
}

func clientConfig(path string) (*rest.Config, error) {
	config, err := clientcmd.BuildConfigFromFlags("", path)
	if err != nil {
		return nil, fmt.Errorf("reading a kubeconfig: %w", err)
	}
	config.QPS = -1 // no throttling on the client's side
	return config, nil
}
