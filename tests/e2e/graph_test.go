//go:build e2e

package e2e

import (
	"bytes"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"k8s.io/client-go/tools/clientcmd"
	clientcmdapi "k8s.io/client-go/tools/clientcmd/api"

	"velero-plugin-for-kubevirt/tests/readme"
)

// A person is somebody at a shell, in an empty folder: the programs are in PATH, KUBECONFIG names the cluster.
type person struct {
	dir string
	env []string
}

func (w *testCluster) person(t *testing.T, kubeconfig string) *person {
	t.Helper()
	tools := t.TempDir()
	plugin, err := filepath.Abs(binary)
	if err != nil {
		t.Fatal(err)
	}
	for name, program := range map[string]string{
		"velero-plugin-for-kubevirt": plugin, "kubectl-vmbackup": plugin, "kubectl": w.Program("kubectl"), "velero": w.Program("velero"),
	} {
		if err := os.Symlink(program, filepath.Join(tools, name)); err != nil {
			t.Fatal(err)
		}
	}
	return &person{t.TempDir(), append(os.Environ(), "KUBECONFIG="+kubeconfig, "PATH="+tools+":"+os.Getenv("PATH"))}
}

// types runs a line and returns its exit code.
func (p *person) types(t *testing.T, line string) (code int, stdout, stderr string) {
	t.Helper()
	var out, errOut bytes.Buffer
	cmd := exec.CommandContext(t.Context(), "bash", "-o", "pipefail", "-c", line)
	cmd.Dir, cmd.Env, cmd.Stdout, cmd.Stderr = p.dir, p.env, &out, &errOut
	err := cmd.Run()
	var exit *exec.ExitError
	if err != nil && !errors.As(err, &exit) {
		t.Fatalf("%s: %v", line, err)
	}
	return cmd.ProcessState.ExitCode(), out.String(), errOut.String()
}

func (p *person) must(t *testing.T, line string) string {
	t.Helper()
	code, out, errOut := p.types(t, line)
	if code != 0 {
		t.Fatalf("%s: exit code %d\n%s%s", line, code, out, errOut)
	}
	return out
}

func TestTheCommandsOfGraphsDocumentationWork(t *testing.T) {
	w := plainCluster(t)
	w.loadShop(t)
	commands, err := readme.CommandsUnder("../..", readme.CLI, "## graph")
	if err != nil || len(commands) < 10 {
		t.Fatalf("%d commands, %v", len(commands), err)
	}
	someone := w.person(t, w.Kubeconfig)
	for _, command := range commands {
		out := someone.must(t, command)
		if strings.HasSuffix(command, " vm/web -n shop") && !strings.HasSuffix(out, "\nshop/web: complete, 20 objects\n") {
			t.Errorf("%s:\n%s", command, out)
		}
	}
	// The example of the help, as kubectl's plugin.
	help := someone.must(t, "kubectl vmbackup graph --help")
	for line := range strings.Lines(help) {
		if line = strings.TrimSpace(line); strings.HasPrefix(line, "kubectl get ") {
			if out := someone.must(t, line); !strings.HasSuffix(out, "\nshop/web: complete, 20 objects\n") {
				t.Errorf("%s:\n%s", line, out)
			}
			return
		}
	}
	t.Errorf("no pipeline in:\n%s", help)
}

// TestWhatAPersonMustNotReadIsUnknown: somebody may see VMs and disks, but no secrets.
func TestWhatAPersonMustNotReadIsUnknown(t *testing.T) {
	w := plainCluster(t)
	w.loadShop(t)
	admin := w.person(t, w.Kubeconfig)
	for _, line := range []string{
		"kubectl create serviceaccount viewer -n shop",
		"kubectl create role viewer -n shop --verb=get,list --resource=virtualmachines.kubevirt.io,virtualmachineinstances.kubevirt.io," +
			"virtualmachineinstancepresets.kubevirt.io,datavolumes.cdi.kubevirt.io,persistentvolumeclaims,pods,configmaps,serviceaccounts,controllerrevisions.apps," +
			"virtualmachineinstancetypes.instancetype.kubevirt.io,virtualmachinepreferences.instancetype.kubevirt.io",
		"kubectl create rolebinding viewer -n shop --role=viewer --serviceaccount=shop:viewer",
	} {
		admin.must(t, line)
	}
	viewer := w.person(t, w.kubeconfigOf(t, strings.TrimSpace(admin.must(t, "kubectl create token viewer -n shop"))))

	code, out, errOut := viewer.types(t, "velero-plugin-for-kubevirt graph vm/web -n shop")
	if code != 2 || strings.Count(out, "unknown: forbidden") != 4 || !strings.HasSuffix(out, "\nshop/web: 4 unknown, 16 objects\n") {
		t.Errorf("exit code %d:\n%s", code, out)
	}
	if !strings.Contains(errOut, `secrets "web-tls" is forbidden: User "system:serviceaccount:shop:viewer" cannot get`) || strings.Count(errOut, "\n") != 1 {
		t.Errorf("errors %q", errOut)
	}
	if code, out, errOut := viewer.types(t, "velero-plugin-for-kubevirt graph vm/web -n velero"); code != 2 || out != "" || !strings.Contains(errOut, "forbidden") {
		t.Errorf("exit code %d, output %q, errors %q", code, out, errOut)
	}
	if code, out, errOut := admin.types(t, "velero-plugin-for-kubevirt graph vm/nobody -n shop"); code != 2 || out != "" || errOut != "Error: no virtualmachines.kubevirt.io/shop/nobody\n" {
		t.Errorf("exit code %d, output %q, errors %q", code, out, errOut)
	}
	admin.must(t, "kubectl delete secret web-tls -n shop")
	if code, _, errOut := admin.types(t, "kubectl vmbackup graph vm/web -n shop"); code != 1 || errOut != "shop/web: 1 missing: secrets/shop/web-tls\n" {
		t.Errorf("exit code %d, errors %q", code, errOut)
	}
}

// kubeconfigOf writes the kubeconfig of somebody who has a token.
func (w *testCluster) kubeconfigOf(t *testing.T, token string) string {
	t.Helper()
	config, err := clientcmd.LoadFromFile(w.Kubeconfig)
	if err != nil {
		t.Fatal(err)
	}
	for name := range config.AuthInfos {
		config.AuthInfos[name] = &clientcmdapi.AuthInfo{Token: token}
	}
	path := filepath.Join(t.TempDir(), "kubeconfig")
	if err := clientcmd.WriteToFile(*config, path); err != nil {
		t.Fatal(err)
	}
	return path
}
