// Package policy gives the command "policy" names that nobody would write.
package policy

import (
	"bytes"
	"testing"

	"sigs.k8s.io/yaml"

	"velero-plugin-for-kubevirt/pkg/cli"
)

// FuzzVolumePolicy: whatever drivers and classes are called, the policy is YAML that names them.
func FuzzVolumePolicy(f *testing.F) {
	f.Add("ebs.csi.aws.com", "fast", "one-cut")
	f.Add("", "a: b", "x\n---\nkind: Secret")
	f.Add("'\"", "- |", "{}")
	f.Fuzz(func(t *testing.T, driver, class, name string) {
		var out, stderr bytes.Buffer
		if cli.Run("v0", []string{"policy", "--name=" + name, "--driver=" + driver, "--storage-class=" + class}, &out, &stderr) != 0 {
			return
		}
		var policy struct {
			APIVersion string                           `json:"apiVersion"`
			Kind       string                           `json:"kind"`
			Metadata   struct{ Name, Namespace string } `json:"metadata"`
			Data       map[string]string                `json:"data"`
		}
		if err := yaml.UnmarshalStrict(out.Bytes(), &policy); err != nil {
			t.Fatalf("%v in\n%s", err, &out)
		}
		if policy.Kind != "ConfigMap" || policy.Metadata.Name != name || len(policy.Data) != 1 {
			t.Fatalf("not a ConfigMap with one policy:\n%s", &out)
		}
		var content map[string]any
		if err := yaml.UnmarshalStrict([]byte(policy.Data["policy.yaml"]), &content); err != nil {
			t.Fatalf("%v in\n%s", err, policy.Data["policy.yaml"])
		}
	})
}
