package main

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"os"
	"time"

	"k8s.io/klog/v2"
	v1 "kubevirt.io/api/core/v1"
)

// serve answers virt-api until the context ends.
func (h *handler) serve(ctx context.Context) error {
	bundle, err := os.ReadFile(h.ca)
	if err != nil {
		return fmt.Errorf("reading the clients' CA: %w", err)
	}
	pool := x509.NewCertPool()
	if !pool.AppendCertsFromPEM(bundle) {
		return fmt.Errorf("reading the clients' CA: no certificate in %s", h.ca)
	}
	server := &http.Server{
		Addr: h.listen, Handler: h.routes(), ReadHeaderTimeout: 10 * time.Second,
		TLSConfig: &tls.Config{ClientAuth: tls.RequireAndVerifyClientCert, ClientCAs: pool, MinVersion: tls.VersionTLS12},
	}
	go func() {
		<-ctx.Done()
		_ = server.Close() // this program ends
	}()
	err = server.ListenAndServeTLS(h.cert, h.key)
	if errors.Is(err, http.ErrServerClosed) {
		return ctx.Err()
	}
	return fmt.Errorf("serving virt-api: %w", err)
}

// An operation is what virt-api asks for: it returns what to answer, and the status for an error.
type operation func(r *http.Request, vmi *v1.VirtualMachineInstance, g *guest) (answer any, code int, err error)

// routes are those of virt-handler (KubeVirt v1.8.4, cmd/virt-handler/virt-handler.go and pkg/virt-handler/rest).
func (h *handler) routes() http.Handler {
	mux := http.NewServeMux()
	for route, run := range map[string]operation{
		"PUT freeze": freezeRequest,
		"PUT unfreeze": func(_ *http.Request, vmi *v1.VirtualMachineInstance, g *guest) (any, int, error) {
			return nil, http.StatusBadRequest, thaw(vmi, g)
		},
		"PUT pause":          pauseRequest(true),
		"PUT unpause":        pauseRequest(false),
		"PUT softreboot":     answering(nil),
		"PUT reset":          answering(nil),
		"GET filesystemlist": answering(v1.VirtualMachineInstanceFileSystemList{}),
		"GET userlist":       answering(v1.VirtualMachineInstanceGuestOSUserList{}),
		"GET guestosinfo": func(_ *http.Request, vmi *v1.VirtualMachineInstance, g *guest) (any, int, error) {
			return guestInfo(vmi, g), 0, nil
		},
	} {
		method, name := route[:3], route[4:]
		mux.HandleFunc(method+" /v1/namespaces/{namespace}/virtualmachineinstances/{name}/"+name, h.answer(run))
	}
	return mux
}

func (h *handler) answer(run operation) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		key := r.PathValue("namespace") + "/" + r.PathValue("name")
		klog.InfoS("request", "method", r.Method, "path", r.URL.Path)
		vmi := h.instance(key)
		if vmi == nil {
			http.Error(w, "VMI "+key+" does not exist", http.StatusNotFound)
			return
		}
		answer, code, err := run(r, vmi, h.guestOf(vmi))
		switch {
		case err != nil:
			http.Error(w, err.Error(), code)
		case answer == nil:
			w.WriteHeader(http.StatusAccepted)
		default:
			w.Header().Set("Content-Type", "application/json")
			if err := json.NewEncoder(w).Encode(answer); err != nil {
				klog.ErrorS(err, "answering virt-api")
			}
		}
	}
}

// freezeRequest demands a timeout, as virt-handler does.
func freezeRequest(r *http.Request, vmi *v1.VirtualMachineInstance, g *guest) (any, int, error) {
	var request v1.FreezeUnfreezeTimeout
	if err := json.NewDecoder(r.Body).Decode(&request); err != nil || request.UnfreezeTimeout == nil {
		return nil, http.StatusBadRequest, errors.New("Unfreeze timeout in freeze request is not set") //nolint:staticcheck // KubeVirt's words
	}
	return nil, http.StatusBadRequest, freeze(vmi, g, request.UnfreezeTimeout.Duration)
}

func pauseRequest(paused bool) operation {
	return func(_ *http.Request, _ *v1.VirtualMachineInstance, g *guest) (any, int, error) {
		g.pause(paused)
		return nil, 0, nil
	}
}

func answering(answer any) operation {
	return func(*http.Request, *v1.VirtualMachineInstance, *guest) (any, int, error) { return answer, 0, nil }
}
