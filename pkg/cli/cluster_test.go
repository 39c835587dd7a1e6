package cli

import (
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
)

// kubeconfigFor is a kubeconfig of a server.
func kubeconfigFor(t *testing.T, url string) string {
	return write(t, "kubeconfig", `{apiVersion: v1, kind: Config, current-context: c, contexts: [{name: c, context: {cluster: c, user: u, namespace: shop}}], `+
		`clusters: [{name: c, cluster: {server: "`+url+`"}}], users: [{name: u, user: {}}]}`)
}

func TestAClusterWithoutKubeVirtIsSaidToBeOne(t *testing.T) {
	server := httptest.NewServer(http.HandlerFunc(func(out http.ResponseWriter, request *http.Request) {
		out.Header().Set("Content-Type", "application/json")
		text := `{"kind": "APIGroupList", "apiVersion": "v1", "groups": []}`
		if request.URL.Path == "/api" {
			text = `{"kind": "APIVersions", "versions": []}`
		}
		if _, err := out.Write([]byte(text)); err != nil {
			t.Error(err)
		}
	}))
	defer server.Close()
	code, out, errOut := run("graph", "vm/web", "--kubeconfig", kubeconfigFor(t, server.URL))
	if code != 2 || out != "" || errOut != "Error: this cluster does not serve virtualmachines.kubevirt.io: KubeVirt or CDI is not installed, or this is another cluster\n" {
		t.Errorf("exit code %d, output %q, errors %q", code, out, errOut)
	}
}

// TestNobodyAnswers: one sentence, and none of client-go's own lines.
func TestNobodyAnswers(t *testing.T) {
	server := httptest.NewServer(http.NotFoundHandler())
	server.Close()
	code, out, errOut := run("graph", "--kubeconfig", kubeconfigFor(t, server.URL))
	if code != 2 || out != "" || strings.Count(errOut, "\n") != 1 || !strings.Contains(errOut, "connection refused") {
		t.Errorf("exit code %d, output %q, errors %q", code, out, errOut)
	}
}

func TestOfTheFlagsThoseAreListedThatPeopleNeed(t *testing.T) {
	_, out, _ := run("graph", "--help")
	for flag, listed := range map[string]bool{"--namespace": true, "--context": true, "--kubeconfig": true, "--as-uid": false, "--password": false} {
		if strings.Contains(out, flag) != listed {
			t.Errorf("%s: listed is not %v in:\n%s", flag, listed, out)
		}
	}
	if code, _, errOut := run("graph", "--as", "somebody", "--kubeconfig", "no-such-file"); code != 2 || !strings.Contains(errOut, "no-such-file") {
		t.Errorf("exit code %d, errors %q", code, errOut)
	}
}
