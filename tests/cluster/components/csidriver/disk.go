package main

import (
	"errors"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"runtime"
	"syscall"
)

// errTooLong is what a file system says to a name that cannot be one of its files.
const errTooLong = syscall.ENAMETOOLONG

// seekData and seekHole are the values of lseek(2) that find data and holes. Go has no names for them.
var seekData, seekHole = 3, 4

func init() {
	if runtime.GOOS == "darwin" {
		seekData, seekHole = 4, 3
	}
}

// createDisk creates a sparse file of a size that begins with the bytes of another file, if given.
func createDisk(path string, size int64, from string) (err error) {
	target, err := os.OpenFile(path, os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o644)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, target.Close()) }()
	if from != "" {
		source, err := os.Open(from)
		if err != nil {
			return err
		}
		defer source.Close()
		if err := copySparse(target, source); err != nil {
			return err
		}
	}
	// Last: an image may have been written that is smaller or larger than its volume.
	info, err := target.Stat()
	if err != nil {
		return err
	}
	return target.Truncate(max(size, info.Size()))
}

// copyOthers copies the files and folders beside a disk, with their owners and modes: what was written to a volume that was mounted.
func copyOthers(target, source string) error {
	return filepath.WalkDir(source, func(path string, entry fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		name, err := filepath.Rel(source, path)
		if err != nil {
			return err
		}
		to := filepath.Join(target, name)
		switch {
		case name == "." || name == disk:
			return nil
		case entry.IsDir():
			err = os.Mkdir(to, 0o755)
		case entry.Type().IsRegular():
			err = createDisk(to, 0, path)
		default:
			return nil // a socket has nothing to copy
		}
		if err != nil {
			return err
		}
		info, err := entry.Info()
		if err != nil {
			return err
		}
		owner := info.Sys().(*syscall.Stat_t)
		return errors.Join(os.Lchown(to, int(owner.Uid), int(owner.Gid)), os.Chmod(to, info.Mode()))
	})
}

// copySparse copies a file without its holes: only what the file system has stored is read and written. Within that, the
// kernel shares the blocks where the file system can.
func copySparse(target, source *os.File) error {
	info, err := source.Stat()
	if err != nil {
		return err
	}
	if err := target.Truncate(info.Size()); err != nil {
		return err
	}
	for offset := int64(0); ; {
		start, err := source.Seek(offset, seekData)
		if errors.Is(err, syscall.ENXIO) {
			return nil // no data behind offset
		}
		if err != nil {
			return err
		}
		end, err := source.Seek(start, seekHole)
		if err != nil {
			return err
		}
		for _, file := range []*os.File{source, target} {
			if _, err := file.Seek(start, io.SeekStart); err != nil {
				return err
			}
		}
		if _, err := io.CopyN(target, source, end-start); err != nil {
			return err
		}
		offset = end
	}
}
