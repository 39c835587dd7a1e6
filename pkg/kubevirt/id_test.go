package kubevirt

import "testing"

func TestIDsComeBackAsTheyWereWritten(t *testing.T) {
	for _, id := range []ID{
		{Secrets, "shop", "web-tls"},
		{DataVolumes, "shop", "web-root"},
		{ClusterInstancetypes, "", "u1.small"},
	} {
		if got, err := ParseID(id.String()); err != nil || got != id {
			t.Errorf("%s came back as %v, %v", id, got, err)
		}
	}
	for _, bad := range []string{"", "secrets", "secrets/", "/web", "secrets/shop/web/tls"} {
		if id, err := ParseID(bad); err == nil {
			t.Errorf("%q was read as %v", bad, id)
		}
	}
}
