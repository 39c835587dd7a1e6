package cluster

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"log"
	"net"
	"net/http"
	"os"
	"time"

	"k8s.io/apimachinery/pkg/types"
	remotecommandconsts "k8s.io/apimachinery/pkg/util/remotecommand"
	"k8s.io/client-go/tools/remotecommand"
	streaming "k8s.io/kubelet/pkg/cri/streaming/remotecommand"
	utilexec "k8s.io/utils/exec"
)

// Exec runs a command sent into a container and returns its exit code. An error means that the command could not be
// run at all. The argument stdin is nil if the client sends none.
type Exec func(ctx context.Context, namespace, pod, container string, argv []string, stdin io.Reader, stdout, stderr io.Writer) (exitCode int, err error)

// startKubelet serves the one thing of a kubelet that clients notice on a node without containers: exec. It returns the
// port. kwok could serve it too, but would run the command on this machine and lose its exit code.
func startKubelet(c *Cluster) (int, error) {
	run := c.chooseExec()
	port, err := c.port()
	if err != nil {
		return 0, err
	}
	id, err := c.authority.issue("kubelet")
	if err != nil {
		return 0, err
	}
	settings, err := c.authority.tls(id)
	if err != nil {
		return 0, err
	}
	settings.ClientAuth = tls.RequireAndVerifyClientCert // only the API server decides who may exec
	settings.NextProtos = []string{"http/1.1"}           // HTTP/2 cannot be upgraded to streams
	listener, err := net.Listen("tcp", loopback(port))
	if err != nil {
		return 0, fmt.Errorf("serving exec: %w", err)
	}
	logFile, err := os.Create(c.path("logs", "kubelet.log"))
	if err != nil {
		return 0, errors.Join(fmt.Errorf("serving exec: %w", err), listener.Close())
	}
	server := &http.Server{Handler: execHandler(run), ReadHeaderTimeout: 10 * time.Second, ErrorLog: log.New(logFile, "", log.LstdFlags)}
	go func() {
		if err := server.Serve(tls.NewListener(listener, settings)); !errors.Is(err, http.ErrServerClosed) {
			c.supervisor.report(fmt.Errorf("serving exec: %w", err))
		}
	}()
	c.closers = append(c.closers, func() error { return errors.Join(server.Close(), logFile.Close()) })
	return port, nil
}

// chooseExec says who runs the commands, and who knows what happens to the guests.
func (c *Cluster) chooseExec() Exec {
	var run Exec
	switch {
	case c.options.has(KubeVirt):
		c.Guest = &journal{path: c.path("kubevirt", journalFile), report: c.supervisor.report}
		run = c.execInLauncher
	case c.options.Exec == nil:
		played := newPlayedGuest(c.clients)
		c.Guest = played
		c.closers = append(c.closers, played.close)
		run = played.Exec
	}
	if c.options.Exec != nil {
		return c.options.Exec
	}
	return run
}

// execHandler serves a kubelet's exec endpoint, over SPDY and over WebSocket.
func execHandler(run Exec) http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("/exec/{namespace}/{pod}/{container}", func(w http.ResponseWriter, r *http.Request) {
		options, err := streaming.NewOptions(r)
		if err != nil {
			http.Error(w, err.Error(), http.StatusBadRequest)
			return
		}
		streaming.ServeExec(w, r, executor{run, r.PathValue("namespace")}, r.PathValue("pod"), "", r.PathValue("container"),
			r.URL.Query()["command"], options, 4*time.Hour, 30*time.Second, remotecommandconsts.SupportedStreamingProtocols)
	})
	return mux
}

// An executor fits an Exec to the kubelet's library.
type executor struct {
	run       Exec
	namespace string
}

// ExecInContainer runs one command.
func (e executor) ExecInContainer(ctx context.Context, pod string, _ types.UID, container string, argv []string, stdin io.Reader, stdout, stderr io.WriteCloser, tty bool, _ <-chan remotecommand.TerminalSize, _ time.Duration) error {
	// Streams that the client did not ask for are nil; a terminal has no stream of its own for errors.
	out, errs := io.Discard, io.Discard
	if stdout != nil {
		defer func() { _ = stdout.Close() }() // the client has gone if this fails
		out = stdout
	}
	switch {
	case tty:
		errs = out
	case stderr != nil:
		defer func() { _ = stderr.Close() }()
		errs = stderr
	}
	code, err := e.run(ctx, e.namespace, pod, container, argv, stdin, out, errs)
	if err != nil {
		return err
	}
	if code != 0 {
		return utilexec.CodeExitError{Err: fmt.Errorf("exit code %d", code), Code: code}
	}
	return nil
}
