package credits

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"sync"
	"testing"
	"time"

	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/stretchr/testify/require"

	"github.com/keymeter/keymeter/internal/plans"
	"github.com/keymeter/keymeter/internal/postgres"
	"github.com/keymeter/keymeter/internal/testkit"
)

// terminate kills connections to the pool's database, whatever they are doing.
func terminate(ctx context.Context, pool *pgxpool.Pool) error {
	_, err := pool.Exec(ctx, `SELECT pg_terminate_backend(pid) FROM (
		SELECT pid FROM pg_stat_activity WHERE datname = current_database() AND pid <> pg_backend_pid()
		  AND backend_type = 'client backend' AND application_name = 'keymeter' ORDER BY random() LIMIT 2) p`)
	return err
}

// tally is what callers were told: how often an event of theirs was acknowledged as new, and what it cost.
type tally struct {
	mu      sync.Mutex
	firsts  map[string]int
	charged map[string]int64
	failed  int
}

// Callers on three replicas spend from one capped account and from a key with a limit. Contexts end, connections are
// killed, and whoever does not know what became of an event sends it again, perhaps to another replica.
func TestSpend_chaos(t *testing.T) {
	t.Parallel()
	const callers, eventsEach = 64, 30
	url := testkit.DatabaseURL(t)
	clock := testkit.NewClock(theStart())
	var replicas []*fixture
	for range 3 {
		pool, err := postgres.Open(t.Context(), url, 4)
		require.NoError(t, err)
		t.Cleanup(pool.Close)
		replicas = append(replicas, fixtureOn(t, pool, clock))
	}
	f := replicas[0]
	f.account("acct_a", plans.Free)
	f.key("key_1", "acct_a", "key_1", pointer[int64](900))
	f.current("acct_a")

	told := tally{firsts: map[string]int{}, charged: map[string]int64{}}
	var group, killer sync.WaitGroup
	done := make(chan struct{})
	killer.Go(func() { kill(t, url, done) })
	for caller := range callers {
		group.Go(func() {
			random := rand.New(rand.NewPCG(uint64(caller), 7))
			for i := range eventsEach {
				// Callers come in pairs that send the same events.
				e := event(fmt.Sprintf("e%d_%d", caller/2, i), "acct_a", int64(1+i%5))
				if i%3 == 0 {
					e.AccountID, e.KeyID = "", "key_1"
				}
				insist(t, replicas, random, &told, e)
			}
		})
	}
	group.Wait()
	close(done)
	killer.Wait()

	f.pool.Reset() // of connections that were killed
	f.audit(t)
	stored := map[string]int64{}
	rows, err := f.pool.Query(t.Context(), "SELECT id, credits FROM usage_events")
	require.NoError(t, err)
	for rows.Next() {
		var id string
		var credits int64
		require.NoError(t, rows.Scan(&id, &credits))
		stored[id] = credits
	}
	require.NoError(t, rows.Err())
	require.Equal(t, stored, told.charged, "what was acknowledged is in the ledger, and nothing else is")
	for id, n := range told.firsts {
		require.LessOrEqual(t, n, 1, id)
	}
	b := f.current("acct_a")
	require.EqualValues(t, 2500, b.Used(), "the cap is used to the last credit and not passed")
	var keyUsed int64
	require.NoError(t, f.pool.QueryRow(t.Context(), "SELECT used FROM key_budgets").Scan(&keyUsed))
	require.LessOrEqual(t, keyUsed, int64(900))
	require.Positive(t, told.failed, "nothing was in the way")
	t.Logf("%d events, %d attempts failed", len(stored), told.failed)
}

// kill kills connections until done.
func kill(t *testing.T, url string, done <-chan struct{}) {
	pool, err := pgxpool.New(context.Background(), url)
	if err != nil {
		t.Error(err)
		return
	}
	defer pool.Close()
	for {
		select {
		case <-done:
			return
		case <-time.After(15 * time.Millisecond):
			if err := terminate(context.Background(), pool); err != nil {
				t.Error(err)
			}
		}
	}
}

// insist sends an event until it is known what became of it.
func insist(t *testing.T, replicas []*fixture, random *rand.Rand, told *tally, e Event) {
	for {
		ctx, cancel := context.WithCancel(context.Background())
		if random.IntN(4) == 0 {
			ctx, cancel = context.WithTimeout(ctx, time.Duration(random.IntN(3000))*time.Microsecond)
		}
		outcomes, err := replicas[random.IntN(len(replicas))].Spend(ctx, []Event{e})
		cancel()
		told.mu.Lock()
		if err != nil {
			told.failed++
			told.mu.Unlock()
			if !errors.Is(err, context.DeadlineExceeded) && !postgres.Unavailable(err) {
				t.Error(err)
			}
			continue
		}
		switch o := outcomes[0]; {
		case o.Refusal == nil:
			told.charged[e.ID] = o.Credits
			if !o.Duplicate {
				told.firsts[e.ID]++
			}
		case o.Refusal.Code != "credits_exhausted" && o.Refusal.Code != "key_limit_exceeded":
			t.Error(o.Refusal)
		}
		told.mu.Unlock()
		return
	}
}
