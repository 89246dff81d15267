package credits

import (
	"context"
	"fmt"
	"math/rand/v2"
	"os"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/stretchr/testify/require"

	"github.com/keymeter/keymeter/internal/devpostgres"
	"github.com/keymeter/keymeter/internal/plans"
	"github.com/keymeter/keymeter/internal/postgres"
)

// durable is a fixture whose commits wait for the disk, which those of testkit do not.
func durable(b *testing.B) *fixture {
	b.Helper()
	dir, err := os.MkdirTemp("", "keymeter-bench-") //nolint:usetesting // Postgres, another user, must get there
	require.NoError(b, err)
	require.NoError(b, os.Chmod(dir, 0o711))
	server, err := devpostgres.Start(b.Context(), devpostgres.Options{Dir: dir, Durable: true})
	require.NoError(b, err)
	pool, err := postgres.Open(b.Context(), server.URL("postgres"), 8)
	require.NoError(b, err)
	b.Cleanup(func() {
		pool.Close()
		ctx := context.Background()
		require.NoError(b, server.Stop(ctx))
		require.NoError(b, devpostgres.Remove(ctx, dir))
	})
	require.NoError(b, postgres.Migrate(b.Context(), pool))
	return startFixture(b, pool, time.Now)
}

func (f *fixture) manyAccounts(n int) []string {
	f.exec(`INSERT INTO accounts (id, name, tier, created_at)
		SELECT 'acct_' || i, 'a', 'scale', '2026-03-10T12:00Z' FROM generate_series(0, $1 - 1) i`, n)
	f.exec(`INSERT INTO api_keys (id, account_id, hash, pepper_version, prefix, name, created_at, family)
		SELECT 'key_' || i, 'acct_' || i, ('key_' || i)::bytea, 1, 'p', 'n', '2026-03-10T12:00Z', 'key_' || i
		FROM generate_series(0, $1 - 1) i`, n)
	ids := eventIDs("acct_", n)
	for _, id := range ids {
		f.current(id)
	}
	return ids
}

// parallel calls fn with the numbers up to n from many goroutines.
func parallel(callers int, n int64, fn func(n int64)) {
	var next atomic.Int64
	var group sync.WaitGroup
	for range callers {
		group.Go(func() {
			for i := next.Add(1); i <= n; i = next.Add(1) {
				fn(i)
			}
		})
	}
	group.Wait()
}

func verified(id string, account int, credits *int64) Event {
	return Event{
		ID: id, AccountID: fmt.Sprintf("acct_%d", account), KeyID: fmt.Sprintf("key_%d", account), Resolved: true,
		Family: fmt.Sprintf("key_%d", account), Category: plans.TTS, Credits: credits,
	}
}

// BenchmarkSpend is single events, as from a verify, each answered once it is durable.
func BenchmarkSpend(b *testing.B) {
	for _, c := range []struct {
		name              string
		accounts, callers int
	}{
		{"accounts=10000/callers=64", 10_000, 64}, {"accounts=1/callers=256", 1, 256}, {"accounts=1/callers=1", 1, 1},
	} {
		b.Run(c.name, func(b *testing.B) {
			f := durable(b)
			f.manyAccounts(c.accounts)
			credits := int64(1)
			run := rand.Uint64()
			b.ResetTimer()
			parallel(c.callers, int64(b.N), func(n int64) {
				id := fmt.Sprintf("req_%016x_%d", run, n)
				outcomes, err := f.Spend(context.Background(), []Event{verified(id, rand.IntN(c.accounts), &credits)})
				if err != nil || outcomes[0].Refusal != nil {
					b.Error(err, outcomes)
				}
			})
			b.StopTimer()
			b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "events/s")
		})
	}
}

const benchBatch = 1000

// BenchmarkSpendBatch is batches of 1,000 events of one account. What Postgres can do is told beside it: COPY of the same
// rows into a table with the same unique index and nothing else. The two take turns, since machines have moods.
func BenchmarkSpendBatch(b *testing.B) {
	const turn = 20
	for _, callers := range []int{1, 2, 4} {
		b.Run(fmt.Sprintf("callers=%d", callers), func(b *testing.B) {
			f := durable(b)
			f.manyAccounts(1)
			f.exec("CREATE TABLE copied (LIKE usage_events)")
			f.exec("ALTER TABLE copied ADD PRIMARY KEY (account_id, id)")
			var spending, copying time.Duration
			b.ResetTimer()
			for i := int64(0); i < int64(b.N); i += turn {
				n := min(turn, int64(b.N)-i)
				start := time.Now()
				parallel(callers, n, func(n int64) { f.spendBatch(b, i+n) })
				spending += time.Since(start)
				start = time.Now()
				parallel(callers, n, func(n int64) { copyBatch(b, f.pool, i+n) })
				copying += time.Since(start)
			}
			b.StopTimer()
			events := float64(b.N) * benchBatch
			b.ReportMetric(events/spending.Seconds(), "events/s")
			b.ReportMetric(events/copying.Seconds(), "copied/s")
			b.ReportMetric(copying.Seconds()/spending.Seconds(), "of-COPY")
		})
	}
}

func (f *fixture) spendBatch(b *testing.B, n int64) {
	credits := int64(1)
	events := make([]Event, benchBatch)
	for i := range events {
		events[i] = verified(benchID(n, i), 0, &credits)
	}
	outcomes, err := f.Spend(context.Background(), events)
	if err != nil || outcomes[0].Refusal != nil {
		b.Error(err)
	}
}

// benchID is an id as UUIDs make them: random.
func benchID(n int64, i int) string {
	x := uint64(n)*benchBatch + uint64(i)
	x *= 0x9e3779b97f4a7c15
	return fmt.Sprintf("%016x-%016x", x, x^0x5555)
}

func copyBatch(b *testing.B, pool *pgxpool.Pool, n int64) {
	print := make([]byte, 16)
	now := time.Now()
	_, err := pool.CopyFrom(context.Background(), pgx.Identifier{"copied"},
		[]string{
			"account_id", "id", "period", "key_id", "category", "provider", "quantity", "output_quantity", "byok",
			"credits", "occurred_at", "recorded_at", "fingerprint", "late", "reverses", "uncollected",
		},
		pgx.CopyFromSlice(benchBatch, func(i int) ([]any, error) {
			return []any{
				"acct_0", benchID(n, i), 0, "key_0", "tts", nil, nil, nil, false, 1, now, now, print, false, nil, 0,
			}, nil
		}))
	if err != nil {
		b.Error(err)
	}
}
