package cluster

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"strings"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/util/httpstream"
	"k8s.io/client-go/kubernetes/scheme"
	"k8s.io/client-go/tools/remotecommand"

	"velero-plugin-for-kubevirt/pkg/kubevirt"
)

// Exec runs a command in a container of a pod, as kubectl exec --stdin does, and returns what it printed, and the errors that it printed
// behind that. A command that fails is an error with what it said.
func (l *Live) Exec(ctx context.Context, pod kubevirt.ID, container string, command []string, stdin io.Reader) (string, error) {
	failed := func(err error) error { return fmt.Errorf("running %q in %s: %w", command, pod, err) }
	request := l.raw.Post().AbsPath("api", "v1", "namespaces", pod.Namespace, "pods", pod.Name, "exec").
		SpecificallyVersionedParams(&corev1.PodExecOptions{Container: container, Command: command, Stdin: true, Stdout: true, Stderr: true},
			scheme.ParameterCodec, corev1.SchemeGroupVersion)
	websocket, err := remotecommand.NewWebSocketExecutor(l.config, "GET", request.URL().String())
	if err != nil {
		return "", failed(err)
	}
	spdy, err := remotecommand.NewSPDYExecutor(l.config, "POST", request.URL())
	if err != nil {
		return "", failed(err)
	}
	// Kubernetes before 1.31 knows SPDY alone.
	executor, err := remotecommand.NewFallbackExecutor(websocket, spdy, httpstream.IsUpgradeFailure)
	if err != nil {
		return "", failed(err)
	}
	var stdout, stderr bytes.Buffer
	if err := executor.StreamWithContext(ctx, remotecommand.StreamOptions{Stdin: stdin, Stdout: &stdout, Stderr: &stderr}); err != nil {
		return stdout.String(), failed(fmt.Errorf("%w: %s", err, strings.TrimSpace(stderr.String())))
	}
	return stdout.String() + stderr.String(), nil
}
