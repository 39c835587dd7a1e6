package cli

import (
	"bytes"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

func run(args ...string) (code int, stdout, stderr string) {
	var out, err bytes.Buffer
	code = Run("v1.2.3", append([]string{program}, args...), &out, &err)
	return code, out.String(), err.String()
}

func TestVersion(t *testing.T) {
	if code, out, _ := run("version"); code != 0 || out != "v1.2.3\n" {
		t.Errorf("exit code %d, output %q", code, out)
	}
}

func TestHelpNamesEveryCommand(t *testing.T) {
	code, out, _ := run("help")
	if code != 0 {
		t.Errorf("exit code %d", code)
	}
	for _, command := range []string{"Before a backup:\n  check", "install", "version", "velero backup create"} {
		if !strings.Contains(out, command) {
			t.Errorf("%q is missing in:\n%s", command, out)
		}
	}
}

func TestInstallCopiesThisProgramExecutable(t *testing.T) {
	dir := t.TempDir()
	code, out, errOut := run("install", dir)
	target := filepath.Join(dir, "velero-plugin-for-kubevirt")
	if code != 0 || out != "installed "+target+"\n" {
		t.Fatalf("exit code %d, output %q, errors %q", code, out, errOut)
	}
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	want, err := os.ReadFile(self)
	if err != nil {
		t.Fatal(err)
	}
	got, err := os.ReadFile(target)
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(want, got) {
		t.Error("the copy differs")
	}
	if info, err := os.Stat(target); err != nil || info.Mode().Perm() != 0o755 {
		t.Errorf("mode %v, %v", info.Mode(), err)
	}
	if entries, err := os.ReadDir(dir); err != nil || len(entries) != 1 {
		t.Errorf("left behind: %v, %v", entries, err)
	}
}

func TestMistakesExitWith2AndSayWhich(t *testing.T) {
	for _, mistake := range []struct {
		args []string
		want string
	}{
		{[]string{"instal"}, `unknown command "instal"`},
		{[]string{"install"}, "accepts 1 arg(s), received 0"},
		{[]string{"install", "/no/such/dir"}, "installing into /no/such/dir"},
	} {
		code, out, errOut := run(mistake.args...)
		if code != 2 || out != "" || !strings.Contains(errOut, mistake.want) {
			t.Errorf("%v: exit code %d, output %q, errors %q", mistake.args, code, out, errOut)
		}
	}
}

// A command that can say more than yes tells its exit codes.
func TestHelpOfEveryCommandOfAGroupNamesItsExitCodes(t *testing.T) {
	for _, command := range newRoot("", program).Commands() {
		if command.GroupID != "" && command.Name() != "policy" && !strings.Contains(command.Long, "Exit code: 0 ") {
			t.Errorf("%s: %s", command.Name(), command.Long)
		}
	}
}

func TestAsPluginOfKubectlItIsCalledSo(t *testing.T) {
	var out, errOut bytes.Buffer
	if code := Run("v1.2.3", []string{"/usr/local/bin/kubectl-vmbackup", "graph", "--help"}, &out, &errOut); code != 0 {
		t.Fatalf("exit code %d, errors %q", code, errOut.String())
	}
	for _, want := range []string{"  kubectl vmbackup graph vm/web", "Usage:\n  kubectl vmbackup graph "} {
		if !strings.Contains(out.String(), want) {
			t.Errorf("%q is missing in:\n%s", want, out.String())
		}
	}
	if strings.Contains(out.String(), program) {
		t.Errorf("the other name is in:\n%s", out.String())
	}
}

func TestControlCharactersDoNotReachTheTerminal(t *testing.T) {
	if _, _, errOut := run("graph", "\x1b[2Jvm/web"); !strings.Contains(errOut, `\x1b[2Jvm`) || strings.Contains(errOut, "\x1b") {
		t.Errorf("got %q", errOut)
	}
}
