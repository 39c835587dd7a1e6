package cli

import "testing"

func TestPolicy(t *testing.T) {
	for _, c := range []struct {
		drivers, classes []string
		want             string
	}{
		{nil, nil, `apiVersion: v1
data:
  policy.yaml: |
    version: v1
    volumePolicies:
    - action:
        parameters:
          snapshotter: kubevirt
        type: custom
      conditions:
        csi: {}
kind: ConfigMap
metadata:
  name: one-cut
  namespace: velero
`},
		{[]string{"csi.example.com"}, []string{"fast", "slow"}, `apiVersion: v1
data:
  policy.yaml: |
    version: v1
    volumePolicies:
    - action:
        parameters:
          snapshotter: kubevirt
        type: custom
      conditions:
        csi:
          driver: csi.example.com
    - action:
        parameters:
          snapshotter: kubevirt
        type: custom
      conditions:
        storageClass:
        - fast
        - slow
kind: ConfigMap
metadata:
  name: one-cut
  namespace: velero
`},
	} {
		if got, err := policy("velero", "one-cut", c.drivers, c.classes); err != nil || string(got) != c.want {
			t.Errorf("of %v, %v: %s, %v", c.drivers, c.classes, got, err)
		}
	}
}
