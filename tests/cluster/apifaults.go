package cluster

import (
	"errors"
	"fmt"
	"io"
	"log"
	"net"
	"net/http"
	"net/http/httputil"
	"net/url"
	"strings"
	"sync/atomic"
	"time"

	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/clientcmd"
	clientcmdapi "k8s.io/client-go/tools/clientcmd/api"
)

// APIFaults are how the API server treats Velero and its plugins. The zero value is well.
type APIFaults struct {
	// Delay is how long each answer takes longer.
	Delay time.Duration
	// Busy is which of the requests is answered with 429, to come again after a second: 10 is every tenth; 0 is none.
	Busy int64
	// Broken is which of the requests of this project's plugin is answered with 500.
	Broken int64
}

// A faultyAPI is what Velero takes for the API server in a cluster with Options.FaultyAPI.
type faultyAPI struct {
	faults         atomic.Pointer[APIFaults]
	all, ofPlugins atomic.Int64
	server         http.Handler
}

// FailAPI makes the API server misbehave towards Velero and its plugins from now on, in this way only. It needs Options.FaultyAPI.
func (c *Cluster) FailAPI(faults APIFaults) { c.faultyAPI.faults.Store(&faults) }

// startFaultyAPI puts itself between Velero and the API server: what is in Velero's kubeconfig is its address from now on.
func startFaultyAPI(c *Cluster) error {
	file := c.path("velero.kubeconfig")
	config, err := clientcmd.BuildConfigFromFlags("", file)
	if err != nil {
		return fmt.Errorf("reading Velero's kubeconfig: %w", err)
	}
	config.NextProtos = []string{"http/1.1"} // commands in a pod upgrade the connection, which HTTP/2 has not
	transport, err := rest.TransportFor(config)
	if err != nil {
		return err
	}
	target, err := url.Parse(config.Host)
	if err != nil {
		return err
	}
	port, err := c.port()
	if err != nil {
		return err
	}
	listener, err := net.Listen("tcp", loopback(port))
	if err != nil {
		return err
	}
	c.faultyAPI = &faultyAPI{server: &httputil.ReverseProxy{
		Transport: transport, FlushInterval: -1, // watches are answered bit by bit
		Rewrite:  func(r *httputil.ProxyRequest) { r.SetURL(target) },
		ErrorLog: log.New(io.Discard, "", 0), // of answers that end early, when the API server is killed
		// As from an API server that dies.
		ErrorHandler: func(http.ResponseWriter, *http.Request, error) { panic(http.ErrAbortHandler) },
	}}
	c.FailAPI(APIFaults{})
	server := &http.Server{Handler: c.faultyAPI}
	go func() {
		if err := server.Serve(listener); !errors.Is(err, http.ErrServerClosed) {
			c.supervisor.report(fmt.Errorf("coming between Velero and the API server: %w", err))
		}
	}()
	c.closers = append(c.closers, server.Close)
	proxied := clientcmdapi.NewConfig()
	proxied.Clusters["test"] = &clientcmdapi.Cluster{Server: "http://" + listener.Addr().String()}
	proxied.Contexts["test"] = &clientcmdapi.Context{Cluster: "test"}
	proxied.CurrentContext = "test"
	return clientcmd.WriteToFile(*proxied, file)
}

func (f *faultyAPI) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	faults := f.faults.Load()
	time.Sleep(faults.Delay)
	switch ofPlugin := strings.HasPrefix(r.UserAgent(), pluginName+"/"); {
	case faults.Busy > 0 && f.all.Add(1)%faults.Busy == 0:
		w.Header().Set("Retry-After", "1")
		http.Error(w, "too many requests", http.StatusTooManyRequests)
	case faults.Broken > 0 && ofPlugin && f.ofPlugins.Add(1)%faults.Broken == 0:
		http.Error(w, "an error on the server", http.StatusInternalServerError)
	default:
		f.server.ServeHTTP(w, r)
	}
}
