// Package leases lets servers answer from memory without ever answering by what was taken back.
//
// A server (a replica) may answer from memory while its Holder is Valid. Who takes rights away calls TakeTx in the
// transaction that does so and, after the commit, Wait: when that returns nil, nothing that starts later is answered by
// what was true before, on any replica. docs/decisions/0010-leases.md has the protocol and why it holds.
//
// What it asks of the memory:
//
//   - Call Valid first, then read the entry. The other way round a replica that comes back from a pause can read an old
//     entry, catch up, get a lease, and only then be asked whether it has one.
//   - Store what was read from the database only if OnInvalidate and OnReset were not called since before the read
//     was sent, else a slow read puts back what was just forgotten. The same goes for joining another's read.
//   - Read from the primary.
package leases

import (
	"context"
	"crypto/rand"
	"errors"
	"log/slog"
	"strings"
	"sync/atomic"
	"time"

	"github.com/keymeter/keymeter/internal/postgres"
)

const (
	defaultLeaseTime  = 2 * time.Second
	defaultRenewEvery = 500 * time.Millisecond
)

// errDeclaredDead: our row is gone, because somebody waited for us in vain.
var errDeclaredDead = errors.New("declared dead: did not acknowledge an invalidation in time")

// Config configures a Holder.
type Config struct {
	DatabaseURL string         // for a connection of its own; not through a pooler that shares connections
	Pool        *postgres.Pool // for Wait
	ID          string         // names the replica to people; rows get a unique id that starts with it

	// LeaseTime is 2 s if 0. It must be the same on all replicas of a database.
	LeaseTime time.Duration
	// RenewEvery is 500 ms if 0.
	RenewEvery time.Duration

	// OnInvalidate must have forgotten the target when it returns, OnReset everything. Nil if there is no memory.
	OnInvalidate func(target string)
	OnReset      func()
	Logger       *slog.Logger // nil discards
}

// Holder holds this replica's lease and waits for those of others.
type Holder struct {
	cfg   Config
	self  string       // what the ids of all our registrations start with
	base  time.Time    // times are durations since then, on the monotonic clock
	until atomic.Int64 // nanoseconds; the lease's end
	waits waits
}

// New returns a holder without a lease: Run gets it. Wait needs no Run.
func New(cfg Config) *Holder {
	if cfg.LeaseTime == 0 {
		cfg.LeaseTime = defaultLeaseTime
	}
	if cfg.RenewEvery == 0 {
		cfg.RenewEvery = defaultRenewEvery
	}
	if cfg.OnInvalidate == nil {
		cfg.OnInvalidate = func(string) {}
	}
	if cfg.OnReset == nil {
		cfg.OnReset = func() {}
	}
	if cfg.Logger == nil {
		cfg.Logger = slog.New(slog.DiscardHandler)
	}
	return &Holder{
		cfg: cfg, base: time.Now(), waits: waits{open: map[*wait]struct{}{}},
		// A process that was started anew must not be taken for the one before, which may only be paused.
		self: cfg.ID + "/" + strings.ToLower(rand.Text()) + "/",
	}
}

// Valid reports whether the replica may answer from memory by an entry that it reads after this call.
func (h *Holder) Valid() bool {
	until := h.until.Load() // before the clock is read, so that a pause in between counts against the lease
	return int64(h.now()) < until
}

// now is the time since New. It does not follow the wall clock.
func (h *Holder) now() time.Duration { return time.Since(h.base) }

// extend grants the lease up to LeaseTime after a renewal was sent. Only the goroutine of Run calls it.
func (h *Holder) extend(sent time.Duration) {
	h.until.Store(max(h.until.Load(), int64(sent+h.cfg.LeaseTime)))
}

func (h *Holder) lapse() { h.until.Store(0) }

// TakeTx counts an invalidation in the transaction that takes rights away and returns its number, for Wait after the
// commit. Invalidations wait here for each other's commit: make it the transaction's last statement.
func TakeTx(ctx context.Context, tx postgres.Tx, target string) (int64, error) {
	return take(ctx, tx, target)
}

// Latest returns the number of the newest committed invalidation, to Wait for all that there were.
func Latest(ctx context.Context, pool *postgres.Pool) (int64, error) { return latest(ctx, pool) }
