package credits

import (
	"context"
	"fmt"
	"math/rand/v2"
	"sync"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/require"
	"golang.org/x/sync/errgroup"

	"github.com/keymeter/keymeter/internal/plans"
	"github.com/keymeter/keymeter/internal/testkit"
)

// Many record on the same accounts while plans change and periods end. What was acknowledged is there, once, and
// nothing else is.
func TestConcurrentSpending(t *testing.T) {
	t.Parallel()
	const writers, batches = 6, 25
	b := newBench(t, testkit.DB(t), defaultCatalogue(t), noon)
	ids := []string{b.newAccount(t), b.newAccount(t), b.newAccount(t)}

	acknowledged := acknowledgements{events: map[string]int64{}, firsts: map[string]int{}}
	var group errgroup.Group
	done := make(chan struct{})
	for writer := range writers {
		group.Go(func() error {
			random := rand.New(rand.NewPCG(uint64(writer), 1))
			for batch := range batches {
				events := make([]Event, 5)
				for i := range events {
					// Writers come in pairs that send the same events, as a caller does that retries in parallel.
					id := fmt.Sprintf("e-%d-%d-%d", writer/2, batch, i)
					events[i] = Event{
						ID: id, AccountID: ids[(batch+i)%len(ids)], Category: plans.RAG, Credits: ptr(int64(100 + 10*i + batch)),
					}
				}
				random.Shuffle(len(events), func(i, j int) { events[i], events[j] = events[j], events[i] })
				outcomes, err := b.record(t.Context(), events...)
				if err != nil {
					return err
				}
				acknowledged.add(events, outcomes)
			}
			return nil
		})
	}
	var changes errgroup.Group
	changes.Go(func() error { return changePlans(t, b, ids, done) })
	require.NoError(t, group.Wait())
	close(done)
	require.NoError(t, changes.Wait())

	recorded := map[string]int64{}
	rows, err := b.pool.Query(t.Context(), `SELECT account_id || ' ' || id, credits FROM usage_events`)
	require.NoError(t, err)
	var id string
	var credits int64
	_, err = pgx.ForEachRow(rows, []any{&id, &credits}, func() error { recorded[id] = credits; return nil })
	require.NoError(t, err)
	require.Equal(t, acknowledged.events, recorded)
	for id, n := range acknowledged.firsts {
		require.Equal(t, 1, n, "%s was acknowledged as new", id)
	}
	b.checkIdentities(t, ids...)
	var periods int
	require.NoError(t, b.pool.QueryRow(t.Context(), `SELECT count(*) FROM balances`).Scan(&periods))
	require.Greater(t, periods, 3*len(ids), "periods did roll meanwhile")
	t.Logf("%d events recorded, %d refused, over %d periods", len(recorded), acknowledged.refused, periods)
}

// changePlans goes through plans, by hand and from subscriptions, and lets half a month pass each time.
func changePlans(t *testing.T, b *bench, ids []string, done <-chan struct{}) error {
	const least = 24 // a year, however fast the writers are
	for i := 0; ; i++ {
		select {
		case <-done:
			if i >= least {
				return nil
			}
		default:
		}
		now := b.clock.Now()
		id := ids[i%len(ids)]
		tier, cycle := plans.Free, (*Cycle)(nil)
		switch i % 4 {
		case 0:
			tier = plans.Starter
		case 1, 2:
			start := now.Truncate(time.Second)
			tier, cycle = plans.Pro, &Cycle{Source: fmt.Sprintf("sub_%d", i), Anchor: start, Start: start}
		}
		if err := b.changePlan(t.Context(), id, tier, cycle); err != nil {
			return err
		}
		b.clock.Advance(15 * 24 * time.Hour)
		time.Sleep(5 * time.Millisecond) // paces the load: a batch needs a moment in which no period ends
	}
}

// acknowledgements is what writers were told.
type acknowledgements struct {
	mu      sync.Mutex
	events  map[string]int64 // by account and id, of those that are recorded
	firsts  map[string]int   // how often one was called new
	refused int
}

func (a *acknowledgements) add(events []Event, outcomes []Outcome) {
	a.mu.Lock()
	defer a.mu.Unlock()
	for i, o := range outcomes {
		key := events[i].AccountID + " " + events[i].ID
		switch {
		case o.Refusal != nil:
			a.refused++
		default:
			a.events[key] = o.Credits
			if !o.Duplicate {
				a.firsts[key]++
			}
		}
	}
}

// Whoever waits for a period whose plan is changed meanwhile spends under the new cap.
func TestSpendWaitsForAChangeOfPlan(t *testing.T) {
	t.Parallel()
	b := newBench(t, testkit.DB(t), defaultCatalogue(t), noon)
	id := b.newAccount(t)
	require.NoError(t, b.changePlan(t.Context(), id, plans.Starter, nil))
	b.spend(t, id, "before", 1000)
	b.clock.Advance(time.Hour)

	change, err := b.pool.Begin(t.Context())
	require.NoError(t, err)
	require.NoError(t, b.credits.ApplyTx(t.Context(), change, id, bought(b.catalogue.Plan(plans.Free), nil)))
	_, err = b.accounts.SetTierTx(t.Context(), change, id, plans.Free)
	require.NoError(t, err)

	spent := make(chan error, 1)
	var outcomes []Outcome
	go func() {
		var err error
		outcomes, err = b.record(t.Context(),
			Event{ID: "a", AccountID: id, Category: plans.RAG, Credits: ptr(int64(1000))},
			Event{ID: "b", AccountID: id, Category: plans.RAG, Credits: ptr(int64(501))},
			Event{ID: "c", AccountID: id, Category: plans.RAG, Credits: ptr(int64(500))})
		spent <- err
	}()
	testkit.AwaitLocked(t, b.pool, 1)
	require.NoError(t, change.Commit(t.Context()))
	require.NoError(t, <-spent)

	require.Nil(t, outcomes[0].Refusal)
	require.Equal(t, "credits_exhausted", outcomes[1].Refusal.Code)
	require.Nil(t, outcomes[2].Refusal)
	balance := b.current(t, id)
	require.Equal(t, int64(2500), balance.Used())
	require.True(t, capped(balance))
	b.checkIdentities(t, id)
}

// inParallel calls fn with the numbers below n, all at once.
func inParallel(t *testing.T, n int, fn func(ctx context.Context, n int) error) {
	t.Helper()
	var group errgroup.Group
	for i := range n {
		group.Go(func() error { return fn(t.Context(), i) })
	}
	require.NoError(t, group.Wait())
}

// Many that come to an account whose period is over open the next one once.
func TestConcurrentOpening(t *testing.T) {
	t.Parallel()
	b := newBench(t, testkit.DB(t), defaultCatalogue(t), noon)
	id := b.newAccount(t)
	for month := range 3 {
		var group errgroup.Group
		for i := range 8 {
			group.Go(func() error {
				if i%2 == 0 {
					_, err := b.credits.Current(t.Context(), id)
					return err
				}
				_, err := b.record(t.Context(), Event{
					ID: fmt.Sprint(month, i), AccountID: id, Category: plans.TTS, Credits: ptr(int64(10)),
				})
				return err
			})
		}
		require.NoError(t, group.Wait())
		require.Equal(t, int32(month), b.current(t, id).Period)
		require.Equal(t, int64(40), b.current(t, id).Used())
		b.clock.Set(b.current(t, id).EndsAt)
	}
	b.checkIdentities(t, id)
}
