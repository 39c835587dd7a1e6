package main

import (
	"cmp"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"time"
)

// A kind is what an item is, and the folder it is kept in.
type kind string

const (
	volumes   kind = "volumes"
	snapshots kind = "snapshots"
	drafts    kind = "drafts" // items that are not complete
)

// An item is a volume or a snapshot: a folder with its description and its files, one of which is a disk.
type item struct {
	ID      string
	Source  string // for a volume: kind/id of what it was copied from, or empty; for a snapshot: its volume's id
	Group   string // for a snapshot taken with others: the id they share
	Size    int64
	Created time.Time
	Took    time.Duration // how long it took to make
}

const (
	files       = "files" // what a volume with a file system shows
	disk        = "disk.img"
	description = "item.json"
)

// A store keeps the items in a folder. Who changes something holds its lock.
type store struct {
	sync.Mutex
	root string
}

func openStore(root string) (*store, error) {
	for _, k := range []kind{volumes, snapshots, drafts} {
		if err := os.MkdirAll(filepath.Join(root, string(k)), 0o755); err != nil {
			return nil, err
		}
	}
	return &store{root: root}, nil
}

// identify makes an id of a name: the same name always has the same id, so that a repeated call finds what the first made.
func identify(prefix, name string) string {
	sum := sha256.Sum256([]byte(name))
	return prefix + "-" + hex.EncodeToString(sum[:8])
}

func (s *store) path(k kind, elements ...string) string {
	return filepath.Join(append([]string{s.root, string(k)}, elements...)...)
}

// disk returns the path of an item's bytes.
func (s *store) disk(k kind, id string) string { return s.path(k, id, files, disk) }

// get returns an item, or nil if there is none by that id.
func (s *store) get(k kind, id string) (*item, error) {
	if id == "" || !filepath.IsLocal(id) || filepath.Base(id) != id {
		return nil, nil // nothing that this store gave out
	}
	content, err := os.ReadFile(s.path(k, id, description))
	if errors.Is(err, fs.ErrNotExist) || errors.Is(err, errTooLong) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("reading %s: %w", id, err)
	}
	found := &item{}
	if err := json.Unmarshal(content, found); err != nil {
		return nil, fmt.Errorf("reading %s: %w", id, err)
	}
	return found, nil
}

// list returns all items of a kind, in order of id.
func (s *store) list(k kind) ([]*item, error) {
	entries, err := os.ReadDir(s.path(k))
	if err != nil {
		return nil, fmt.Errorf("listing %s: %w", k, err)
	}
	var items []*item
	for _, entry := range entries {
		found, err := s.get(k, entry.Name())
		if err != nil {
			return nil, err
		}
		if found != nil {
			items = append(items, found)
		}
	}
	slices.SortFunc(items, func(a, b *item) int { return cmp.Compare(a.ID, b.ID) })
	return items, nil
}

// add creates an item whose disk begins with the bytes of another's, if given, and whose other files are the same. It is there
// completely or not at all.
func (s *store) add(k kind, new *item, from string) (err error) {
	begin := time.Now()
	draft := s.path(drafts, new.ID)
	defer func() {
		if err != nil {
			err = errors.Join(fmt.Errorf("creating %s: %w", new.ID, err), os.RemoveAll(draft))
		}
	}()
	if err := os.RemoveAll(draft); err != nil {
		return err
	}
	if err := os.MkdirAll(filepath.Join(draft, files), 0o755); err != nil {
		return err
	}
	if err := createDisk(filepath.Join(draft, files, disk), new.Size, from); err != nil {
		return err
	}
	if from != "" {
		if err := copyOthers(filepath.Join(draft, files), filepath.Dir(from)); err != nil {
			return err
		}
	}
	new.Took = time.Since(begin)
	if err := describe(draft, new); err != nil {
		return err
	}
	return os.Rename(draft, s.path(k, new.ID))
}

func describe(folder string, i *item) error {
	content, err := json.MarshalIndent(i, "", "  ")
	if err != nil {
		return err
	}
	path := filepath.Join(folder, description)
	if err := os.WriteFile(path+".new", content, 0o644); err != nil {
		return err
	}
	return os.Rename(path+".new", path)
}

// grow makes a volume's disk larger.
func (s *store) grow(volume *item, size int64) error {
	if err := os.Truncate(s.disk(volumes, volume.ID), size); err != nil {
		return fmt.Errorf("growing %s: %w", volume.ID, err)
	}
	volume.Size = size
	if err := describe(s.path(volumes, volume.ID), volume); err != nil {
		return fmt.Errorf("growing %s: %w", volume.ID, err)
	}
	return nil
}

// remove deletes an item, if it is there.
func (s *store) remove(k kind, id string) error {
	found, err := s.get(k, id)
	if err != nil || found == nil {
		return err
	}
	if err := os.RemoveAll(s.path(k, id)); err != nil {
		return fmt.Errorf("deleting %s: %w", id, err)
	}
	return nil
}
