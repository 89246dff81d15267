package leases

import (
	"context"
	"fmt"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/keymeter/keymeter/internal/postgres"
)

// Each test here is a schedule in which one part of the protocol keeps a revoked right from being accepted.

func slow() times { return times{lease: time.Second, renew: 200 * time.Millisecond} }

func TestAckComesAfterForgetting(t *testing.T) {
	t.Parallel()
	w := newWorld(t, "a")
	r := w.newReplica(w.url, times{lease: 4 * time.Second, renew: 100 * time.Millisecond})
	forgetting, proceed := make(chan struct{}), make(chan struct{})
	remember := r.cfg.OnInvalidate
	r.cfg.OnInvalidate = func(target string) {
		close(forgetting)
		<-proceed
		remember(target)
	}
	r.start(t)
	eventually(t, r.Valid)
	r.remembers(t, "a")
	version, seq, err := w.change(t.Context(), "a")
	require.NoError(t, err)
	confirmed := make(chan error, 1)
	go func() { confirmed <- w.confirm(t.Context(), r.Holder, "a", version, seq) }()
	<-forgetting
	select {
	case err := <-confirmed:
		require.NoError(t, err)
		close(proceed)
		t.Fatal("confirmed although the entry is still there")
	case <-time.After(300 * time.Millisecond):
	}
	require.NoError(t, r.verify(t.Context(), "a"))
	close(proceed)
	require.NoError(t, <-confirmed)
}

// The answer to a renewal may be late: the lease counts from when it was sent.
func TestLeaseCountsFromSending(t *testing.T) {
	t.Parallel()
	w := newWorld(t, "a")
	p, url := newProxy(t, w.url)
	r := w.running(t, url, slow())
	r.remembers(t, "a")
	p.hold(true, down)
	var release func()
	eventually(t, func() (held bool) {
		var chunks int
		chunks, release = p.holding(down)
		return chunks > 0 // the answer to a renewal
	})
	answered := r.now()
	version, seq, err := w.change(t.Context(), "a")
	require.NoError(t, err)
	confirmed := make(chan error, 1)
	go func() { confirmed <- w.confirm(t.Context(), New(r.cfg), "a", version, seq) }()
	until(t, r.Holder, answered+slow().lease*7/10)
	release() // but not the notification after it
	require.NoError(t, <-confirmed)
	require.NoError(t, r.verify(t.Context(), "a"))
}

// While a replica registers, a revoke that does not see it yet must not leave anything in its memory.
func TestRegistrationMeetsRevoke(t *testing.T) {
	t.Parallel()
	w := newWorld(t, "a")
	r := w.newReplica(w.url, quick())
	r.afterReset = sync.OnceFunc(func() {
		assert.NoError(t, r.fill(t.Context(), "a", func() {}))
		ctx, cancel := context.WithTimeout(t.Context(), quick().lease/4) // it waits for us if it sees us
		defer cancel()
		if err := w.revoke(ctx, New(r.cfg), "a"); err != nil {
			assert.ErrorIs(t, err, context.DeadlineExceeded)
		}
	})
	r.start(t)
	eventually(t, r.Valid)
	require.NoError(t, r.verify(t.Context(), "a"))
	require.NoError(t, r.Wait(t.Context(), 1))
	w.mu.Lock()
	w.confirmed["a"] = 1
	w.mu.Unlock()
	eventually(t, r.Valid)
	require.NoError(t, r.verify(t.Context(), "a"))
}

func TestRegistrationMeetsRevokes_manyTimes(t *testing.T) {
	t.Parallel()
	w := newWorld(t, "a", "b", "c")
	revoker := New(Config{Pool: w.pool, LeaseTime: quick().lease})
	ctx, cancel := context.WithCancel(t.Context())
	var wg sync.WaitGroup
	for _, target := range []string{"a", "b", "c"} {
		wg.Go(func() {
			for ctx.Err() == nil {
				if err := w.revoke(ctx, revoker, target); err != nil && ctx.Err() == nil {
					t.Error(err)
				}
			}
		})
	}
	for range 100 {
		r := w.newReplica(w.url, quick())
		r.afterReset = func() { // as early as can be
			for _, target := range []string{"a", "b", "c"} {
				_ = r.fill(ctx, target, func() {})
			}
		}
		stop := r.start(t)
		eventually(t, func() bool {
			for _, target := range []string{"a", "b", "c"} {
				require.NoError(t, r.verify(t.Context(), target))
			}
			return r.hits.Load() > 10
		})
		stop()
	}
	cancel()
	wg.Wait()
	seq, err := Latest(t.Context(), w.pool)
	require.NoError(t, err)
	t.Logf("100 registrations during %d revokes", seq)
}

// silently takes a right away without a word to anybody, as if the notification were lost.
func (w *world) silently(t *testing.T, target string) (seq int64) {
	t.Helper()
	err := postgres.InTx(t.Context(), w.pool, func(tx postgres.Tx) error {
		if _, err := tx.Exec(t.Context(), "UPDATE rights SET version = version + 1 WHERE target = $1", target); err != nil {
			return err
		}
		return tx.QueryRow(t.Context(), "UPDATE invalidations SET seq = seq + 1 RETURNING seq").Scan(&seq)
	})
	require.NoError(t, err)
	return seq
}

func TestGap(t *testing.T) {
	t.Parallel()
	w := newWorld(t, "a", "b")
	r := w.running(t, w.url, times{lease: 10 * time.Second, renew: 3 * time.Second})
	r.remembers(t, "a")
	resets := r.resets.Load()
	lost := w.silently(t, "a")
	began := r.now()
	require.NoError(t, w.revoke(t.Context(), r.Holder, "b")) // shows the gap
	require.NoError(t, w.confirm(t.Context(), r.Holder, "a", 1, lost))
	require.Less(t, r.now()-began, 5*time.Second, "no lease had to end")
	require.NoError(t, r.verify(t.Context(), "a"))
	require.Equal(t, resets+1, r.resets.Load())
	_, err := w.pool.Exec(t.Context(), "NOTIFY keymeter_invalidations, 'not one of ours'")
	require.NoError(t, err)
	eventually(t, func() bool { return r.resets.Load() == resets+2 })
	require.NoError(t, w.revoke(t.Context(), r.Holder, "b"))
	require.Equal(t, resets+2, r.resets.Load(), "counts on from there")
}

// After a gap, too, what is filled while the number is read must not be older than it.
func TestGap_meetsRevoke(t *testing.T) {
	t.Parallel()
	w := newWorld(t, "a", "b")
	r := w.running(t, w.url, times{lease: 10 * time.Second, renew: 3 * time.Second})
	var version, seq int64
	r.afterReset = sync.OnceFunc(func() {
		assert.NoError(t, r.fill(t.Context(), "a", func() {}))
		var err error
		version, seq, err = w.change(t.Context(), "a")
		assert.NoError(t, err)
	})
	resets := r.resets.Load()
	w.silently(t, "b")
	require.NoError(t, w.revoke(t.Context(), r.Holder, "b"))
	require.Greater(t, r.resets.Load(), resets)
	require.NoError(t, w.confirm(t.Context(), r.Holder, "a", version, seq))
	require.NoError(t, r.verify(t.Context(), "a"))
}

// The last notification is lost, so that there is no gap to see.
func TestLostNotification(t *testing.T) {
	t.Parallel()
	w := newWorld(t, "a")
	r := w.running(t, w.url, times{lease: 10 * time.Second, renew: 200 * time.Millisecond})
	r.remembers(t, "a")
	began := r.now()
	require.NoError(t, w.confirm(t.Context(), r.Holder, "a", 1, w.silently(t, "a")))
	require.Less(t, r.now()-began, 5*time.Second, "a renewal has noticed")
	require.NoError(t, r.verify(t.Context(), "a"))
}

// A replica catches up just before its row is deleted. The lease that it could now claim would outlive the row, and
// the next revoke would not see it.
func TestLeaseNeedsItsRow(t *testing.T) {
	t.Parallel()
	w := newWorld(t, "a", "b")
	p, url := newProxy(t, w.url)
	lease := times{lease: time.Second, renew: 500 * time.Millisecond}
	r := w.running(t, url, lease)
	r.remembers(t, "b")
	revoker := New(r.cfg)

	last := r.until.Load()
	eventually(t, func() bool { return r.until.Load() > last }) // the next renewal is half a lease away
	p.hold(true, down)
	began := r.now()
	version, seq, err := w.change(t.Context(), "a")
	require.NoError(t, err)
	confirmed := make(chan error, 1)
	go func() { confirmed <- w.confirm(t.Context(), revoker, "a", version, seq) }()
	until(t, r.Holder, began+lease.lease*85/100)
	p.hold(true, up)
	_, release := p.holding(down)
	release() // the notification, and the answer to a renewal that was sent after the commit
	require.NoError(t, <-confirmed)
	require.Zero(t, w.rows(t))
	eventually(t, func() bool { _, ok := r.recall("a"); return !ok })

	require.NoError(t, w.revoke(t.Context(), revoker, "b"))
	require.NoError(t, r.verify(t.Context(), "b"))
}

// What a poll reads is an answer to those who waited before it. To others it may say that there are no replicas where
// there is one by now.
func TestPollIsOlderThanWait(t *testing.T) {
	t.Parallel()
	w := newWorld(t, "a", "b")
	p, url := newProxy(t, w.url)
	long := times{lease: 20 * time.Second, renew: 200 * time.Millisecond}
	revoker := New(Config{Pool: open(t, url), LeaseTime: long.lease})
	t.Cleanup(func() { p.hold(false, down) })
	require.NoError(t, w.revoke(t.Context(), revoker, "a")) // so that the pool is connected
	p.hold(true, down)
	first := make(chan error, 1)
	go func() { first <- revoker.Wait(t.Context(), 1) }()
	var release func()
	eventually(t, func() bool {
		var chunks int
		chunks, release = p.holding(down)
		return chunks > 0
	})

	r := w.newReplica(w.url, long)
	proceed := make(chan struct{})
	remember := r.cfg.OnInvalidate
	r.cfg.OnInvalidate = func(target string) {
		<-proceed
		remember(target)
	}
	r.start(t)
	eventually(t, r.Valid)
	r.remembers(t, "a")
	version, seq, err := w.change(t.Context(), "a")
	require.NoError(t, err)
	second := make(chan error, 1)
	go func() { second <- w.confirm(t.Context(), revoker, "a", version, seq) }()
	eventually(t, func() bool { return len(revoker.waits.snapshot()) == 2 })
	release()
	require.NoError(t, <-first)
	select {
	case err := <-second:
		require.NoError(t, err)
		close(proceed)
		t.Fatal("confirmed by an answer from before the replica was there")
	case <-time.After(200 * time.Millisecond):
	}
	require.NoError(t, r.verify(t.Context(), "a"))
	close(proceed)
	p.hold(false, down)
	require.NoError(t, <-second)
}

// Why Valid is called before memory is read and not after: a verify in the other order reads what is old, the replica
// catches up, and then it is told that it may use it.
func TestValidComesFirst(t *testing.T) {
	t.Parallel()
	w := newWorld(t, "a")
	p, url := newProxy(t, w.url)
	r := w.newReplica(url, quick())
	var late sync.Mutex // the holder is as late as the test wants
	r.cfg.OnReset = func() {
		late.Lock()
		defer late.Unlock()
		r.reset()
	}
	r.start(t)
	eventually(t, r.Valid)
	r.remembers(t, "a")
	late.Lock()
	p.hold(true, down)
	require.NoError(t, w.revoke(t.Context(), New(Config{Pool: w.pool, LeaseTime: quick().lease}), "a"))
	_, ok := r.recall("a")
	require.True(t, ok, "the old entry is still there")

	comeBack := sync.OnceFunc(func() {
		late.Unlock()
		p.hold(false, down)
		eventually(t, r.Valid)
	})
	r.midVerify = comeBack
	require.NoError(t, r.verify(t.Context(), "a"))
	comeBack()
	require.NoError(t, r.verify(t.Context(), "a"))
}

// What a lease stands on survives a crash of Postgres, also where commits by default do not.
func TestDurability(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	for name, test := range map[string]struct {
		do   func(tx postgres.Tx) error
		want string
	}{
		"register": {func(tx postgres.Tx) error { _, err := register(t.Context(), tx, "b", "x"); return err }, "on"},
		"renew":    {func(tx postgres.Tx) error { _, err := renew(t.Context(), tx, "a", 0); return err }, "on"},
		"ack":      {func(tx postgres.Tx) error { return ack(t.Context(), tx, "a", 0) }, "off"},
	} {
		for _, setting := range []string{"off", "on", "local"} {
			t.Run(fmt.Sprintf("%s where the default is %s", name, setting), func(t *testing.T) {
				tx, err := w.pool.Begin(t.Context())
				require.NoError(t, err)
				defer func() { _ = tx.Rollback(context.Background()) }()
				_, err = tx.Exec(t.Context(), "INSERT INTO replicas (id, acked) VALUES ('a', 0)")
				require.NoError(t, err)
				_, err = tx.Exec(t.Context(), "SET LOCAL synchronous_commit = "+setting)
				require.NoError(t, err)
				require.NoError(t, test.do(tx))
				var got string
				require.NoError(t, tx.QueryRow(t.Context(), "SHOW synchronous_commit").Scan(&got))
				want := test.want
				if want == "on" && setting != "off" {
					want = setting // the operator's choice
				}
				require.Equal(t, want, got)
			})
		}
	}
}
