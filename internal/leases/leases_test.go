package leases

import (
	"context"
	"fmt"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/keymeter/keymeter/internal/postgres"
)

func TestWait(t *testing.T) {
	t.Parallel()
	w := newWorld(t, "a", "b")
	var all []*replica
	for range 3 {
		r := w.running(t, w.url, times{})
		r.remembers(t, "a")
		r.remembers(t, "b")
		all = append(all, r)
	}
	require.NoError(t, w.revoke(t.Context(), all[0].Holder, "a"))
	for _, r := range all {
		_, ok := r.recall("a")
		require.False(t, ok, "the target is forgotten")
		_, ok = r.recall("b")
		require.True(t, ok, "and nothing else")
		require.True(t, r.Valid(), "the lease goes on")
	}
	latest, err := Latest(t.Context(), w.pool)
	require.NoError(t, err)
	require.Equal(t, int64(1), latest)
}

func TestWait_withoutReplicas(t *testing.T) {
	t.Parallel()
	w := newWorld(t, "a")
	h := New(Config{Pool: w.pool})
	began := time.Now()
	require.NoError(t, w.revoke(t.Context(), h, "a"))
	require.Less(t, time.Since(began), time.Second)
	require.False(t, h.Valid(), "nobody runs it")
}

// Hundreds of revokes a second, on three replicas. Not parallel: it measures.
func TestWait_latency(t *testing.T) {
	w := newWorld(t, "a")
	var all []*replica
	for range 3 {
		all = append(all, w.running(t, w.url, times{}))
	}
	const revokes, each = 600, 4 * time.Millisecond
	took := make([]time.Duration, revokes)
	ticker := time.NewTicker(each)
	defer ticker.Stop()
	var wg sync.WaitGroup
	began := time.Now()
	for i := range revokes {
		<-ticker.C
		wg.Go(func() {
			_, seq, err := w.change(t.Context(), "a")
			if err != nil {
				t.Error(err)
				return
			}
			began := time.Now()
			if err := all[i%3].Wait(t.Context(), seq); err != nil {
				t.Error(err)
			}
			took[i] = time.Since(began)
		})
	}
	wg.Wait()
	rate := revokes / time.Since(began).Seconds()
	slices.Sort(took)
	t.Logf("Wait at %.0f/s: p50 %v, p99 %v, max %v", rate, took[revokes/2], took[revokes*99/100], took[revokes-1])
	require.Less(t, took[revokes/2], 250*time.Millisecond, "some ms on a machine with nothing else to do")
	require.Less(t, took[revokes*99/100], defaultLeaseTime/2, "nobody had to wait for a lease")
}

func TestWait_thousandAtOnce(t *testing.T) {
	t.Parallel()
	w := newWorld(t, "a")
	var all []*replica
	for range 3 {
		all = append(all, w.running(t, w.url, times{}))
	}
	var wg sync.WaitGroup
	began := time.Now()
	for i := range 1000 {
		wg.Go(func() {
			if err := w.revoke(t.Context(), all[i%3].Holder, "a"); err != nil {
				t.Error(err)
			}
		})
	}
	wg.Wait()
	t.Logf("1000 revokes at once took %v", time.Since(began))
	for _, r := range all {
		eventually(t, func() bool { return len(r.waits.snapshot()) == 0 })
	}
	version, err := w.read(t.Context(), "a")
	require.NoError(t, err)
	require.Equal(t, version, w.floor("a"))
}

// A read that is older than the revoke must not be put into memory after it.
func TestReadFill(t *testing.T) {
	t.Parallel()
	w := newWorld(t, "a")
	r := w.running(t, w.url, times{})
	require.NoError(t, r.fill(t.Context(), "a", func() {
		require.NoError(t, w.revoke(t.Context(), r.Holder, "a"))
	}))
	require.NoError(t, r.verify(t.Context(), "a"))
}

func TestConnectionTerminated(t *testing.T) {
	t.Parallel()
	w := newWorld(t, "a")
	r := w.running(t, w.url, times{lease: time.Minute, renew: time.Second}) // it could be valid for long
	r.remembers(t, "a")
	resets := r.resets.Load()
	_, err := w.pool.Exec(t.Context(),
		"SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = current_database() AND application_name LIKE 'keymeter lease%'")
	require.NoError(t, err)
	within(t, 5*time.Second, func() bool { return r.resets.Load() > resets })
	eventually(t, r.Valid)
	require.GreaterOrEqual(t, r.resets.Load(), resets+2, "emptied when it was lost and when it was registered anew")
	_, ok := r.recall("a")
	require.False(t, ok)
	require.Equal(t, 1, w.rows(t), "the row of the lost registration is gone")
}

func TestConnectionLost_dropsTheLeaseAtOnce(t *testing.T) {
	t.Parallel()
	w := newWorld(t, "a")
	p, url := newProxy(t, w.url)
	r := w.running(t, url, times{lease: time.Minute, renew: time.Second})
	p.hold(true, up, down) // for the connections that follow
	p.cut()
	p.hold(false, down)
	within(t, 5*time.Second, func() bool { return !r.Valid() })
	p.hold(false, up)
	eventually(t, r.Valid)
}

func TestCutOffSilently(t *testing.T) {
	t.Parallel()
	w := newWorld(t, "a")
	p, url := newProxy(t, w.url)
	lease := quick()
	r := w.running(t, url, lease)
	other := w.running(t, w.url, lease)
	r.remembers(t, "a")
	resets := r.resets.Load()

	p.hold(true, up, down)
	began := r.now()
	require.NoError(t, w.revoke(t.Context(), other.Holder, "a"))
	require.False(t, r.Valid())
	require.LessOrEqual(t, r.now()-began, lease.lease*3/2, "LeaseTime and the margin, and what the test takes")
	require.Equal(t, 1, w.rows(t), "who did not answer is taken for dead")

	began = r.now()
	require.NoError(t, w.revoke(t.Context(), other.Holder, "a"))
	require.Less(t, r.now()-began, lease.lease/2, "and costs one slow revoke, not each")

	p.hold(false, up, down)
	eventually(t, r.Valid)
	require.Greater(t, r.resets.Load(), resets)
	require.NoError(t, r.verify(t.Context(), "a"))
	require.Equal(t, 2, w.rows(t))
}

// Nobody revokes anything, so nobody declares it dead.
func TestCutOffSilently_endsAfterLeaseTime(t *testing.T) {
	t.Parallel()
	w := newWorld(t, "a")
	p, url := newProxy(t, w.url)
	r := w.running(t, url, quick())
	p.hold(true, down)
	held := r.now()
	eventually(t, func() bool { return !r.Valid() })
	require.LessOrEqual(t, r.now()-held, quick().lease*3/2)
	resets := r.resets.Load()
	eventually(t, func() bool { return r.resets.Load() > resets }) // the hanging statement has ended
	require.LessOrEqual(t, r.now()-held, 2*quick().lease+quick().renew+closeTimeout)
	p.hold(false, down)
	eventually(t, r.Valid)
}

func TestDeadReplica(t *testing.T) {
	t.Parallel()
	w := newWorld(t, "a")
	h := New(Config{Pool: w.pool, LeaseTime: quick().lease})
	_, err := w.pool.Exec(t.Context(), "INSERT INTO replicas (id, acked) VALUES ('killed', 0)")
	require.NoError(t, err)
	began := h.now()
	require.NoError(t, w.revoke(t.Context(), h, "a"))
	require.GreaterOrEqual(t, h.now()-began, quick().lease)
	require.Zero(t, w.rows(t))
}

func TestWait_cancelled(t *testing.T) {
	t.Parallel()
	w := newWorld(t, "a")
	h := New(Config{Pool: w.pool, LeaseTime: quick().lease})
	_, err := w.pool.Exec(t.Context(), "INSERT INTO replicas (id, acked) VALUES ('killed', 0)")
	require.NoError(t, err)
	_, seq, err := w.change(t.Context(), "a")
	require.NoError(t, err)
	ctx, cancel := context.WithTimeout(t.Context(), quick().lease/10)
	defer cancel()
	require.ErrorIs(t, h.Wait(ctx, seq), context.DeadlineExceeded)
	eventually(t, func() bool { return w.rows(t) == 0 }) // else impatient callers would wait in vain again and again
}

// A number that was not committed is a mistake of the caller. It must not end the leases of others.
func TestWait_ofWhatIsNotCommitted(t *testing.T) {
	t.Parallel()
	w := newWorld(t, "a")
	r := w.running(t, w.url, quick())
	require.NoError(t, New(Config{Pool: w.pool, LeaseTime: quick().lease}).Wait(t.Context(), 1000))
	require.Equal(t, 1, w.rows(t))
	require.True(t, r.Valid())
	require.Equal(t, int64(1), r.resets.Load())
}

func TestWait_withoutPostgres(t *testing.T) {
	t.Parallel()
	w := newWorld(t, "a")
	p, url := newProxy(t, w.url)
	pool, err := postgres.Open(t.Context(), url, 2)
	require.NoError(t, err)
	t.Cleanup(pool.Close)
	h := New(Config{Pool: pool, LeaseTime: quick().lease})
	_, seq, err := w.change(t.Context(), "a")
	require.NoError(t, err)
	p.hold(true, up, down)
	t.Cleanup(func() { p.hold(false, up, down) }) // before the pool is closed
	began := h.now()
	require.NoError(t, h.Wait(t.Context(), seq))
	require.GreaterOrEqual(t, h.now()-began, quick().lease)
	require.Less(t, h.now()-began, 2*quick().lease)
}

func TestRun_stop(t *testing.T) {
	t.Parallel()
	w := newWorld(t, "a")
	r := w.newReplica(w.url, times{lease: time.Minute, renew: time.Second})
	stop := r.start(t)
	eventually(t, r.Valid)
	stop()
	require.False(t, r.Valid())
	require.Zero(t, w.rows(t))
}

func TestRun_badURL(t *testing.T) {
	t.Parallel()
	require.Error(t, New(Config{DatabaseURL: "postgres://%"}).Run(t.Context()))
}

func TestTakeTx(t *testing.T) {
	t.Parallel()
	w := newWorld(t, "a", "with a space")
	r := w.running(t, w.url, times{})
	r.remembers(t, "a")
	r.remembers(t, "with a space")
	cancelled := fmt.Errorf("cancelled")
	var seq int64
	take := func(end error) error {
		return postgres.InTx(t.Context(), w.pool, func(tx postgres.Tx) (err error) {
			for _, target := range []string{"a", "with a space"} {
				if seq, err = TakeTx(t.Context(), tx, target); err != nil {
					return err
				}
			}
			return end
		})
	}
	require.ErrorIs(t, take(cancelled), cancelled)
	require.NoError(t, take(nil))
	require.Equal(t, int64(2), seq, "what is rolled back leaves no gap")
	require.NoError(t, r.Wait(t.Context(), seq))
	_, ok := r.recall("a")
	require.False(t, ok)
	_, ok = r.recall("with a space")
	require.False(t, ok)
	require.Equal(t, int64(1), r.resets.Load())
}

// Renewals are not kept waiting by notifications, however many there are.
func TestFlood(t *testing.T) {
	t.Parallel()
	w := newWorld(t, "a")
	r := w.running(t, w.url, times{lease: time.Second, renew: 100 * time.Millisecond})
	ctx, cancel := context.WithTimeout(t.Context(), 3*time.Second)
	defer cancel()
	var wg sync.WaitGroup
	for range 4 {
		wg.Go(func() {
			for ctx.Err() == nil {
				_ = postgres.InTx(ctx, w.pool, func(tx postgres.Tx) error {
					_, err := TakeTx(ctx, tx, "a")
					return err
				})
			}
		})
	}
	var valid, looks int
	ticker := time.NewTicker(5 * time.Millisecond)
	defer ticker.Stop()
	for ctx.Err() == nil {
		<-ticker.C
		looks++
		if r.Valid() {
			valid++
		}
	}
	wg.Wait()
	seq, err := Latest(t.Context(), w.pool)
	require.NoError(t, err)
	t.Logf("%d invalidations a second; the lease was valid %d times of %d", seq/3, valid, looks)
	require.Greater(t, valid, looks*9/10)
	require.NoError(t, r.Wait(t.Context(), seq))
}

func BenchmarkValid(b *testing.B) {
	h := New(Config{})
	h.extend(h.now() + time.Hour)
	b.RunParallel(func(pb *testing.PB) {
		for pb.Next() {
			if !h.Valid() {
				b.Error("not valid")
			}
		}
	})
}
