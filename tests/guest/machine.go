//go:build linux

package guest

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"

	"golang.org/x/sys/unix"

	"velero-plugin-for-kubevirt/tests/cluster"
)

// In the machine's folder containers and the kubelet keep their files, each cluster its own, and all of them what is stored: disks, and what
// the object store has.
const (
	machineFolder = "machine"
	clusterFolder = "cluster"
	storageFolder = "storage"
)

// beFirst is the first process of the machine: it sets it up, starts this program once more, and reaps what others leave behind. When
// it ends the kernel kills the rest.
func beFirst() (code int, err error) {
	if err := setUp(os.Getenv(dirVariable)); err != nil {
		return 1, fmt.Errorf("setting up the machine: %w", err)
	}
	if err := os.Setenv(stageVariable, inside); err != nil {
		return 1, err
	}
	program, err := os.StartProcess("/proc/self/exe", os.Args, &os.ProcAttr{Files: []*os.File{os.Stdin, os.Stdout, os.Stderr}})
	if err != nil {
		return 1, err
	}
	for {
		var status syscall.WaitStatus
		pid, err := syscall.Wait4(-1, &status, 0, nil)
		if errors.Is(err, syscall.EINTR) {
			continue
		}
		if err != nil {
			return 1, fmt.Errorf("waiting for processes: %w", err)
		}
		if pid == program.Pid {
			if status.Signaled() {
				return 128 + int(status.Signal()), nil
			}
			return status.ExitStatus(), nil
		}
	}
}

func setUp(dir string) error {
	if err := unix.Mount("", "/", "", unix.MS_PRIVATE|unix.MS_REC, ""); err != nil {
		return err
	}
	for _, step := range []func(string) error{mountSys, mountVar, mountDev, mountRun} {
		if err := step(dir); err != nil {
			return err
		}
	}
	// Last: what is mounted before must not be mounted twice. Containers of virt-handler mount for others.
	if err := unix.Mount("", "/", "", unix.MS_SHARED|unix.MS_REC, ""); err != nil {
		return err
	}
	if err := unix.Sethostname([]byte(cluster.NodeName)); err != nil {
		return err
	}
	for _, line := range []string{
		"link set lo up", "address add " + cluster.MachineAddress + "/32 dev lo", "address add " + cluster.ServiceAddress + "/32 dev lo",
	} {
		if out, err := exec.Command("ip", strings.Fields(line)...).CombinedOutput(); err != nil {
			return fmt.Errorf("ip %s: %w: %s", line, err, out)
		}
	}
	return nil
}

// mountSys mounts /proc and /sys as the new namespaces see them, and the cgroups as they are.
func mountSys(dir string) error {
	cgroups := filepath.Join(dir, "cgroups")
	if err := os.Mkdir(cgroups, 0o755); err != nil {
		return err
	}
	return errors.Join(
		unix.Mount("proc", "/proc", "proc", 0, ""),
		unix.Mount("/sys/fs/cgroup", cgroups, "", unix.MS_BIND|unix.MS_REC, ""),
		unix.Mount("sysfs", "/sys", "sysfs", 0, ""),
		unix.Mount(cgroups, "/sys/fs/cgroup", "", unix.MS_BIND|unix.MS_REC, ""),
		unix.Unmount(cgroups, unix.MNT_DETACH),
	)
}

// mountVar lets what the kubelet and virt-handler write below /var go to the machine's folder.
func mountVar(dir string) error {
	for _, path := range []string{"/var/lib", "/var/log"} {
		upper, work := filepath.Join(dir, machineFolder, path), filepath.Join(dir, machineFolder, path+".work")
		for _, folder := range []string{upper, work} {
			if err := os.MkdirAll(folder, 0o755); err != nil {
				return err
			}
		}
		options := fmt.Sprintf("lowerdir=%s,upperdir=%s,workdir=%s", path, upper, work)
		if err := unix.Mount("overlay", path, "overlay", 0, options); err != nil {
			return fmt.Errorf("mounting an overlay over %s: %w", path, err)
		}
	}
	return mountKubelet(dir)
}

// mountKubelet gives the kubelet an empty folder. Its volumes are mounted there: it must not be an overlay.
func mountKubelet(dir string) error {
	folder, err := os.MkdirTemp(filepath.Join(dir, machineFolder), "kubelet-")
	if err != nil {
		return err
	}
	if err := errors.Join(os.Chmod(folder, 0o755), os.MkdirAll(kubeletFolder, 0o755)); err != nil {
		return err
	}
	return unix.Mount(folder, kubeletFolder, "", unix.MS_BIND, "")
}

const kubeletFolder = "/var/lib/kubelet"

// loopDevices is how many there are to find a free one among, and loopMajor their number (Linux, include/uapi/linux/major.h).
const loopDevices, loopMajor = 64, 7

// mountDev makes the devices that a node needs. KVM is not among them: a test must not depend on it.
func mountDev(dir string) error {
	dev := filepath.Join(dir, "dev")
	if err := os.Mkdir(dev, 0o755); err != nil {
		return err
	}
	if err := unix.Mount("tmpfs", dev, "tmpfs", unix.MS_NOSUID, "mode=755"); err != nil {
		return err
	}
	devices := []struct {
		name         string
		kind         uint32
		major, minor uint32
	}{
		{"null", unix.S_IFCHR, 1, 3}, {"zero", unix.S_IFCHR, 1, 5}, {"full", unix.S_IFCHR, 1, 7}, {"random", unix.S_IFCHR, 1, 8},
		{"urandom", unix.S_IFCHR, 1, 9}, {"kmsg", unix.S_IFCHR, 1, 11}, {"tty", unix.S_IFCHR, 5, 0}, {"fuse", unix.S_IFCHR, 10, 229},
		{"loop-control", unix.S_IFCHR, 10, 237}, {"net/tun", unix.S_IFCHR, 10, 200},
	}
	for n := range uint32(loopDevices) {
		devices = append(devices, struct {
			name         string
			kind         uint32
			major, minor uint32
		}{fmt.Sprintf("loop%d", n), unix.S_IFBLK, loopMajor, n})
	}
	for _, folder := range []string{"net", "pts", "shm"} {
		if err := os.Mkdir(filepath.Join(dev, folder), 0o755); err != nil {
			return err
		}
	}
	for _, d := range devices {
		path := filepath.Join(dev, d.name)
		if err := errors.Join(unix.Mknod(path, d.kind|0o666, int(unix.Mkdev(d.major, d.minor))), os.Chmod(path, 0o666)); err != nil {
			return fmt.Errorf("making the device %s: %w", d.name, err)
		}
	}
	for name, target := range map[string]string{"ptmx": "pts/ptmx", "fd": "/proc/self/fd", "stdin": "fd/0", "stdout": "fd/1", "stderr": "fd/2"} {
		if err := os.Symlink(target, filepath.Join(dev, name)); err != nil {
			return err
		}
	}
	return errors.Join(
		unix.Mount("devpts", filepath.Join(dev, "pts"), "devpts", 0, "newinstance,ptmxmode=666,mode=620"),
		unix.Mount("tmpfs", filepath.Join(dev, "shm"), "tmpfs", 0, ""),
		unix.Mount(dev, "/dev", "", unix.MS_BIND|unix.MS_REC, ""),
		unix.Unmount(dev, unix.MNT_DETACH),
	)
}

// mountRun makes an empty /run.
func mountRun(string) error { return unix.Mount("tmpfs", "/run", "tmpfs", 0, "mode=755") }
