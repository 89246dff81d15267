package credits

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/keymeter/keymeter/internal/fault"
	"github.com/keymeter/keymeter/internal/plans"
	"github.com/keymeter/keymeter/internal/postgres"
	"github.com/keymeter/keymeter/internal/testkit"
)

func wantCode(tb testing.TB, code string, refusal *fault.Error) {
	tb.Helper()
	require.NotNil(tb, refusal)
	require.Equal(tb, code, refusal.Code)
}

func wantFault(tb testing.TB, code string, err error) {
	tb.Helper()
	var refusal *fault.Error
	require.ErrorAs(tb, err, &refusal)
	require.Equal(tb, code, refusal.Code)
}

func TestSpend(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	f.account("acct_a", plans.Free)
	f.key("key_a", "acct_a", "key_a", nil)

	outcomes := f.spend(event("e1", "acct_a", 100), keyEvent("e2", "key_a", 11))
	require.Equal(t, []Outcome{{Credits: 100, Remaining: 2400}, {Credits: 11, Remaining: 2389}}, outcomes)
	b := f.current("acct_a")
	require.Equal(t, []int64{100, 11, 111, 2, 2389}, []int64{b.TTS, b.LLM, b.Used(), b.Requests, b.Remaining()})

	outcomes = f.spend(event("e1", "acct_a", 100), event("e2", "acct_a", 11), event("e1", "acct_a", 101))
	require.Equal(t, Outcome{Credits: 100, Remaining: 2389, Duplicate: true}, outcomes[0])
	wantCode(t, "event_conflict", outcomes[1].Refusal)
	wantCode(t, "event_conflict", outcomes[2].Refusal)
	f.audit(t)
}

func TestSpend_sameEventTwiceInABatch(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	f.account("acct_a", plans.Free)
	outcomes := f.spend(event("e", "acct_a", 1), event("e", "acct_a", 1), event("e", "acct_a", 2))
	require.False(t, outcomes[0].Duplicate)
	require.True(t, outcomes[1].Duplicate)
	wantCode(t, "event_conflict", outcomes[2].Refusal)
	require.EqualValues(t, 1, f.current("acct_a").Used())
	f.audit(t)
}

func TestSpend_hardCap(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	f.account("acct_a", plans.Free)
	outcomes := f.spend(
		event("big", "acct_a", 2501), event("most", "acct_a", 2499), event("two", "acct_a", 2),
		event("one", "acct_a", 1), event("none", "acct_a", 0), Event{ID: "byok", AccountID: "acct_a", Category: "stt", BYOK: true},
	)
	wantCode(t, "credits_exhausted", outcomes[0].Refusal)
	require.EqualValues(t, 2500, outcomes[0].Remaining)
	require.Nil(t, outcomes[1].Refusal)
	wantCode(t, "credits_exhausted", outcomes[2].Refusal)
	for _, o := range outcomes[3:] {
		require.Nil(t, o.Refusal)
		require.EqualValues(t, 0, o.Remaining)
	}
	require.EqualValues(t, 4, f.current("acct_a").Requests, "what is refused leaves no trace")
	f.audit(t)
}

func TestSpend_withoutCap(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	f.account("acct_a", plans.Starter)
	outcomes := f.spend(event("a", "acct_a", 60_000), event("b", "acct_a", 1))
	require.Equal(t, []Outcome{{Credits: 60_000}, {Credits: 1}}, outcomes)

	huge := int64(maxTotal)
	outcomes = f.spend(Event{ID: "c", AccountID: "acct_a", Category: plans.TTS, Credits: &huge})
	wantCode(t, "credits_exhausted", outcomes[0].Refusal)
	f.audit(t)
}

func TestSpend_price(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	f.account("acct_a", plans.Starter)
	quantity, output := int64(1200), int64(10)
	now := f.clock.Now()
	priced := Event{ID: "e", AccountID: "acct_a", Category: plans.TTS, Provider: "cartesia", Quantity: &quantity}
	require.EqualValues(t, 94, f.spend(priced)[0].Credits)

	for field, change := range map[string]func(e *Event){
		"credits":        func(e *Event) { e.Credits = &output },
		"quantity":       func(e *Event) { e.Quantity, e.Provider = nil, "" },
		"outputQuantity": func(e *Event) { e.Output = &output },
		"provider":       func(e *Event) { e.Provider = "nobody" },
		"occurredAt":     func(e *Event) { e.OccurredAt = pointer(now.Add(leeway + 1)) },
		"accountId":      func(e *Event) { e.KeyID = "key_a" },
	} {
		e := priced
		e.ID = "bad"
		change(&e)
		wantField(t, f.spend(e)[0].Refusal, field)
	}
	old := priced
	old.ID, old.OccurredAt = "old", pointer(now.Add(-MaxAge-1))
	wantField(t, f.spend(old)[0].Refusal, "occurredAt")
	f.audit(t)
}

func TestSpend_nobodysEvents(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	f.account("acct_a", plans.Free)
	outcomes := f.spend(
		event("e1", "acct_none", 1), event("e2", "acct_a", 1), keyEvent("e3", "key_none", 1),
		Event{ID: "e4", Category: plans.RAG, Credits: pointer[int64](1)}, event("e5", "acct_nobody", 1),
	)
	wantCode(t, "account_not_found", outcomes[0].Refusal)
	require.Nil(t, outcomes[1].Refusal)
	wantCode(t, "key_not_found", outcomes[2].Refusal)
	wantField(t, outcomes[3].Refusal, "accountId")
	wantCode(t, "account_not_found", outcomes[4].Refusal)
	f.audit(t)
}

func TestSpend_acrossWorkers(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	var events []Event
	for i, id := range eventIDs("acct_", 40) {
		f.account(id, plans.Free)
		events = append(events, event("a", id, int64(i)), event("b", id, 2500))
	}
	for i, o := range f.spend(events...) {
		switch {
		case i == 1:
			require.Nil(t, o.Refusal)
		case i%2 == 1:
			wantCode(t, "credits_exhausted", o.Refusal)
		default:
			require.Equal(t, Outcome{Credits: int64(i / 2), Remaining: 2500 - int64(i/2)}, o)
		}
	}
	f.audit(t)
}

func TestSpend_keyLimit(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	f.account("acct_a", plans.Free)
	f.key("key_1", "acct_a", "key_1", pointer[int64](100))
	f.key("key_2", "acct_a", "key_1", pointer[int64](100)) // its successor
	f.key("key_3", "acct_a", "key_3", nil)

	outcomes := f.spend(keyEvent("e1", "key_1", 60), keyEvent("e2", "key_2", 41), keyEvent("e3", "key_2", 40),
		keyEvent("e4", "key_1", 1), keyEvent("e5", "key_3", 500), keyEvent("e6", "key_1", 0))
	require.Equal(t, Outcome{Credits: 60, Remaining: 2440, KeyRemaining: pointer[int64](40)}, outcomes[0])
	wantCode(t, "key_limit_exceeded", outcomes[1].Refusal)
	require.EqualValues(t, 40, *outcomes[1].KeyRemaining)
	require.EqualValues(t, 0, *outcomes[2].KeyRemaining)
	wantCode(t, "key_limit_exceeded", outcomes[3].Refusal)
	require.Equal(t, Outcome{Credits: 500, Remaining: 1900}, outcomes[4])
	require.Nil(t, outcomes[5].Refusal)

	f.exec("UPDATE api_keys SET credit_limit = 10")
	outcomes = f.spend(keyEvent("e7", "key_1", 1), keyEvent("e8", "key_2", 0), keyEvent("e9", "key_3", 1))
	wantCode(t, "key_limit_exceeded", outcomes[0].Refusal)
	require.Nil(t, outcomes[1].Refusal, "a lowered limit does not refuse what is free")
	wantCode(t, "key_limit_exceeded", outcomes[2].Refusal)

	f.exec("UPDATE api_keys SET credit_limit = 101")
	require.EqualValues(t, 0, *f.spend(keyEvent("e10", "key_1", 1))[0].KeyRemaining)
	f.audit(t)

	f.clock.Set(time.Date(2026, 4, 12, 0, 0, 0, 0, time.UTC))
	require.EqualValues(t, 1, *f.spend(keyEvent("e11", "key_2", 100))[0].KeyRemaining, "limits are by period")
	f.audit(t)
}

func TestSpend_keyLimitIsAConstraint(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	f.account("acct_a", plans.Free)
	f.key("key_1", "acct_a", "key_1", pointer[int64](100))
	f.spend(keyEvent("e1", "key_1", 60))
	_, err := f.pool.Exec(t.Context(), "UPDATE key_budgets SET used = 90, held = 11")
	require.ErrorContains(t, err, "key_limit")
	_, err = f.pool.Exec(t.Context(), "UPDATE balances SET tts = 2400, held = 41")
	require.ErrorContains(t, err, "hard_cap")
}

// A caller that has resolved the key is trusted; others name one or the other.
func TestSpend_resolved(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	f.account("acct_a", plans.Free)
	e := Event{
		ID: "e", AccountID: "acct_a", KeyID: "key_x", Resolved: true, Family: "key_0", CreditLimit: pointer[int64](5),
		Category: plans.LLM, Credits: pointer[int64](3),
	}
	require.Equal(t, Outcome{Credits: 3, Remaining: 2497, KeyRemaining: pointer[int64](2)}, f.spend(e)[0])
	f.key("key_x", "acct_a", "key_0", nil)
	require.True(t, f.spend(keyEvent("e", "key_x", 3))[0].Duplicate, "the same event by its key alone")
	e.Resolved = false
	wantField(t, f.spend(e)[0].Refusal, "accountId")
	f.audit(t)
}

func TestSpend_late(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	f.account("acct_a", plans.Free)
	f.spend(event("first", "acct_a", 5))
	f.clock.Set(time.Date(2026, 4, 10, 0, 0, 1, 0, time.UTC))
	before := time.Date(2026, 4, 9, 23, 59, 59, 0, time.UTC)
	e := event("late", "acct_a", 7)
	e.OccurredAt = &before
	outcomes := f.spend(e, event("now", "acct_a", 1))
	require.Equal(t, Outcome{Credits: 7, Remaining: 2493, Late: true}, outcomes[0])
	require.Equal(t, Outcome{Credits: 1, Remaining: 2492}, outcomes[1])
	require.Equal(t, Outcome{Credits: 7, Remaining: 2492, Late: true, Duplicate: true}, f.spend(e)[0])
	var hour time.Time
	require.NoError(t, f.pool.QueryRow(t.Context(), "SELECT hour FROM usage_totals WHERE credits = 7").Scan(&hour))
	require.True(t, hour.Equal(before.Truncate(time.Hour)), "totals are by when it happened")
	f.audit(t)
}

func TestSpend_poisonedSubmission(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	var group sync.WaitGroup
	errs := make([]error, 30)
	ids := eventIDs("acct_", 30)
	for _, id := range ids {
		f.account(id, plans.Free)
	}
	// All wait for a worker's first batch, which waits for this lock; then they are one batch of each worker.
	firsts := make([]Event, len(ids))
	for i, id := range ids {
		f.current(id)
		firsts[i] = event("first", id, 1)
	}
	tx, err := f.pool.Begin(t.Context())
	require.NoError(t, err)
	_, err = tx.Exec(t.Context(), "SELECT FROM balances FOR UPDATE")
	require.NoError(t, err)
	group.Go(func() { f.spend(firsts...) })
	testkit.AwaitLocked(t, f.pool, 1)
	before := queued(f.Credits)
	for i, id := range ids {
		group.Go(func() {
			e := event("e", id, 1)
			if i%10 == 3 {
				e.ID = "not text\x00"
			}
			_, errs[i] = f.Spend(context.Background(), []Event{e})
		})
	}
	testkit.Eventually(t, "all wait", func() bool { return queued(f.Credits) == before+len(ids) })
	require.NoError(t, tx.Rollback(t.Context()))
	group.Wait()
	for i, err := range errs {
		if i%10 == 3 {
			require.Error(t, err)
		} else {
			require.NoError(t, err)
		}
	}
	f.audit(t)
}

func TestSpend_databaseAway(t *testing.T) {
	t.Parallel()
	pool, err := postgres.Open(t.Context(), "postgres://127.0.0.1:1/none?connect_timeout=1", 4)
	require.NoError(t, err)
	defer pool.Close()
	f := fixtureOn(t, pool, testkit.NewClock(theStart()))
	var group sync.WaitGroup
	for range 20 {
		group.Go(func() {
			_, err := f.Spend(context.Background(), []Event{event("e", "acct_a", 1)})
			if err == nil || !postgres.Unavailable(err) {
				t.Error(err)
			}
		})
	}
	group.Wait()
}

// blocked holds the account's row until the returned function is called, so that batches wait.
func (f *fixture) blocked(accountID string) (unblock func()) {
	f.current(accountID)
	tx, err := f.pool.Begin(context.Background())
	require.NoError(f.tb, err)
	_, err = tx.Exec(context.Background(), "SELECT FROM balances WHERE account_id = $1 FOR UPDATE", accountID)
	require.NoError(f.tb, err)
	return func() { require.NoError(f.tb, tx.Rollback(context.Background())) }
}

// queued is how many submissions no worker has taken yet.
func queued(c *Credits) (n int) {
	for i := range c.lanes {
		c.lanes[i].mu.Lock()
		n += len(c.lanes[i].waiting)
		c.lanes[i].mu.Unlock()
	}
	return n
}

func TestSpend_callersThatLeave(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	f.account("acct_a", plans.Free)
	unblock := f.blocked("acct_a")
	inFlight, cancelInFlight := context.WithCancel(t.Context())
	waiting, cancelWaiting := context.WithCancel(t.Context())
	errs := make(chan error, 2)
	send := func(ctx context.Context, id string) {
		_, err := f.Spend(ctx, []Event{event(id, "acct_a", 1)})
		errs <- err
	}
	go send(inFlight, "in-flight")
	testkit.AwaitLocked(t, f.pool, 1)
	go send(waiting, "waiting")
	testkit.Eventually(t, "one waits", func() bool { return queued(f.Credits) == 1 })
	cancelWaiting()
	require.ErrorIs(t, <-errs, context.Canceled)
	testkit.Eventually(t, "none waits", func() bool { return queued(f.Credits) == 0 })
	cancelInFlight()
	require.ErrorIs(t, <-errs, context.Canceled)
	unblock()

	require.False(t, f.spend(event("waiting", "acct_a", 1))[0].Duplicate, "who leaves the queue has spent nothing")
	require.True(t, f.spend(event("in-flight", "acct_a", 1))[0].Duplicate)
	require.EqualValues(t, 2, f.current("acct_a").Used())
	f.audit(t)
}

func TestSpend_queueIsBounded(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	f.account("acct_a", plans.Free)
	defer f.blocked("acct_a")()
	ctx, cancel := context.WithCancel(t.Context())
	var group sync.WaitGroup
	defer group.Wait()
	defer cancel()
	refused := make(chan error, 100)
	for i := range 30 {
		group.Go(func() {
			events := make([]Event, maxBatch)
			for j := range events {
				events[j] = event(fmt.Sprintf("%d_%d", i, j), "acct_a", 0)
			}
			if _, err := f.Spend(ctx, events); !errors.Is(err, context.Canceled) {
				refused <- err
			}
		})
	}
	for range 30 - maxWaiting/maxBatch - 1 {
		wantFault(t, "unavailable", <-refused)
	}
}

func TestRun_drains(t *testing.T) {
	t.Parallel()
	pool := testkit.DB(t)
	f := fixtureOn(t, pool, testkit.NewClock(theStart()))
	f.account("acct_a", plans.Free)
	c := New(pool, pool, f.ids, f.clock.Now, f.catalogue)
	errs := make(chan error, 20)
	for i := range 20 {
		go func() {
			_, err := c.Spend(context.Background(), []Event{event(fmt.Sprint(i), "acct_a", 1)})
			errs <- err
		}()
	}
	testkit.Eventually(t, "all wait", func() bool { return queued(c) == 20 })
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	require.NoError(t, c.Run(ctx))
	for range 20 {
		if err := <-errs; err != nil {
			wantFault(t, "unavailable", err) // came after the end
		}
	}
	_, err := c.Spend(t.Context(), []Event{event("late", "acct_a", 1)})
	wantFault(t, "unavailable", err)
	require.EqualValues(t, 20, f.current("acct_a").Used())
	f.audit(t)
}

func TestSpend_acrossTheEndOfAPeriod(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	f.account("acct_a", plans.Free)
	f.spend(event("a", "acct_a", 2500))
	unblock := f.blocked("acct_a")
	done := make(chan []Outcome, 1)
	go func() { done <- f.spend(event("b", "acct_a", 1)) }()
	testkit.AwaitLocked(t, f.pool, 1)
	unblock()
	wantCode(t, "credits_exhausted", (<-done)[0].Refusal)
	f.clock.Set(time.Date(2026, 4, 10, 0, 0, 0, 0, time.UTC))
	require.Equal(t, Outcome{Credits: 1, Remaining: 2499}, f.spend(event("b", "acct_a", 1))[0])
	f.audit(t)
}

// While a batch waits for the account's row, a change of plan ends the period.
func TestSpend_periodEndsWhileABatchWaits(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	f.account("acct_a", plans.Free)
	f.plan("acct_a", plans.Starter, &Cycle{Source: "sub_1", Anchor: theStart(), Start: theStart()})
	f.spend(event("a", "acct_a", 60_000))
	tx, err := f.pool.Begin(t.Context())
	require.NoError(t, err)
	require.NoError(t, f.ApplyTx(t.Context(), tx, "acct_a", bought(f.catalogue.Plan(plans.Free), nil)))
	done := make(chan []Outcome, 1)
	go func() { done <- f.spend(event("b", "acct_a", 2501), event("c", "acct_a", 2500)) }()
	testkit.AwaitLocked(t, f.pool, 1)
	f.clock.Advance(time.Millisecond)
	require.NoError(t, tx.Commit(t.Context()))
	outcomes := <-done
	wantCode(t, "credits_exhausted", outcomes[0].Refusal)
	require.Nil(t, outcomes[1].Refusal)
	f.audit(t)
}
