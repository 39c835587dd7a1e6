package cluster

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"sort"
	"strings"
	"syscall"
	"time"
)

// What is in the cache: programs, and what a Machine needs.
const (
	programCache = "bin"
	imageCache   = "images"
)

// cacheDir returns a folder of the cache.
func cacheDir(name string) (string, error) {
	dir, err := os.UserCacheDir()
	if err != nil {
		return "", fmt.Errorf("finding the cache: %w", err)
	}
	return filepath.Join(dir, "velero-plugin-for-kubevirt", name), nil
}

// CleanCache removes everything built.
func CleanCache() error {
	for _, name := range []string{programCache, imageCache} {
		dir, err := cacheDir(name)
		if err != nil {
			return err
		}
		if err := os.RemoveAll(dir); err != nil {
			return fmt.Errorf("removing the cache: %w", err)
		}
	}
	return nil
}

// cacheKey names the cache folder of a program: it changes with everything that goes into the binary.
func cacheKey(ctx context.Context, module string, p Program) (string, error) {
	toolchain, err := goCommand(ctx, module, "env", "GOVERSION", "GOOS", "GOARCH")
	if err != nil {
		return "", err
	}
	flags := append([]string{string(toolchain)}, buildArgs(Program{LDFlags: p.LDFlags, Mod: p.Mod, Tags: p.Tags}, "")...)
	mod := p.Mod
	if mod == "" {
		mod = "go.mod"
	}
	sum, err := hashModule(os.DirFS(module), mod, flags)
	if err != nil {
		return "", fmt.Errorf("reading module %s: %w", p.Module, err)
	}
	return p.Module + "-" + sum[:12], nil
}

// hashModule sums up a module's own Go files, the file that pins its dependencies and the one with their checksums, together
// with the flags it is built with.
func hashModule(module fs.FS, mod string, flags []string) (string, error) {
	var files []string
	err := fs.WalkDir(module, ".", func(path string, entry fs.DirEntry, err error) error {
		if err == nil && entry.Type().IsRegular() && isInput(path, mod) {
			files = append(files, path)
		}
		return err
	})
	if err != nil {
		return "", err
	}
	sort.Strings(files)
	hash := sha256.New()
	fmt.Fprintf(hash, "%q\n", flags)
	for _, file := range files {
		content, err := fs.ReadFile(module, file)
		if err != nil {
			return "", err
		}
		fmt.Fprintf(hash, "%s %x\n", file, sha256.Sum256(content))
	}
	return hex.EncodeToString(hash.Sum(nil)), nil
}

func isInput(path, mod string) bool {
	sum := strings.TrimSuffix(mod, ".mod") + ".sum"
	return path == mod || path == sum || strings.HasSuffix(path, ".go") && !strings.HasSuffix(path, "_test.go")
}

// output returns what a built program prints, keeping it in a file next to the binary.
func (b *builder) output(ctx context.Context, binary, file string, args ...string) ([]byte, error) {
	path := filepath.Join(filepath.Dir(binary), file)
	content, err := os.ReadFile(path)
	if err == nil || !errors.Is(err, fs.ErrNotExist) {
		return content, err
	}
	content, err = runProgram(ctx, binary, []string{"HOME=" + os.TempDir()}, args...)
	if err != nil {
		return nil, err
	}
	return content, writeFile(path, content)
}

// moduleDir returns the folder of another module that a component module requires, fetching it if need be.
func (b *builder) moduleDir(ctx context.Context, component, module string) (string, error) {
	output, err := goCommand(ctx, filepath.Join(b.source, component), "mod", "download", "-json", module)
	if err != nil {
		return "", fmt.Errorf("fetching module %s: %w", module, err)
	}
	var info struct{ Dir string }
	if err := json.Unmarshal(output, &info); err != nil {
		return "", fmt.Errorf("fetching module %s: %w", module, err)
	}
	return info.Dir, nil
}

// writeFile replaces a file in one step, so that no reader and no interruption sees half of it.
func writeFile(path string, content []byte) error {
	temporary, err := os.CreateTemp(filepath.Dir(path), filepath.Base(path)+".*")
	if err != nil {
		return err
	}
	_, err = temporary.Write(content)
	err = errors.Join(err, temporary.Close())
	if err == nil {
		err = os.Rename(temporary.Name(), path)
	}
	if err != nil {
		return errors.Join(err, os.Remove(temporary.Name()))
	}
	return nil
}

// lockFile takes a lock that ends with this program at the latest. It calls waiting once if somebody else holds it.
func lockFile(ctx context.Context, path string, waiting func()) (unlock func(), err error) {
	for first := true; ; first = false {
		unlock, err := tryLock(path)
		if !errors.Is(err, errLocked) {
			return unlock, err
		}
		if first {
			waiting()
		}
		select {
		case <-ctx.Done():
			return nil, fmt.Errorf("waiting for the lock %s: %w", path, ctx.Err())
		case <-time.After(200 * time.Millisecond):
		}
	}
}

var errLocked = errors.New("somebody else holds it")

// tryLock takes a lock that ends with this program at the latest, or fails with errLocked.
func tryLock(path string) (unlock func(), err error) {
	file, err := os.OpenFile(path, os.O_CREATE|os.O_RDWR, 0o644)
	if err != nil {
		return nil, err
	}
	err = syscall.Flock(int(file.Fd()), syscall.LOCK_EX|syscall.LOCK_NB)
	if errors.Is(err, syscall.EWOULDBLOCK) {
		err = errLocked
	}
	if err != nil {
		return nil, errors.Join(fmt.Errorf("locking %s: %w", path, err), file.Close())
	}
	return func() { file.Close() }, nil
}
