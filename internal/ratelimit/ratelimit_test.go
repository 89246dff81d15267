package ratelimit

import (
	"context"
	"math/rand/v2"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/keymeter/keymeter/internal/postgres"
	"github.com/keymeter/keymeter/internal/testkit"
)

func TestMain(m *testing.M) { testkit.Main(m) }

// midWindow is 20 s into a minute.
func midWindow() time.Time { return time.Date(2026, 3, 21, 10, 30, 20, 123456789, time.UTC) }

// replica is a limiter with a pool of its own, whose queries are counted.
type replica struct {
	*Limiter
	pool    *pgxpool.Pool
	queries atomic.Int64
}

func (r *replica) TraceQueryStart(ctx context.Context, _ *pgx.Conn, _ pgx.TraceQueryStartData) context.Context {
	r.queries.Add(1)
	return ctx
}

func (r *replica) TraceQueryEnd(context.Context, *pgx.Conn, pgx.TraceQueryEndData) {}

func newReplica(tb testing.TB, url string, now func() time.Time) *replica {
	tb.Helper()
	r := &replica{}
	cfg, err := pgxpool.ParseConfig(url)
	require.NoError(tb, err)
	cfg.ConnConfig.Tracer, cfg.MaxConns = r, 4
	r.pool, err = pgxpool.NewWithConfig(context.Background(), cfg)
	require.NoError(tb, err)
	tb.Cleanup(r.pool.Close)
	r.Limiter = New(r.pool, now)
	return r
}

func newReplicas(tb testing.TB, n int, now func() time.Time) []*replica {
	tb.Helper()
	url := testkit.DatabaseURL(tb)
	replicas := make([]*replica, n)
	for i := range replicas {
		replicas[i] = newReplica(tb, url, now)
	}
	return replicas
}

func (r *replica) take(tb testing.TB, subject string, limit Limit) (Decision, Token) {
	tb.Helper()
	d, token, err := r.Take(context.Background(), subject, limit)
	require.NoError(tb, err)
	return d, token
}

// drain takes until it is refused, and returns how many calls were allowed.
func (r *replica) drain(tb testing.TB, subject string, limit Limit) (allowed int) {
	tb.Helper()
	for {
		d, token := r.take(tb, subject, limit)
		if !d.Allowed {
			require.Zero(tb, token)
			require.Zero(tb, d.Remaining)
			return allowed
		}
		allowed++
	}
}

func (r *replica) rows(tb testing.TB) (subjects []string) {
	tb.Helper()
	rows, err := r.pool.Query(context.Background(), "SELECT subject FROM rate_windows ORDER BY subject, starts_at")
	require.NoError(tb, err)
	subjects, err = pgx.CollectRows(rows, pgx.RowTo[string])
	require.NoError(tb, err)
	return subjects
}

// Whatever the number of replicas and callers, and while windows end under their hands, no window allows more than its
// limit, and in time all of it: callers go on until no replica holds a token.
func TestNeverOverTheLimit(t *testing.T) {
	t.Parallel()
	for name, limit := range map[string]Limit{
		"of 7 in 1 s": {Requests: 7, Window: time.Second}, "of 1013 in 10 s": {Requests: 1013, Window: 10 * time.Second},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			const windows, callers = 20, 32
			clock := testkit.NewClock(midWindow())
			var mu sync.Mutex
			allowed := map[int64]int32{} // by the window's start
			var running sync.WaitGroup
			ctx, stop := context.WithCancel(context.Background())
			for _, r := range newReplicas(t, 3, clock.Now) {
				for range callers {
					running.Go(func() {
						for ctx.Err() == nil {
							d, token, err := r.Take(context.Background(), "key_a", limit)
							switch {
							case !assert.NoError(t, err):
								return
							case d.Allowed && rand.IntN(10) == 0:
								r.Return(token)
							case d.Allowed:
								mu.Lock()
								allowed[token.window.start]++
								mu.Unlock()
							}
							time.Sleep(time.Duration(rand.IntN(200)) * time.Microsecond) // paces the load
						}
					})
				}
			}
			allowedIn := func(start time.Time) int32 {
				mu.Lock()
				defer mu.Unlock()
				return allowed[start.UnixNano()]
			}
			for i := range windows {
				start := clock.Now().Truncate(limit.Window)
				if i%2 == 0 { // else it ends in the midst of things
					assert.Eventually(t, func() bool { return allowedIn(start) == limit.Requests }, 20*time.Second, time.Millisecond,
						"no token is lost where one window follows another")
				}
				clock.Set(start.Add(limit.Window - time.Nanosecond))
				time.Sleep(time.Duration(rand.IntN(5)) * time.Millisecond) // load at the end of a window
				clock.Advance(time.Nanosecond)
				time.Sleep(time.Duration(rand.IntN(5)) * time.Millisecond) // load at the beginning of one
			}
			stop()
			running.Wait()
			for start, n := range allowed {
				require.LessOrEqual(t, n, limit.Requests, time.Unix(0, start))
			}
		})
	}
}

func TestUnusedTokensAreWithinTheBound(t *testing.T) {
	t.Parallel()
	replicas := newReplicas(t, 3, testkit.NewClock(midWindow()).Now)
	for _, requests := range []int32{1, 2, 19, 20, 39, 40, 100, 113, 1000, 12345} {
		limit, subject := Limit{Requests: requests, Window: time.Minute}, "acct_"+time.Duration(requests).String()
		allowed := 0
		for _, r := range replicas[:2] { // each takes a chunk and uses one token of it
			if d, _ := r.take(t, subject, limit); d.Allowed {
				allowed++
			}
		}
		allowed += replicas[2].drain(t, subject, limit)
		unused := int64(requests) - int64(allowed)
		require.LessOrEqual(t, unused, 2*limit.chunk())
		for _, r := range replicas {
			allowed += r.drain(t, subject, limit)
		}
		require.Equal(t, int(requests), allowed, "once all replicas are asked, nothing is unused")
	}
}

func TestTake(t *testing.T) {
	t.Parallel()
	clock := testkit.NewClock(midWindow())
	replicas := newReplicas(t, 2, clock.Now)
	a, b := replicas[0], replicas[1]
	limit := Limit{Requests: 100, Window: time.Minute}

	t.Run("it says what is left and when the window ends", func(t *testing.T) {
		d, _ := a.take(t, "key_says", limit)
		require.Equal(t, Decision{
			Allowed: true, Remaining: 4, Reset: 40*time.Second - 123456789*time.Nanosecond,
		}, d)
	})
	t.Run("a query for each chunk, and none for a refused call", func(t *testing.T) {
		queries := a.queries.Load()
		require.Equal(t, 100, a.drain(t, "key_queries", limit))
		require.Equal(t, int64(20), a.queries.Load()-queries)
		queries = b.queries.Load()
		for range 1000 {
			d, _ := b.take(t, "key_queries", limit)
			require.False(t, d.Allowed)
		}
		require.Equal(t, int64(1), b.queries.Load()-queries, "the one from which this replica learns it")
	})
	t.Run("subjects do not share", func(t *testing.T) {
		require.Equal(t, 100, a.drain(t, "key_x", limit))
		require.Equal(t, 100, a.drain(t, "key_y", limit))
	})
	t.Run("a returned token can be used again, once", func(t *testing.T) {
		_, token := a.take(t, "key_return", limit)
		require.Equal(t, 99, a.drain(t, "key_return", limit))
		queries := a.queries.Load()
		a.Return(token)
		require.Equal(t, 1, a.drain(t, "key_return", limit))
		require.Equal(t, queries, a.queries.Load())
		a.Return(Token{})
		require.Zero(t, a.drain(t, "key_return", limit))
	})
	t.Run("no limit at all", func(t *testing.T) {
		for _, l := range []Limit{
			{},
			{Requests: 1},
			{Window: time.Second},
			{Requests: -1, Window: time.Second},
			{Requests: 1, Window: 1500 * time.Millisecond},
			{Requests: 1, Window: 25 * time.Hour},
		} {
			_, _, err := a.Take(t.Context(), "key_none", l)
			require.Error(t, err)
		}
	})
	t.Run("the largest", func(t *testing.T) {
		d, _ := a.take(t, "key_large", Limit{Requests: 1_000_000_000, Window: 24 * time.Hour})
		require.Equal(t, int64(49_999_999), d.Remaining)
	})
}

func TestWindowsFollowOneAnother(t *testing.T) {
	t.Parallel()
	clock := testkit.NewClock(midWindow())
	r := newReplicas(t, 1, clock.Now)[0]
	limit := Limit{Requests: 30, Window: time.Minute}
	_, token := r.take(t, "key_a", limit)
	require.Equal(t, 29, r.drain(t, "key_a", limit))
	clock.Set(midWindow().Truncate(time.Minute).Add(time.Minute - 1))
	require.Zero(t, r.drain(t, "key_a", limit), "until the last instant")
	clock.Advance(1)
	r.Return(token)
	require.Equal(t, 30, r.drain(t, "key_a", limit), "a token of the window before is worth nothing")
	clock.Set(midWindow())
	require.Zero(t, r.drain(t, "key_a", limit), "a clock that goes back finds what was taken")
}

func TestLimitsChange(t *testing.T) {
	t.Parallel()
	replicas := newReplicas(t, 2, testkit.NewClock(midWindow()).Now)
	a, b := replicas[0], replicas[1]
	of := func(requests int32) Limit { return Limit{Requests: requests, Window: time.Minute} }
	takeN := func(r *replica, n int, subject string, limit Limit) (last Token) {
		for range n {
			d, token := r.take(t, subject, limit)
			require.True(t, d.Allowed)
			last = token
		}
		return last
	}
	t.Run("lowered below what was allowed", func(t *testing.T) {
		token := takeN(a, 61, "key_below", of(100))
		takeN(b, 1, "key_below", of(100))
		require.Zero(t, a.drain(t, "key_below", of(50)), "not even what it still had of a chunk")
		require.Zero(t, b.drain(t, "key_below", of(50)))
		a.Return(token)
		require.Zero(t, a.drain(t, "key_below", of(50)), "nor what it gets back")
	})
	t.Run("lowered above what was allowed", func(t *testing.T) {
		takeN(a, 10, "key_above", of(100))
		require.Equal(t, 40, a.drain(t, "key_above", of(50)))
	})
	t.Run("raised", func(t *testing.T) {
		require.Equal(t, 100, a.drain(t, "key_raised", of(100)))
		require.Zero(t, b.drain(t, "key_raised", of(100)))
		require.Equal(t, 100, b.drain(t, "key_raised", of(200)), "at once, also where it was exhausted")
		require.Zero(t, a.drain(t, "key_raised", of(200)))
	})
	t.Run("another length", func(t *testing.T) {
		require.Equal(t, 100, a.drain(t, "key_length", of(100)))
		require.Equal(t, 7, a.drain(t, "key_length", Limit{Requests: 7, Window: time.Hour}))
		require.Zero(t, a.drain(t, "key_length", of(100)))
	})
}

// Callers that find the chunk used up wait for one query, which does not end with the caller who started it.
func TestOneQueryForAll(t *testing.T) {
	t.Parallel()
	r := newReplicas(t, 1, testkit.NewClock(midWindow()).Now)[0]
	limit := Limit{Requests: 1000, Window: time.Minute}
	ctx := context.Background()
	tx, err := r.pool.Begin(ctx)
	require.NoError(t, err)
	_, err = tx.Exec(ctx, "INSERT INTO rate_windows VALUES ('key_a', $1, 1)", midWindow().Truncate(time.Minute))
	require.NoError(t, err)

	queries := r.queries.Load()
	first, cancel := context.WithCancel(ctx)
	gone := make(chan error)
	go func() {
		_, _, err := r.Take(first, "key_a", limit)
		gone <- err
	}()
	require.Eventually(t, func() bool { return r.queries.Load() == queries+1 }, 5*time.Second, time.Millisecond)
	var waiting sync.WaitGroup
	var allowed atomic.Int64
	for range 50 {
		waiting.Go(func() {
			if d, _, err := r.Take(ctx, "key_a", limit); assert.NoError(t, err) && d.Allowed {
				allowed.Add(1)
			}
		})
	}
	cancel()
	require.ErrorIs(t, <-gone, context.Canceled)
	d, _ := r.take(t, "key_b", limit)
	require.True(t, d.Allowed, "others do not wait")
	require.NoError(t, tx.Commit(ctx))
	waiting.Wait()
	require.Equal(t, int64(50), allowed.Load())
	require.Equal(t, queries+3, r.queries.Load(), "that of key_a, that of key_b and the commit")
}

func TestPostgresIsAway(t *testing.T) {
	t.Parallel()
	r := newReplicas(t, 1, testkit.NewClock(midWindow()).Now)[0]
	limit := Limit{Requests: 100, Window: time.Minute}
	ctx := context.Background()
	r.take(t, "key_a", limit)
	database := r.pool.Config().ConnConfig.Database
	cfg := r.pool.Config().ConnConfig.Copy()
	cfg.Database, cfg.Tracer = "postgres", nil
	admin, err := pgx.ConnectConfig(ctx, cfg)
	require.NoError(t, err)
	defer func() { _ = admin.Close(ctx) }()
	for _, sql := range []string{
		"ALTER DATABASE " + database + " ALLOW_CONNECTIONS false",
		"SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = '" + database + "'",
	} {
		_, err := admin.Exec(ctx, sql)
		require.NoError(t, err)
	}
	for range 4 {
		d, _ := r.take(t, "key_a", limit)
		require.True(t, d.Allowed, "the chunk in memory suffices")
	}
	_, _, err = r.Take(ctx, "key_a", limit)
	require.Error(t, err)
	require.True(t, postgres.Unavailable(err), err)
	require.Error(t, r.Sweep(ctx))
	_, err = admin.Exec(ctx, "ALTER DATABASE "+database+" ALLOW_CONNECTIONS true")
	require.NoError(t, err)
	require.Equal(t, 95, r.drain(t, "key_a", limit), "and it goes on")
}

func TestSweep(t *testing.T) {
	t.Parallel()
	clock := testkit.NewClock(midWindow())
	replicas := newReplicas(t, 2, clock.Now)
	a, b := replicas[0], replicas[1]
	minute, hour := Limit{Requests: 10, Window: time.Minute}, Limit{Requests: 10, Window: time.Hour}
	ctx := context.Background()
	remembered := func() (n int) {
		for i := range a.shards {
			n += len(a.shards[i].windows) + len(a.shards[i].ended)
		}
		return n
	}
	a.take(t, "key_minute", minute)
	b.take(t, "key_minute", minute)
	a.take(t, "key_hour", hour)
	a.take(t, "key_changed", hour)
	require.Equal(t, 9, a.drain(t, "key_changed", hour))
	a.take(t, "key_changed", minute)
	_, err := a.pool.Exec(ctx, "INSERT INTO rate_windows VALUES ('key_orphan', $1, 1), ('key_young', $2, 1)",
		midWindow().Add(-25*time.Hour), midWindow().Add(-23*time.Hour))
	require.NoError(t, err)

	require.NoError(t, a.Sweep(ctx))
	all := []string{"key_changed", "key_changed", "key_hour", "key_minute", "key_young"}
	require.Equal(t, all, a.rows(t), "only what is older than any window")

	clock.Set(midWindow().Truncate(time.Minute).Add(time.Minute + sweepMargin))
	a.take(t, "key_changed", minute)
	require.NoError(t, a.Sweep(ctx))
	require.Equal(t, append([]string{"key_changed"}, all...), a.rows(t), "clocks may be apart")

	clock.Advance(time.Second)
	require.NoError(t, a.Sweep(ctx))
	require.Equal(t, []string{"key_changed", "key_changed", "key_hour", "key_young"}, a.rows(t))
	require.Equal(t, 3, remembered(), "the windows that go on")
	require.Zero(t, a.drain(t, "key_changed", hour), "a window that was left early is kept until it ends")
	require.NoError(t, b.Sweep(ctx), "what another replica has deleted is no error")

	clock.Advance(2 * time.Hour)
	require.NoError(t, a.Sweep(ctx))
	require.Zero(t, remembered())
	require.Empty(t, a.rows(t))
}

func TestSweepsDoNotWaitForEachOther(t *testing.T) {
	t.Parallel()
	clock := testkit.NewClock(midWindow())
	replicas := newReplicas(t, 3, clock.Now)
	limit := Limit{Requests: 10, Window: time.Second}
	var running sync.WaitGroup
	for _, r := range replicas {
		running.Go(func() {
			for range 30 {
				for subject := range 20 {
					_, _, err := r.Take(context.Background(), "key_"+string(rune('a'+subject)), limit)
					assert.NoError(t, err)
				}
				assert.NoError(t, r.Sweep(context.Background()))
				clock.Advance(time.Second)
			}
		})
	}
	running.Wait()
	clock.Advance(time.Minute)
	for _, r := range replicas {
		require.NoError(t, r.Sweep(context.Background()))
	}
	require.Empty(t, replicas[0].rows(t))
}

func TestTakeFromMemoryDoesNotAllocate(t *testing.T) {
	limit := Limit{Requests: 1_000_000_000, Window: time.Hour}
	r := newReplicas(t, 1, testkit.NewClock(midWindow()).Now)[0]
	require.Zero(t, testing.AllocsPerRun(1000, func() {
		_, token, _ := r.Take(context.Background(), "key_a", limit)
		r.Return(token)
	}))
	exhausted := Limit{Requests: 1, Window: time.Hour}
	r.drain(t, "key_b", exhausted)
	require.Zero(t, testing.AllocsPerRun(1000, func() {
		_, _, _ = r.Take(context.Background(), "key_b", exhausted)
	}))
}
