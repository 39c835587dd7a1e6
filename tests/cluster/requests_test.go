package cluster

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// TestWhatARoleDoesNotGrantIsNamed reads lines as an API server writes them: of the plugin, of Velero, and of nobody's object.
func TestWhatARoleDoesNotGrantIsNamed(t *testing.T) {
	c := &Cluster{Dir: t.TempDir()}
	const plugin = `"userAgent": "velero-plugin-for-kubevirt/v1"`
	for path, content := range map[string]string{
		c.AuditLog(): `{"verb": "get", ` + plugin + `, "objectRef": {"resource": "pods", "subresource": "exec"}}
{"verb": "list", ` + plugin + `, "objectRef": {"resource": "virtualmachines", "apiGroup": "kubevirt.io"}}
{"verb": "get", ` + plugin + `}
{"verb": "delete", "userAgent": "velero-server/v1", "objectRef": {"resource": "pods"}}
{"verb": "cre`,
		c.path("less.yaml"):   "rules: [{apiGroups: [''], resources: [pods/exec], verbs: [create]}, {apiGroups: [kubevirt.io], resources: [virtualmachines], verbs: [list]}]",
		c.path("enough.yaml"): "rules: [{apiGroups: [''], resources: [pods/exec], verbs: [create, get]}, {apiGroups: [kubevirt.io], resources: [virtualmachines], verbs: [list]}]",
	} {
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(content), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	if err := c.CheckRole(c.path("enough.yaml")); err != nil {
		t.Error(err)
	}
	if err := c.CheckRole(c.path("less.yaml")); err == nil || !strings.HasSuffix(err.Error(), `["get pods/exec."]`) {
		t.Errorf("a role without exec: %v", err)
	}
}
