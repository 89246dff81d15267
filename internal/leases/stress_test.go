package leases

import (
	"context"
	"fmt"
	"math/rand/v2"
	"net/url"
	"os"
	"strconv"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/keymeter/keymeter/internal/devpostgres"
	"github.com/keymeter/keymeter/internal/postgres"
)

const stressLease = 250 * time.Millisecond

// stress is replicas under traffic, revokes and misfortune.
type stress struct {
	world    *world
	replicas []*replica
	proxies  []*proxy
	targets  []string
	revoker  *Holder // has no memory
	revokes  atomic.Int64
	killed   atomic.Int64
}

// TestStress: whatever happens to connections, after Wait nothing that starts later is answered by old memory.
// KEYMETER_STRESS sets its length, such as 10m.
func TestStress(t *testing.T) {
	t.Parallel()
	length := 8 * time.Second
	if v := os.Getenv("KEYMETER_STRESS"); v != "" {
		var err error
		length, err = time.ParseDuration(v)
		require.NoError(t, err)
	}
	s := newStress(t, 4, 100, times{lease: stressLease, renew: stressLease / 5})
	ctx, cancel := context.WithTimeout(t.Context(), length)
	defer cancel()
	var wg sync.WaitGroup
	for _, r := range s.replicas {
		for range 4 {
			wg.Go(func() { s.read(ctx, t, r) })
		}
	}
	for i := range 150 {
		wg.Go(func() { s.revoke(ctx, t, i) })
	}
	for _, p := range s.proxies {
		wg.Go(func() { s.disturb(ctx, p) })
	}
	wg.Go(func() { s.kill(ctx, t) })
	wg.Wait()
	s.report(t)
}

func newStress(t *testing.T, replicas, targets int, lease times) *stress {
	t.Helper()
	s := &stress{}
	for i := range targets {
		s.targets = append(s.targets, "t"+strconv.Itoa(i))
	}
	s.world = newWorld(t, s.targets...)
	s.revoker = New(Config{Pool: s.world.pool, LeaseTime: lease.lease})
	for range replicas {
		p, url := newProxy(t, s.world.url)
		s.proxies = append(s.proxies, p)
		r := s.world.newReplica(url, lease)
		// Forgetting takes its time now and then, as where a process is short of CPU.
		r.afterForget = func(string) { pause(context.Background(), rand.N(200*time.Microsecond)) }
		r.afterReset = func() { pause(context.Background(), rand.N(2*time.Millisecond)) }
		r.midVerify = func() {
			if rand.N(30) == 0 { // a goroutine may be stopped anywhere for any time
				pause(context.Background(), rand.N(2*lease.lease))
			}
		}
		r.start(t)
		s.replicas = append(s.replicas, r)
	}
	return s
}

func pause(ctx context.Context, d time.Duration) {
	select {
	case <-ctx.Done():
	case <-time.After(d):
	}
}

func (s *stress) read(ctx context.Context, t *testing.T, r *replica) {
	t.Helper()
	for ctx.Err() == nil {
		target := s.targets[rand.N(len(s.targets))]
		var err error
		if rand.N(50) == 0 { // a read from the database that takes long
			err = r.fill(ctx, target, func() { pause(ctx, rand.N(20*time.Millisecond)) })
		} else {
			err = r.verify(ctx, target)
		}
		if err != nil && ctx.Err() == nil {
			t.Error(err)
		}
		pause(ctx, rand.N(2*time.Millisecond)) // leaves some CPU to the others
	}
}

func (s *stress) revoke(ctx context.Context, t *testing.T, i int) {
	t.Helper()
	waiters := []*Holder{s.revoker, s.replicas[i%len(s.replicas)].Holder}
	for ctx.Err() == nil {
		target := s.targets[rand.N(len(s.targets))]
		if err := s.world.revoke(ctx, waiters[rand.N(2)], target); err == nil {
			s.revokes.Add(1)
		} else if ctx.Err() == nil {
			t.Error(err)
		}
		pause(ctx, rand.N(20*time.Millisecond))
	}
}

// disturb holds and cuts what goes through a proxy.
func (s *stress) disturb(ctx context.Context, p *proxy) {
	const lease = stressLease
	for ctx.Err() == nil {
		pause(ctx, rand.N(10*lease))
		switch rand.N(4) {
		case 0:
			p.hold(true, up, down)
		case 1:
			p.hold(true, down)
		case 2:
			p.hold(true, up)
		default:
			p.cut()
		}
		pause(ctx, rand.N(2*lease))
		if rand.N(2) == 0 { // part of it comes through
			_, release := p.holding(down)
			release()
			pause(ctx, rand.N(lease))
		}
		p.hold(false, up, down)
	}
}

func (s *stress) kill(ctx context.Context, t *testing.T) {
	t.Helper()
	const sql = `SELECT count(pg_terminate_backend(pid)) FROM (SELECT pid FROM pg_stat_activity
		WHERE datname = current_database() AND application_name LIKE 'keymeter lease%' ORDER BY random() LIMIT 1) AS one`
	for ctx.Err() == nil {
		pause(ctx, rand.N(300*time.Millisecond))
		var n int64
		if err := s.world.pool.QueryRow(ctx, sql).Scan(&n); err != nil && ctx.Err() == nil {
			t.Error(err)
		}
		s.killed.Add(n)
	}
}

func (s *stress) report(t *testing.T) {
	t.Helper()
	var hits, resets, violations int64
	for _, r := range s.replicas {
		hits, resets, violations = hits+r.hits.Load(), resets+r.resets.Load(), violations+r.violations.Load()
		require.NotZero(t, r.hits.Load(), "the test tests nothing")
	}
	t.Logf("%d revokes, %d answers from memory, %d resets, %d backends terminated, %d violations",
		s.revokes.Load(), hits, resets, s.killed.Load(), violations)
	require.Zero(t, violations)
	require.Greater(t, s.revokes.Load(), int64(100))
}

// TestPostgresCrash kills Postgres and starts it again.
func TestPostgresCrash(t *testing.T) {
	t.Parallel()
	dir, err := os.MkdirTemp("", "keymeter-leases-") //nolint:usetesting // its folder is closed to others, such as Postgres's user
	require.NoError(t, err)
	require.NoError(t, os.Chmod(dir, 0o711)) // root runs Postgres as somebody else
	t.Cleanup(func() { require.NoError(t, devpostgres.Remove(context.Background(), dir)) })
	options := devpostgres.Options{Dir: dir, Durable: true, BinDir: os.Getenv("KEYMETER_PG_BIN")}
	server, err := devpostgres.Start(t.Context(), options)
	require.NoError(t, err)
	t.Cleanup(func() { _ = server.Stop(context.Background()) })
	at, err := url.Parse(server.URL("postgres"))
	require.NoError(t, err)
	options.Port, err = strconv.Atoi(at.Port())
	require.NoError(t, err)
	migrated, err := postgres.Open(t.Context(), at.String(), 2)
	require.NoError(t, err)
	require.NoError(t, postgres.Migrate(t.Context(), migrated))
	migrated.Close()

	w := worldAt(t, at.String(), "a", "b")
	replicas := []*replica{w.running(t, at.String(), quick()), w.running(t, at.String(), quick())}
	for round := range 2 {
		for _, r := range replicas {
			eventually(t, r.Valid)
			r.remembers(t, "a")
		}
		require.NoError(t, w.revoke(t.Context(), replicas[0].Holder, "b"))
		version, seq, err := w.change(t.Context(), "a")
		require.NoError(t, err)
		kill, cancel := context.WithCancel(t.Context())
		cancel()
		require.ErrorIs(t, server.Stop(kill), context.Canceled)
		require.NoError(t, w.confirm(t.Context(), replicas[1].Holder, "a", version, seq), "does not depend on Postgres")
		for _, r := range replicas {
			require.False(t, r.Valid(), fmt.Sprint("round ", round))
		}
		server, err = devpostgres.Start(t.Context(), options)
		require.NoError(t, err)
	}
}
