package main

import (
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

const (
	rootDisk = "/dev/vda"
	dataDisk = "/dev/vdb"
	newRoot  = "/root"
)

// boot brings a guest up, from the initial RAM disk, and does not return.
func boot() error {
	if err := bringUp(); err != nil {
		return err
	}
	found := check()
	text, err := json.Marshal(found)
	if err != nil {
		return err
	}
	say("found %s", text)
	if err := startAgent(); err != nil {
		return err
	}
	go awaitShutdown()
	if err := write(found); err != nil {
		say("the writer ended: %v", err)
	}
	select {}
}

func bringUp() error {
	for _, m := range []struct{ kind, at string }{{"devtmpfs", "/dev"}, {"proc", "/proc"}, {"sysfs", "/sys"}} {
		if err := mount(m.kind, m.at, m.kind); err != nil {
			return err
		}
	}
	console, err := os.OpenFile("/dev/ttyS0", os.O_RDWR, 0)
	if err != nil {
		return err
	}
	for fd := range 3 {
		if err := unix.Dup2(int(console.Fd()), fd); err != nil {
			return err
		}
	}
	if err := loadModules("/modules"); err != nil {
		return err
	}
	for _, disk := range []string{rootDisk, dataDisk} {
		if err := announce(disk); err != nil {
			return err
		}
	}
	if err := mount(rootDisk, newRoot, "ext4"); err != nil {
		return err
	}
	for _, m := range []struct{ source, at string }{{"/dev", "/dev"}, {"/proc", "/proc"}, {"/sys", "/sys"}} {
		if err := unix.Mount(m.source, newRoot+m.at, "", unix.MS_MOVE, ""); err != nil {
			return fmt.Errorf("moving %s: %w", m.source, err)
		}
	}
	if err := errors.Join(unix.Chdir(newRoot), unix.Mount(".", "/", "", unix.MS_MOVE, ""), unix.Chroot("."), unix.Chdir("/")); err != nil {
		return fmt.Errorf("changing the root: %w", err)
	}
	if err := os.Setenv("PATH", "/usr/sbin:/usr/bin:/sbin:/bin"); err != nil {
		return err
	}
	if err := mount("tmpfs", "/run", "tmpfs"); err != nil {
		return err
	}
	return mountData()
}

func mount(source, at, kind string) error {
	if err := os.MkdirAll(at, 0o755); err != nil {
		return err
	}
	if err := unix.Mount(source, at, kind, 0, ""); err != nil {
		return fmt.Errorf("mounting %s at %s: %w", source, at, err)
	}
	return nil
}

// mountData mounts the data disk, which is empty in a guest that boots for the first time.
func mountData() error {
	if _, err := readSuperblock(dataDisk); errors.Is(err, errNoFileSystem) {
		if out, err := exec.Command("mkfs.ext4", "-q", dataDisk).CombinedOutput(); err != nil {
			return fmt.Errorf("making the file system of %s: %w: %s", dataDisk, err, out)
		}
	}
	return mount(dataDisk, "/data", "ext4")
}

// loadModules loads kernel modules in the order of their numbered names.
func loadModules(folder string) error {
	files, err := filepath.Glob(filepath.Join(folder, "*.ko"))
	if err != nil {
		return err
	}
	for _, name := range files {
		file, err := os.Open(name)
		if err != nil {
			return err
		}
		err = unix.FinitModule(int(file.Fd()), "", 0)
		file.Close()
		// That of EFI's variables is for guests that booted by EFI only.
		if err != nil && !errors.Is(err, unix.EEXIST) && !errors.Is(err, unix.ENODEV) {
			return fmt.Errorf("loading %s: %w", name, err)
		}
	}
	return nil
}

// announce says whether a disk's file system has a journal to be replayed: only one that was not frozen has.
func announce(disk string) error {
	for range 100 {
		if _, err := os.Stat(disk); err == nil {
			break
		}
		time.Sleep(50 * time.Millisecond)
	}
	needsRecovery, err := readSuperblock(disk)
	switch {
	case errors.Is(err, errNoFileSystem):
		say("%s is empty", disk)
	case err != nil:
		return err
	default:
		say("%s needs_recovery=%t", disk, needsRecovery)
	}
	return nil
}

var errNoFileSystem = errors.New("no ext4 file system")

// readSuperblock tells whether the file system of a disk has a journal to be replayed (Linux, fs/ext4/ext4.h,
// struct ext4_super_block and EXT4_FEATURE_INCOMPAT_RECOVER).
func readSuperblock(disk string) (needsRecovery bool, err error) {
	file, err := os.Open(disk)
	if err != nil {
		return false, err
	}
	defer file.Close()
	block := make([]byte, 1024)
	if _, err := file.ReadAt(block, 1024); err != nil {
		return false, err
	}
	if binary.LittleEndian.Uint16(block[0x38:]) != 0xEF53 {
		return false, errNoFileSystem
	}
	return binary.LittleEndian.Uint32(block[0x60:])&0x4 != 0, nil
}

// startAgent starts QEMU's guest agent on the port that libvirt made for it. Nobody starts it again.
func startAgent() error {
	names, err := filepath.Glob("/sys/class/virtio-ports/*/name")
	if err != nil {
		return err
	}
	for _, name := range names {
		content, err := os.ReadFile(name)
		if err != nil {
			return err
		}
		if strings.TrimSpace(string(content)) != "org.qemu.guest_agent.0" {
			continue
		}
		agent := exec.Command("/usr/sbin/qemu-ga", "--method", "virtio-serial", "--path", "/dev/"+filepath.Base(filepath.Dir(name)), "--statedir", "/run")
		agent.Stdout, agent.Stderr = os.Stdout, os.Stderr
		if err := agent.Start(); err != nil {
			return err
		}
		go func() { say("the agent ended: %v", agent.Wait()) }()
		return nil
	}
	say("there is no port for an agent")
	return nil
}

// awaitShutdown waits for the program that the agent runs to shut a guest down, which is this one by another name.
func awaitShutdown() {
	asked := make(chan os.Signal, 1)
	signal.Notify(asked, unix.SIGTERM)
	<-asked
	shutDown()
}

// shutDown leaves both file systems clean: a frozen one is, and freezing does not mind who has files open.
func shutDown() {
	say("shutting down")
	const freeze = 0xC0045877 // FIFREEZE (Linux, include/uapi/linux/fs.h)
	for _, at := range []string{"/data", "/"} {
		folder, err := os.Open(at)
		if err == nil {
			err = unix.IoctlSetInt(int(folder.Fd()), freeze, 0)
		}
		if err != nil {
			say("leaving %s: %v", at, err)
		}
	}
	if err := unix.Reboot(unix.LINUX_REBOOT_CMD_POWER_OFF); err != nil {
		say("switching off: %v", err)
	}
}
