package backup

import (
	"context"
	"errors"
	"strings"
	"testing"
	"time"

	velerov1 "github.com/vmware-tanzu/velero/pkg/apis/velero/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"velero-plugin-for-kubevirt/pkg/cluster"
	"velero-plugin-for-kubevirt/pkg/kubevirt"
)

// grouped puts running VMs into a group, each with a disk of its own. The last is paused.
func grouped(names ...string) (guests string, claims []string) {
	for n, name := range names {
		guest := strings.Replace(guestWith(name, "disk-"+name), "app: "+name+"}, annotations", "app: "+name+", velero.kubevirt.io/freeze-together: app}, annotations", 1)
		if n == len(names)-1 {
			guest = strings.Replace(guest, "conditions: [", `conditions: [{type: Paused, status: "True"}, `, 1)
		}
		guests += guest
		claims = append(claims, "disk-"+name+":fast")
	}
	return guests, claims
}

// TestTheRestOfAGroupIsForecastWhateverOfItIsAskedFor: those that are not asked for are frozen with the others, too.
func TestTheRestOfAGroupIsForecastWhateverOfItIsAskedFor(t *testing.T) {
	guests, claims := grouped("web", "mail", "database")
	backup := &velerov1.Backup{ObjectMeta: metav1.ObjectMeta{Namespace: "velero", Name: "nightly"}}
	forecasts := forecastOf(t, guests, claims, backup, Server{CSI: true, Poll: time.Second}, "web", "mail")
	if len(forecasts) != 2 {
		t.Errorf("%d forecasts, want 2", len(forecasts))
	}
	for name, forecast := range forecasts {
		if got := forecast.Verdict.Message(); got != "NotTogether: app" || forecast.Err != nil {
			t.Errorf("%s: %s, %v; want NotTogether: app", name, got, forecast.Err)
		}
	}
}

// without is a reader that cannot read one object.
type without struct {
	Reader
	id kubevirt.ID
}

func (w without) Get(ctx context.Context, id kubevirt.ID) (map[string]any, error) {
	if id == w.id {
		return nil, errUnanswered
	}
	return w.Reader.Get(ctx, id)
}

// TestAForecastNeedsTheWholeGroup: whether the others would be frozen cannot be said without them.
func TestAForecastNeedsTheWholeGroup(t *testing.T) {
	guests, claims := grouped("web", "database")
	r, _, _ := storageWith(t, "kubevirt", claims...)
	r.blocks = map[kubevirt.ID]*block{}
	memory := memoryOf(t, guests)
	for resource, items := range r.reader.(cluster.Memory) {
		memory[resource] = append(memory[resource], items...)
	}
	vms := memory[kubevirt.VirtualMachines]
	r.reader = without{memory, inShop(kubevirt.VirtualMachines, "database")}
	found, err := r.Forecast(t.Context(), vms[:1], &velerov1.Backup{}, Server{CSI: true})
	if err != nil || len(found) != 1 || !errors.Is(found[0].Err, errUnanswered) {
		t.Errorf("%+v, %v; want %v", found, err, errUnanswered)
	}
}
