package cluster

import (
	"context"
	"crypto/rand"
	"errors"
	"expvar"
	"fmt"
	"log/slog"
	"net/url"
	"os"
	"path/filepath"
	"sync"
	"time"

	"github.com/containerd/errdefs"
	clientv3 "go.etcd.io/etcd/client/v3"
	"go.etcd.io/etcd/server/v3/embed"
	"go.etcd.io/etcd/server/v3/etcdserver/api/v3client"
	"go.etcd.io/etcd/server/v3/storage/wal"
	"go.etcd.io/raft/v3"
	"go.etcd.io/raft/v3/raftpb"
	"golang.org/x/sys/unix"

	"github.com/tritond/triton/pkg/procfs"
)

// Config says where the agreed bytes are kept and how much they may take.
type Config struct {
	// Dir is the data directory; Open makes it. One process at a time may have it open.
	Dir string
	// Name is this member's name; "" is "node". It must not change over the life of Dir.
	Name string
	// MinFree is the floor, in bytes, of free space on Dir's file system: below it everything that adds is refused with
	// ErrResourceExhausted, while deletes go on. 0: no floor but the reserve that keeps etcd alive on a full disk.
	MinFree uint64
	// MaxSize bounds the database in bytes; 0: 256 MiB. Beyond it additions are refused as below MinFree.
	MaxSize int64
	// NoFsync leaves writes in the page cache: they survive a kill -9, not a power cut. For tests.
	NoFsync bool
	// Log receives what etcd says, from Debug up; nil: nothing is logged.
	Log *slog.Logger

	// history is how many revisions a watcher may lag behind before they are compacted; 0: defaultHistory.
	history int64
	// upkeep is how often compaction is considered; 0: defaultUpkeep.
	upkeep time.Duration
}

const (
	// defaultMaxSize holds about 50,000 container records of 2 KiB with their recent history.
	defaultMaxSize = 256 << 20
	// defaultHistory is far more than a reconnecting watcher misses, and about 10 MiB of container records.
	defaultHistory = 5000
	defaultUpkeep  = 30 * time.Second

	// segmentSize is what etcd allocates ahead for its log, twice. Its default of 64 MB would have a fresh daemon take
	// 128 MB of disk; a record is at most maxValue, so a segment of 8 MiB is ample.
	segmentSize = 8 << 20

	// tickMs is etcd's default heartbeat. Shorter ones cost a lone member 0.01 % of a core per wake-up and bring nothing.
	tickMs     = 100
	electionMs = 5 * tickMs // the least that etcd allows

	// startTimeout bounds Open: reading a full log back takes well under a second, but etcd waits forever for a log that
	// does not belong to its database.
	startTimeout = 30 * time.Second

	// closeTimeout bounds Close: a member alone stops within milliseconds, one whose disk hangs never.
	closeTimeout = 5 * time.Second
)

// Cluster is the open store. Its methods may be called from any goroutine.
type Cluster struct {
	cfg    Config
	log    *slog.Logger
	lock   *os.File
	etcd   *embed.Etcd
	client *clientv3.Client
	space  *space
	death  *death

	stop     context.CancelFunc // ends upkeep
	upkeep   sync.WaitGroup
	kick     chan struct{} // asks upkeep to look now
	closing  sync.Once
	closeErr error
}

// Open starts etcd on cfg.Dir and returns when it serves. A directory that another process has open is
// ErrFailedPrecondition; one that cannot be read back is ErrDataLoss and is left as it is.
func Open(ctx context.Context, cfg Config) (*Cluster, error) {
	cfg = cfg.withDefaults()
	if cfg.Dir == "" {
		return nil, fmt.Errorf("open cluster store: no directory given: %w", errdefs.ErrInvalidArgument)
	}
	if err := os.MkdirAll(cfg.Dir, 0o700); err != nil {
		return nil, fmt.Errorf("open cluster store: %w", err)
	}
	lock, err := lockDir(cfg.Dir)
	if err != nil {
		return nil, err
	}
	c := &Cluster{cfg: cfg, log: cfg.Log, lock: lock, death: newDeath(), kick: make(chan struct{}, 1)}
	c.space = newSpace(cfg.Dir, cfg.MinFree)
	if err := c.start(ctx); err != nil {
		lock.Close()
		return nil, fmt.Errorf("open cluster store %s: %w", cfg.Dir, err)
	}
	run, stop := context.WithCancel(context.Background())
	c.stop = stop
	c.upkeep.Go(func() { c.keepUp(run) })
	return c, nil
}

// start checks what lies in the directory, starts etcd and waits until it serves.
func (c *Cluster) start(ctx context.Context) error {
	used, err := checkData(c.cfg.Dir)
	if err != nil {
		return err
	}
	setSegmentSize()
	ctx, cancel := context.WithTimeout(ctx, startTimeout)
	defer cancel()
	type result struct {
		etcd *embed.Etcd
		err  error
	}
	started := make(chan result, 1)
	go func() { // ends by itself: with etcd up, with an error, or by death's Goexit
		defer func() {
			if r := recover(); r != nil { // etcd 3.7.3 dereferences nil on a log it cannot read
				started <- result{err: fmt.Errorf("etcd cannot start on its data (%v): %w", r, errdefs.ErrDataLoss)}
			}
		}()
		etcd, err := embed.StartEtcd(c.etcdConfig())
		started <- result{etcd, err}
	}()
	select {
	case r := <-started:
		if r.err != nil && used && !isSpace(r.err) {
			return fmt.Errorf("its log cannot be read back: %w: %w", r.err, errdefs.ErrDataLoss)
		}
		if r.err != nil {
			return r.err
		}
		c.etcd = r.etcd
	case <-c.death.done:
		return c.death.whileOpening()
	}
	if err := c.elect(ctx); err != nil {
		return err
	}
	c.client = v3client.New(c.etcd.Server)
	if err := c.space.keepReserve(c.etcd.Server.Backend().Size()); err != nil {
		c.log.Warn("no reserve for deletes on a full disk", "dir", c.cfg.Dir, "err", err)
	}
	// etcd has bbolt map its file with MAP_POPULATE: all of it is resident, 16 MiB at least, whatever is read.
	if err := procfs.LetGo(databasePath(c.cfg.Dir)); err != nil {
		c.log.Warn("the store stays in memory as a whole", "err", err)
	}
	return nil
}

// elect waits until the member leads itself and serves. Alone it may call the election at once, by the message with
// which a leader hands over; etcd would wait for one to five ticks, up to half a second.
func (c *Cluster) elect(ctx context.Context) error {
	server := c.etcd.Server
	self := uint64(server.MemberID())
	callNow := &raftpb.Message{Type: raftpb.MsgTimeoutNow.Enum(), From: &self, To: &self}
	retry := time.NewTicker(2 * time.Millisecond)
	defer retry.Stop()
	for {
		select {
		case <-server.ReadyNotify():
			return nil
		case <-retry.C:
			if !electable(self) {
				continue
			}
			if err := server.Process(ctx, callNow); err != nil && ctx.Err() == nil {
				c.log.Debug("call an election", "err", err) // the ticks will
			}
		case <-c.death.done:
			return c.death.whileOpening()
		case <-ctx.Done():
			return errors.Join(fmt.Errorf("wait until etcd serves: %w", ctx.Err()), c.stopEtcd())
		}
	}
}

// electable reports whether member has applied what its log had committed. Before that, an election makes raft look for
// entries which etcd may already have dropped from memory, and raft ends the process (raft.go, hasUnappliedConfChanges).
// etcd shows raft's state in one place only, which in a process with several stores is that of the last one opened: the
// others wait for their ticks.
func electable(member uint64) bool {
	status, ok := expvar.Get("raft.status").(expvar.Func)
	if !ok {
		return false
	}
	st, ok := status().(raft.Status)
	return ok && st.ID == member && st.Applied > 0 && st.Applied == st.GetCommit()
}

// etcdConfig is a single member without listeners. Its peer address is a name only: nobody dials it.
func (c *Cluster) etcdConfig() *embed.Config {
	peer := url.URL{Scheme: "http", Host: "127.0.0.1:2380"}
	cfg := embed.NewConfig()
	cfg.Dir = c.cfg.Dir
	cfg.Name = c.cfg.Name
	cfg.ListenPeerUrls, cfg.ListenClientUrls = nil, nil
	cfg.AdvertisePeerUrls, cfg.AdvertiseClientUrls = []url.URL{peer}, nil
	cfg.InitialClusterToken = rand.Text() // makes the member's id its own; read at the first start only
	cfg.InitialCluster = c.cfg.Name + "=" + peer.String()
	cfg.TickMs, cfg.ElectionMs = tickMs, electionMs
	cfg.QuotaBackendBytes = c.cfg.MaxSize
	cfg.UnsafeNoFsync = c.cfg.NoFsync
	cfg.MaxRequestBytes = maxRequest
	cfg.AutoCompactionRetention = "0" // upkeep compacts
	cfg.ZapLoggerBuilder = embed.NewZapLoggerBuilder(newZap(c.log, c.death))
	return cfg
}

// Close stops etcd and waits for it, at most about five seconds. It may be called more than once.
func (c *Cluster) Close() error {
	c.closing.Do(func() {
		c.stop()
		c.upkeep.Wait()
		c.client.Close() // always "context canceled": it has no connection
		c.closeErr = c.stopEtcd()
		c.lock.Close() // a leftover etcd still holds its own lock on the database
	})
	return c.closeErr
}

// stopEtcd is bounded, because an etcd that lost a goroutine or its disk may never finish.
func (c *Cluster) stopEtcd() error {
	done := make(chan struct{})
	go func() { // outlives stopEtcd only where etcd hangs, which the error says
		defer close(done)
		c.etcd.Close()
	}()
	select {
	case <-done:
		return nil
	case <-time.After(closeTimeout):
		return fmt.Errorf("etcd did not stop within %s: %w", closeTimeout, errdefs.ErrUnavailable)
	}
}

// Failed is closed when etcd can no longer work, such as after an I/O error of its disk. From then on every call
// answers ErrUnavailable with the reason; only a new process recovers.
func (c *Cluster) Failed() <-chan struct{} { return c.death.done }

func (cfg Config) withDefaults() Config {
	if cfg.Name == "" {
		cfg.Name = "node"
	}
	if cfg.MaxSize == 0 {
		cfg.MaxSize = defaultMaxSize
	}
	if cfg.Log == nil {
		cfg.Log = slog.New(slog.DiscardHandler)
	}
	if cfg.history == 0 {
		cfg.history = defaultHistory
	}
	if cfg.upkeep == 0 {
		cfg.upkeep = defaultUpkeep
	}
	return cfg
}

// lockDir makes sure that one process works on dir: etcd itself would wait without end.
func lockDir(dir string) (*os.File, error) {
	f, err := os.OpenFile(filepath.Join(dir, "lock"), os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return nil, fmt.Errorf("open cluster store: %w", err)
	}
	if err := unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB); err != nil {
		f.Close()
		return nil, fmt.Errorf("open cluster store %s: another daemon has it open: %w", dir, errdefs.ErrFailedPrecondition)
	}
	return f, nil
}

// segmentOnce guards etcd's package variable against two stores that open at the same time.
var segmentOnce sync.Once

func setSegmentSize() { segmentOnce.Do(func() { wal.SegmentSizeBytes = segmentSize }) }

// databasePath is where etcd keeps its bbolt file.
func databasePath(dir string) string { return filepath.Join(dir, "member", "snap", "db") }
