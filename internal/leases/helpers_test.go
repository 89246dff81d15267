package leases

import (
	"context"
	"log/slog"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/keymeter/keymeter/internal/postgres"
	"github.com/keymeter/keymeter/internal/testkit"
)

const patience = 20 * time.Second

func TestMain(m *testing.M) { testkit.Main(m) }

// world is a database with rights in it. A right has a version; who takes it away counts the version up.
type world struct {
	url   string
	pool  *postgres.Pool
	reads *postgres.Pool // apart, so that reads don't queue behind changes that queue for each other

	mu        sync.Mutex
	confirmed map[string]int64 // versions whose Wait has returned: older ones must not be answered from memory
}

func newWorld(t *testing.T, targets ...string) *world {
	t.Helper()
	return worldAt(t, testkit.DatabaseURL(t), targets...)
}

func worldAt(t *testing.T, url string, targets ...string) *world {
	t.Helper()
	pool, reads := open(t, url), open(t, url)
	_, err := pool.Exec(t.Context(), "CREATE TABLE rights (target text PRIMARY KEY, version bigint NOT NULL)")
	require.NoError(t, err)
	_, err = pool.Exec(t.Context(), "INSERT INTO rights SELECT unnest($1::text[]), 0", targets)
	require.NoError(t, err)
	return &world{url: url, pool: pool, reads: reads, confirmed: map[string]int64{}}
}

func open(t *testing.T, url string) *postgres.Pool {
	t.Helper()
	pool, err := postgres.Open(t.Context(), url, 10)
	require.NoError(t, err)
	t.Cleanup(pool.Close)
	return pool
}

func (w *world) floor(target string) int64 {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.confirmed[target]
}

func (w *world) read(ctx context.Context, target string) (version int64, err error) {
	err = w.reads.QueryRow(ctx, "SELECT version FROM rights WHERE target = $1", target).Scan(&version)
	return version, err
}

// change counts a version up and commits. It says nothing to the replicas beyond what TakeTx does.
func (w *world) change(ctx context.Context, target string) (version, seq int64, err error) {
	err = postgres.InTx(ctx, w.pool, func(tx postgres.Tx) error {
		const sql = "UPDATE rights SET version = version + 1 WHERE target = $1 RETURNING version"
		if err := tx.QueryRow(ctx, sql, target).Scan(&version); err != nil {
			return err
		}
		seq, err = TakeTx(ctx, tx, target)
		return err
	})
	return version, seq, err
}

// confirm waits and then holds every replica to it.
func (w *world) confirm(ctx context.Context, h *Holder, target string, version, seq int64) error {
	if err := h.Wait(ctx, seq); err != nil {
		return err
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	w.confirmed[target] = max(w.confirmed[target], version)
	return nil
}

func (w *world) revoke(ctx context.Context, h *Holder, target string) error {
	version, seq, err := w.change(ctx, target)
	if err != nil {
		return err
	}
	return w.confirm(ctx, h, target, version, seq)
}

// replica is a holder with a memory, as a server has.
type replica struct {
	*Holder
	world  *world
	resets atomic.Int64

	// Called in OnInvalidate and OnReset, after these have forgotten, and in verify between its two looks.
	afterForget func(target string)
	afterReset  func()
	midVerify   func()

	mu         sync.Mutex
	entries    map[string]int64
	generation int64
	hits       atomic.Int64
	violations atomic.Int64
}

// times of a lease in tests.
type times struct{ lease, renew time.Duration }

func quick() times { return times{lease: 500 * time.Millisecond, renew: 125 * time.Millisecond} }

// newReplica does not start it.
func (w *world) newReplica(url string, lease times) *replica {
	r := &replica{
		world: w, entries: map[string]int64{},
		afterForget: func(string) {}, afterReset: func() {}, midVerify: func() {},
	}
	r.Holder = New(Config{
		DatabaseURL: url, Pool: w.pool, ID: "test", LeaseTime: lease.lease, RenewEvery: lease.renew,
		OnInvalidate: r.forget, OnReset: r.reset, Logger: slog.New(slog.DiscardHandler),
	})
	return r
}

// start runs the replica to the end of the test, or until stop is called.
func (r *replica) start(t *testing.T) (stop func()) {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() { ended <- r.Run(ctx) }()
	stop = sync.OnceFunc(func() {
		cancel()
		select {
		case err := <-ended:
			assert.NoError(t, err)
		case <-time.After(patience):
			t.Error("Run does not end")
		}
		assert.Zero(t, r.violations.Load(), "answered from memory by what was taken away")
	})
	t.Cleanup(stop)
	return stop
}

// running returns a replica that has its lease.
func (w *world) running(t *testing.T, url string, lease times) *replica {
	t.Helper()
	r := w.newReplica(url, lease)
	r.start(t)
	eventually(t, r.Valid)
	return r
}

// checkLocked is a verify that happens right now, of every entry.
func (r *replica) checkLocked() {
	for target, version := range r.entries {
		if floor := r.world.floor(target); version < floor && r.Valid() {
			r.violations.Add(1)
		}
	}
}

func (r *replica) forget(target string) {
	r.mu.Lock()
	r.checkLocked() // what is about to go is what would be wrong
	r.generation++
	delete(r.entries, target)
	r.mu.Unlock()
	r.afterForget(target)
}

func (r *replica) reset() {
	r.mu.Lock()
	r.checkLocked()
	r.generation++
	clear(r.entries)
	r.mu.Unlock()
	r.resets.Add(1)
	r.afterReset()
}

func (r *replica) recall(target string) (int64, bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	version, ok := r.entries[target]
	return version, ok
}

// fill reads a right into memory. between is called between the read and the store.
func (r *replica) fill(ctx context.Context, target string, between func()) error {
	r.mu.Lock()
	generation := r.generation
	r.mu.Unlock()
	version, err := r.world.read(ctx, target)
	if err != nil {
		return err
	}
	between()
	r.mu.Lock()
	defer r.mu.Unlock()
	if generation == r.generation {
		r.entries[target] = version
	}
	return nil
}

// verify is what a server does for a request: from memory if it may.
func (r *replica) verify(ctx context.Context, target string) error {
	floor := r.world.floor(target)
	if r.Valid() {
		r.midVerify()
		if version, ok := r.recall(target); ok {
			r.hits.Add(1)
			if version < floor {
				r.violations.Add(1)
			}
			return nil
		}
	}
	return r.fill(ctx, target, func() {})
}

// remembers fills memory with the current right.
func (r *replica) remembers(t *testing.T, target string) {
	t.Helper()
	eventually(t, func() bool { // an invalidation may be on its way, or Postgres
		err := r.fill(t.Context(), target, func() {})
		_, ok := r.recall(target)
		return err == nil && ok
	})
}

// eventually polls.
func eventually(t *testing.T, is func() bool) {
	t.Helper()
	within(t, patience, is)
}

func within(t *testing.T, limit time.Duration, is func() bool) {
	t.Helper()
	ticker := time.NewTicker(time.Millisecond)
	defer ticker.Stop()
	deadline := time.After(limit)
	for !is() {
		select {
		case <-ticker.C:
		case <-deadline:
			t.Fatal("did not happen within ", limit)
		}
	}
}

// until polls a clock.
func until(t *testing.T, h *Holder, at time.Duration) {
	t.Helper()
	eventually(t, func() bool { return h.now() >= at })
}

func (w *world) rows(t *testing.T) (n int) {
	t.Helper()
	require.NoError(t, w.pool.QueryRow(t.Context(), "SELECT count(*) FROM replicas").Scan(&n))
	return n
}
