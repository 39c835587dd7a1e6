//go:build guest && linux

package guest

import (
	"context"
	"os"
	"os/exec"
	"strings"
	"testing"

	corev1 "k8s.io/api/core/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"
)

// TestDrill rehearses the restore of a guest that really boots, beside its original, and of a backup from which its root disk was cut out.
func TestDrill(t *testing.T) {
	vm := VM{"gym", "web"}
	boots(t, vm)
	report, _ := backup(t, vm, "--include-namespaces", vm.Namespace)
	wentWell(t, report.Report)
	publishRootCA(t, "drill-"+vm.Namespace)
	said := drill(t, 0, report.Name, "--timeout", patience.String(), "--exec", "test -b /dev/vdb && echo 'it'\\''s there'")
	if !strings.Contains(said, "gym/web passed") {
		t.Errorf("want that gym/web passed in\n%s", said)
	}
	t.Log(said)

	claim := &corev1.PersistentVolumeClaim{}
	if err := site.Get(t.Context(), client.ObjectKey{Namespace: vm.Namespace, Name: vm.Name + "-root"}, claim); err != nil {
		t.Fatal(err)
	}
	claim.Labels = map[string]string{"velero.io/exclude-from-backup": "true"}
	if err := site.Update(t.Context(), claim); err != nil {
		t.Fatal(err)
	}
	cut, err := site.Backup(t.Context(), name(t)+"-cut", "--include-namespaces", vm.Namespace)
	if err != nil {
		t.Fatal(err)
	}
	if said := drill(t, 1, cut.Name); !strings.Contains(said, "the data of disk web-root is not in backup") {
		t.Errorf("want that web-root is not in the backup in\n%s", said)
	}
}

// drill runs the command, which must end with a code, and returns what it says, with single spaces.
func drill(t *testing.T, code int, args ...string) string {
	t.Helper()
	command := exec.CommandContext(t.Context(), "../../bin/velero-plugin-for-kubevirt", append([]string{"drill"}, args...)...)
	command.Env = append(os.Environ(), "KUBECONFIG="+site.Cluster.Kubeconfig)
	said, err := command.CombinedOutput()
	if command.ProcessState.ExitCode() != code {
		t.Fatalf("drill %q: %v, want exit code %d:\n%s", args, err, code, said)
	}
	return strings.Join(strings.Fields(string(said)), " ")
}

// publishRootCA puts into a namespace, as soon as there is one, what a controller that does not run here puts into all.
func publishRootCA(t *testing.T, name string) {
	t.Helper()
	go func() {
		_ = await(t.Context(), patience, "namespace "+name, func() (bool, error) {
			err := site.Get(t.Context(), client.ObjectKey{Name: name}, &corev1.Namespace{})
			return err == nil, client.IgnoreNotFound(err)
		})
		if err := site.Cluster.PublishRootCA(context.WithoutCancel(t.Context()), name); err != nil && t.Context().Err() == nil {
			t.Error(err)
		}
	}()
}
