package cluster

import (
	"net/http"
	"net/http/httptest"
	"slices"
	"testing"
	"time"
)

// TestTheFaultyAPIFailsAsAsked asks through it as Velero and as the plugin in turn.
func TestTheFaultyAPIFailsAsAsked(t *testing.T) {
	const ok, busy, broken = http.StatusOK, http.StatusTooManyRequests, http.StatusInternalServerError
	for name, c := range map[string]struct {
		faults APIFaults
		want   []int
	}{
		"nothing":                      {APIFaults{}, []int{ok, ok, ok, ok, ok, ok}},
		"every second for all":         {APIFaults{Busy: 2}, []int{ok, busy, ok, busy, ok, busy}},
		"every second of the plugin's": {APIFaults{Broken: 2}, []int{ok, ok, ok, broken, ok, ok}},
		"late":                         {APIFaults{Delay: 20 * time.Millisecond}, []int{ok, ok, ok, ok, ok, ok}},
	} {
		t.Run(name, func(t *testing.T) {
			api := &faultyAPI{server: http.HandlerFunc(func(http.ResponseWriter, *http.Request) {})}
			api.faults.Store(&c.faults)
			begin := time.Now()
			var got []int
			for n := range 6 {
				request := httptest.NewRequest(http.MethodGet, "/api", nil)
				request.Header.Set("User-Agent", []string{"velero-server/v1.18.1", pluginName + "/v0.1.0"}[n%2])
				answer := httptest.NewRecorder()
				api.ServeHTTP(answer, request)
				got = append(got, answer.Code)
			}
			if took := time.Since(begin); !slices.Equal(got, c.want) || took < 6*c.faults.Delay {
				t.Errorf("answers are %v after %s, want %v", got, took, c.want)
			}
		})
	}
}
