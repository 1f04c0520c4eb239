package coredump

import (
	"cmp"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"time"

	"golang.org/x/sys/unix"

	"github.com/tritond/triton/pkg/durable"
	"github.com/tritond/triton/pkg/triton"
)

// Keep bounds what a store holds of one tenant. The oldest dumps go first, whole.
type Keep struct {
	Age      time.Duration // since the crash
	Bytes    uint64        // on disk, with the files that are kept beside dumps, each once
	Dumps    int
	PerPlace int // crashes at the same instruction of the same program
	// untilRead spares crashes from PerPlace whose stacks are still to be read: what happens often is counted before it goes.
	untilRead bool
}

// DefaultKeep is what a daemon keeps; Bytes is a flag's.
var DefaultKeep = Keep{Age: 30 * 24 * time.Hour, Dumps: 256, PerPlace: 10}

// reserveSize is what a full volume still gives to records and mini cores.
const (
	reserveSize = 16 << 20
	reserveFile = "reserve"
)

// shelf is what is known of the dumps that are complete, so that a crash need not read all records.
type shelf struct {
	mu    sync.Mutex
	dumps map[triton.Tenant][]kept // oldest first
}

type kept struct {
	id      string
	at      time.Time
	place   string
	bytes   uint64            // of the dump's own files
	objects map[string]uint64 // bytes of the files that are kept beside it, by Object
	unread  bool              // a crash whose stacks are to be read
	// What is left to do of it: to read its stacks or to count it in its group, and then to compress its memory anew.
	analyse, repack bool
}

// weighed is what retention knows of a dump.
func (s *Store) weighed(r *Record) (kept, error) {
	dir, err := s.path(r.Container.Tenant, r.ID)
	if err != nil {
		return kept{}, err
	}
	k := kept{
		id: r.ID, at: r.At, place: r.Place, bytes: sizeOf(dir), objects: map[string]uint64{}, unread: r.Kind == "" && r.Analysis == nil,
		analyse: r.Analysis == nil || r.uncounted(), repack: r.repackable(),
	}
	for _, f := range r.Kept {
		if f.Object != "" {
			k.objects[f.Object] = uint64(f.Size)
		}
	}
	return k, nil
}

// shelve makes a complete dump one that retention counts, and removes what there is no room for. It never removes r.
func (s *Store) shelve(r *Record) error {
	dir, err := s.path(r.Container.Tenant, r.ID)
	if err != nil {
		return err
	}
	if err := giveBack(dir, roomFiles); err != nil {
		return err
	}
	k, err := s.weighed(r)
	if err != nil {
		return err
	}
	s.shelf.mu.Lock()
	defer s.shelf.mu.Unlock()
	tenant := r.Container.Tenant
	dumps := s.shelf.dumps[tenant]
	dumps = append(dumps, k)
	sortKept(dumps)
	s.shelf.dumps[tenant] = dumps
	return errors.Join(s.prune(tenant, r.ID, 0), s.reserve())
}

func sortKept(dumps []kept) {
	slices.SortStableFunc(dumps, func(a, b kept) int { return cmp.Or(a.at.Compare(b.at), cmp.Compare(a.id, b.id)) })
}

// weigh counts again what a dump of the shelf takes, and removes what there is no room for, never r.
func (s *Store) weigh(r *Record) error {
	k, err := s.weighed(r)
	if err != nil {
		return err
	}
	s.shelf.mu.Lock()
	defer s.shelf.mu.Unlock()
	dumps := s.shelf.dumps[r.Container.Tenant]
	if i := slices.IndexFunc(dumps, func(k kept) bool { return k.id == r.ID }); i >= 0 {
		dumps[i] = k
	}
	return s.prune(r.Container.Tenant, r.ID, 0)
}

// makeRoom removes a tenant's oldest dumps until the volume has free bytes, or none is left.
func (s *Store) makeRoom(tenant triton.Tenant, free uint64) error {
	s.shelf.mu.Lock()
	defer s.shelf.mu.Unlock()
	return s.prune(tenant, "", free)
}

// Prune removes what has become too old, and the files that no dump has any more. It is to be called now and then.
func (s *Store) Prune() error {
	var errs []error
	s.shelf.mu.Lock()
	for tenant := range s.shelf.dumps {
		errs = append(errs, s.prune(tenant, "", 0))
	}
	errs = append(errs, s.reserve())
	s.shelf.mu.Unlock()
	s.objects.dropped.Range(func(tenant, _ any) bool {
		errs = append(errs, s.tidy(tenant.(triton.Tenant)))
		return true
	})
	return errors.Join(errs...)
}

// prune applies Keep to a tenant's dumps, except spared, and removes more until the volume has free bytes. The caller holds shelf.mu.
func (s *Store) prune(tenant triton.Tenant, spared string, free uint64) error {
	dumps := s.shelf.dumps[tenant]
	var total uint64
	perPlace, users := map[string]int{}, map[string]int{}
	for _, k := range dumps {
		total += k.bytes
		perPlace[k.place]++
		for object, bytes := range k.objects {
			if users[object]++; users[object] == 1 {
				total += bytes
			}
		}
	}
	left, errs := len(dumps), []error(nil)
	s.shelf.dumps[tenant] = slices.DeleteFunc(dumps, func(k kept) bool {
		over := s.now().Sub(k.at) > s.bounds.Age || total > s.bounds.Bytes || left > s.bounds.Dumps ||
			k.place != "" && !(s.bounds.untilRead && k.unread) && perPlace[k.place] > s.bounds.PerPlace || free > 0 && s.free() < free
		if !over || k.id == spared {
			return false
		}
		if err := s.drop(tenant, k.id); err != nil {
			errs = append(errs, err)
			return false
		}
		total, left = total-k.bytes, left-1
		perPlace[k.place]--
		for object, bytes := range k.objects { // it goes with the last that names it
			if users[object]--; users[object] == 0 {
				total -= bytes
			}
		}
		return true
	})
	return errors.Join(errs...)
}

// left lists the dumps of all tenants of which something is left to do.
func (s *Store) left(match func(kept) bool) []waiting {
	s.shelf.mu.Lock()
	defer s.shelf.mu.Unlock()
	var out []waiting
	for tenant, dumps := range s.shelf.dumps {
		for _, k := range dumps {
			if match(k) {
				out = append(out, waiting{tenant, k.id})
			}
		}
	}
	return out
}

// forget takes a dump that was removed by hand from the shelf.
func (s *Store) forget(tenant triton.Tenant, id string) {
	s.shelf.mu.Lock()
	defer s.shelf.mu.Unlock()
	s.shelf.dumps[tenant] = slices.DeleteFunc(s.shelf.dumps[tenant], func(k kept) bool { return k.id == id })
}

// drop deletes a dump's files. The record goes first: what is left after a kill is no dump, and removed at the next start.
func (s *Store) drop(tenant triton.Tenant, id string) error {
	dir, err := s.path(tenant, id)
	if err != nil {
		return err
	}
	s.objects.dropped.Store(tenant, true)
	return errors.Join(durable.Remove(filepath.Join(dir, recordFile)), os.RemoveAll(dir))
}

// reserve makes the file whose room a crash on a full volume gets, while there is room for it.
func (s *Store) reserve() error {
	path := filepath.Join(s.dir, reserveFile)
	if _, err := os.Stat(path); err == nil || s.free() < s.minFree+reserveSize {
		return nil
	}
	f, err := writeFile(path)
	if err != nil {
		return fmt.Errorf("reserve of the dump store: %w", err)
	}
	err = unix.Fallocate(int(f.Fd()), 0, 0, reserveSize)
	if err = errors.Join(err, f.Close()); err != nil {
		return errors.Join(fmt.Errorf("reserve of the dump store: %w", err), durable.Remove(path))
	}
	return nil
}

// spare is what the volume can take of memory and files: the reserve is for records and mini cores, also where it is not
// made again yet.
func (s *Store) spare() uint64 {
	free := s.free()
	return free - min(free, s.owed())
}

// owed is what the reserve lacks.
func (s *Store) owed() uint64 {
	if _, err := os.Stat(filepath.Join(s.dir, reserveFile)); err != nil {
		return reserveSize
	}
	return 0
}

// insist calls write, and if the volume is full once more with the reserve's room, and then with that of the tenant's
// oldest dumps.
func (s *Store) insist(tenant triton.Tenant, write func() error) error {
	err := write()
	if !full(err) {
		return err
	}
	if gone := os.Remove(filepath.Join(s.dir, reserveFile)); gone == nil {
		if err = write(); !full(err) {
			return err
		}
	}
	if gone := s.makeRoom(tenant, max(s.minFree, reserveSize)); gone != nil {
		return errors.Join(err, gone)
	}
	return write()
}

// A dump's record is written twice, and the second time there is twice of it for a moment. Neither may meet a volume that
// the mini core has filled, so the room of both is set aside first.
const (
	roomFiles = 2
	roomSize  = 64 << 10 // what most records take
)

func roomFile(dir string, i int) string { return filepath.Join(dir, fmt.Sprintf("room%d", i)) }

// setAside takes the room of a dump's records from the volume; where that cannot be done ahead nothing is.
func setAside(dir string) error {
	for i := range roomFiles {
		f, err := os.OpenFile(roomFile(dir, i), os.O_WRONLY|os.O_CREATE, 0o600)
		if err != nil {
			return fmt.Errorf("room for a record: %w", err)
		}
		err = unix.Fallocate(int(f.Fd()), 0, 0, roomSize)
		if errors.Is(err, unix.EOPNOTSUPP) {
			err = nil
		}
		if err = errors.Join(err, f.Close()); err != nil {
			return fmt.Errorf("room for a record: %w", err)
		}
	}
	return nil
}

// giveBack gives so many of what is left of it back to the volume.
func giveBack(dir string, files int) error {
	for i := 0; i < roomFiles && files > 0; i++ {
		err := os.Remove(roomFile(dir, i))
		if err == nil {
			files--
		} else if !errors.Is(err, fs.ErrNotExist) {
			return fmt.Errorf("room for a record: %w", err)
		}
	}
	return nil
}

func full(err error) bool { return errors.Is(err, unix.ENOSPC) || errors.Is(err, unix.EDQUOT) }

// sizeOf is what a dump's files take on disk.
func sizeOf(dir string) uint64 {
	var n uint64
	entries, err := os.ReadDir(dir)
	if err != nil {
		return 0
	}
	for _, e := range entries {
		var st unix.Stat_t
		if unix.Lstat(filepath.Join(dir, e.Name()), &st) == nil {
			n += uint64(st.Blocks) * 512
		}
	}
	return n
}

// rate allows each place a number of whole dumps an hour: a program that crashes again and again teaches nothing new, and
// its restarts must not wait for its memory.
type rate struct {
	mu   sync.Mutex
	seen map[string][]time.Time
}

const (
	ratePeriod = time.Hour
	ratePlaces = 4096 // as many places are told apart
)

// allow counts a crash and reports whether there are not too many in the period.
func (a *rate) allow(place string, now time.Time, most int) bool {
	a.mu.Lock()
	defer a.mu.Unlock()
	if len(a.seen) >= ratePlaces {
		clear(a.seen)
	}
	times := slices.DeleteFunc(a.seen[place], func(t time.Time) bool { return now.Sub(t) > ratePeriod })
	if ok := len(times) < most; !ok {
		a.seen[place] = times
		return false
	}
	a.seen[place] = append(times, now)
	return true
}
