package credits

import (
	"context"
	"fmt"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/keymeter/keymeter/internal/plans"
)

func hold(eventID, accountID string, credits int64) Hold {
	return Hold{EventID: eventID, AccountID: accountID, Category: plans.LLM, Credits: credits, TTL: time.Minute}
}

func keyHold(eventID, keyID string, credits int64) Hold {
	return Hold{EventID: eventID, KeyID: keyID, Category: plans.LLM, Credits: credits, TTL: time.Minute}
}

func costs(credits int64) Cost { return Cost{Credits: &credits} }

func (f *fixture) reserve(h Hold) Reservation {
	f.tb.Helper()
	r, err := f.Reserve(context.Background(), h)
	require.NoError(f.tb, err)
	return r
}

func (f *fixture) settle(id string, c Cost) Reservation {
	f.tb.Helper()
	r, err := f.Settle(context.Background(), id, c)
	require.NoError(f.tb, err)
	return r
}

// public is what a caller sees of a reservation.
func public(r Reservation) Reservation {
	return Reservation{
		ID: r.ID, EventID: r.EventID, AccountID: r.AccountID, KeyID: r.KeyID, Category: r.Category, State: r.State,
		Held: r.Held, Credits: r.Credits, Uncollected: r.Uncollected, ExpiresAt: r.ExpiresAt.UTC(),
	}
}

func TestReserve(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	f.account("acct_a", plans.Free)
	r := f.reserve(hold("e", "acct_a", 2000))
	require.Equal(t, Reservation{
		ID: r.ID, EventID: "e", AccountID: "acct_a", Category: plans.LLM, State: Held, Held: 2000,
		ExpiresAt: theStart().Add(time.Minute),
	}, public(r))
	require.Equal(t, public(r), public(f.reserve(hold("e", "acct_a", 2000))), "again")
	b := f.current("acct_a")
	require.Equal(t, []int64{2000, 0, 500}, []int64{b.Held, b.Used(), b.Remaining()})

	_, err := f.Reserve(t.Context(), hold("e", "acct_a", 1999))
	wantFault(t, "event_conflict", err)
	_, err = f.Reserve(t.Context(), hold("e2", "acct_a", 501))
	wantFault(t, "credits_exhausted", err)
	wantCode(t, "credits_exhausted", f.spend(event("e2", "acct_a", 501))[0].Refusal)
	require.EqualValues(t, 0, f.spend(event("e2", "acct_a", 500))[0].Remaining)
	f.audit(t)

	for code, h := range map[string]Hold{
		"account_not_found": hold("x", "acct_none", 1), "key_not_found": keyHold("x", "key_none", 1),
		"invalid_request": {EventID: "x", Category: plans.LLM, Credits: 1, TTL: time.Minute},
	} {
		_, err := f.Reserve(t.Context(), h)
		wantFault(t, code, err)
	}
}

func TestReserve_eventIDsAreOnce(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	f.account("acct_a", plans.Free)
	f.account("acct_b", plans.Free)
	f.spend(event("recorded", "acct_a", 1))
	_, err := f.Reserve(t.Context(), hold("recorded", "acct_a", 1))
	wantFault(t, "event_conflict", err)
	f.reserve(hold("recorded", "acct_b", 1)) // ids are by account

	same := Event{ID: "e", AccountID: "acct_a", Category: plans.LLM, Credits: pointer[int64](7)}
	r := f.reserve(hold("e", "acct_a", 7))
	wantCode(t, "event_conflict", f.spend(same)[0].Refusal)
	f.settle(r.ID, costs(7))
	wantCode(t, "event_conflict", f.spend(same)[0].Refusal)
	r = f.reserve(hold("e2", "acct_a", 7))
	_, err = f.Release(t.Context(), r.ID)
	require.NoError(t, err)
	same.ID = "e2"
	wantCode(t, "event_conflict", f.spend(same)[0].Refusal)
	require.Equal(t, Released, f.reserve(hold("e2", "acct_a", 7)).State)
	f.audit(t)
}

func TestSettle(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	f.account("acct_free", plans.Free)
	f.account("acct_paid", plans.Starter)
	for name, c := range map[string]struct {
		account                    string
		held, cost                 int64
		wantCharged, wantUncharged int64
	}{
		"less":                    {"acct_free", 100, 40, 40, 0},
		"as much":                 {"acct_free", 100, 100, 100, 0},
		"more, as far as it fits": {"acct_free", 100, 10_000, 2500, 7500},
		"nothing":                 {"acct_free", 100, 0, 0, 0},
		"more without a cap":      {"acct_paid", 100, 90_000, 90_000, 0},
	} {
		before := f.current(c.account)
		r := f.reserve(hold(name, c.account, c.held))
		settled := f.settle(r.ID, costs(c.cost))
		want := public(r)
		want.State, want.Credits, want.Uncollected = Settled, c.wantCharged, c.wantUncharged
		require.Equal(t, want, public(settled), name)
		require.Equal(t, want, public(f.settle(r.ID, costs(c.cost))), name)
		_, err := f.Settle(t.Context(), r.ID, costs(c.cost+1))
		wantFault(t, "reservation_settled", err)
		_, err = f.Release(t.Context(), r.ID)
		wantFault(t, "reservation_settled", err)
		b := f.current(c.account)
		require.Equal(t, []int64{0, before.LLM + c.wantCharged, before.Requests + 1}, []int64{b.Held, b.LLM, b.Requests})
		f.audit(t)
		reversal, err := f.Reverse(t.Context(), c.account, name)
		require.NoError(t, err)
		require.Equal(t, c.wantCharged, reversal.Credits)
		f.audit(t)
	}
}

func TestSettle_rules(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	f.account("acct_a", plans.Free)
	_, err := f.Settle(t.Context(), "rsv_none", costs(1))
	wantFault(t, "reservation_not_found", err)
	_, err = f.Release(t.Context(), "rsv_none")
	wantFault(t, "reservation_not_found", err)

	r := f.reserve(hold("e", "acct_a", 100))
	_, err = f.Settle(t.Context(), r.ID, Cost{})
	wantField(t, err, "quantity")
	_, err = f.Settle(t.Context(), r.ID, Cost{Provider: "nobody", Quantity: pointer[int64](1)})
	wantField(t, err, "provider")
	require.EqualValues(t, 100, f.current("acct_a").Held, "a refused settlement leaves no trace")
	settled := f.settle(r.ID, Cost{BYOK: true, Provider: "own", Quantity: pointer[int64](5)})
	require.Equal(t, []int64{0, 0}, []int64{settled.Credits, settled.Uncollected})

	released := f.reserve(hold("e2", "acct_a", 100))
	for range 2 {
		again, err := f.Release(t.Context(), released.ID)
		require.NoError(t, err)
		require.Equal(t, Released, again.State)
	}
	_, err = f.Settle(t.Context(), released.ID, costs(1))
	wantFault(t, "reservation_released", err)
	require.EqualValues(t, 0, f.current("acct_a").Held)
	f.audit(t)
}

func TestSettle_keyLimit(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	f.account("acct_a", plans.Starter)
	f.key("key_1", "acct_a", "key_1", pointer[int64](100))
	r := f.reserve(keyHold("e", "key_1", 80))
	_, err := f.Reserve(t.Context(), keyHold("e2", "key_1", 21))
	wantFault(t, "key_limit_exceeded", err)
	outcomes := f.spend(keyEvent("e3", "key_1", 21), keyEvent("e4", "key_1", 5))
	wantCode(t, "key_limit_exceeded", outcomes[0].Refusal)
	require.EqualValues(t, 15, *outcomes[1].KeyRemaining)
	f.audit(t)
	settled := f.settle(r.ID, costs(200))
	require.Equal(t, []int64{95, 105}, []int64{settled.Credits, settled.Uncollected})
	f.audit(t)

	// A lowered limit does not take back what is held already, but leaves nothing beyond it.
	f.exec("UPDATE api_keys SET credit_limit = 200")
	r = f.reserve(keyHold("e5", "key_1", 50))
	f.exec("UPDATE api_keys SET credit_limit = 10")
	settled = f.settle(r.ID, costs(60))
	require.Equal(t, []int64{50, 10}, []int64{settled.Credits, settled.Uncollected})
	f.audit(t)
}

func TestReserve_expiry(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	f.account("acct_a", plans.Free)
	f.key("key_1", "acct_a", "key_1", pointer[int64](2000))
	r := f.reserve(keyHold("e", "key_1", 2000))
	f.clock.Set(r.ExpiresAt.Add(-time.Microsecond))
	wantCode(t, "credits_exhausted", f.spend(event("x", "acct_a", 501))[0].Refusal)
	wantCode(t, "key_limit_exceeded", f.spend(keyEvent("x", "key_1", 1))[0].Refusal)
	f.clock.Set(r.ExpiresAt)
	require.Equal(t, Outcome{Credits: 501, Remaining: 1999}, f.spend(event("x", "acct_a", 501))[0], "by the next spend")
	require.EqualValues(t, 0, f.current("acct_a").Held)
	f.audit(t)

	released, err := f.Release(t.Context(), r.ID)
	require.NoError(t, err)
	require.Equal(t, Expired, released.State)
	settled := f.settle(r.ID, costs(2200))
	require.Equal(t, []int64{1999, 201}, []int64{settled.Credits, settled.Uncollected}, "as far as the plan allows")
	require.Equal(t, Settled, settled.State)
	f.audit(t)
}

func TestReserve_keyExpiryIsSeenBySpend(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	f.account("acct_a", plans.Starter)
	f.key("key_1", "acct_a", "key_1", pointer[int64](100))
	r := f.reserve(keyHold("e", "key_1", 100))
	f.clock.Set(r.ExpiresAt)
	require.EqualValues(t, 0, *f.spend(keyEvent("x", "key_1", 100))[0].KeyRemaining)
	f.audit(t)
}

// A hold stays in its period, and what it is settled with is charged to the current one.
func TestReserve_endOfPeriod(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	f.account("acct_a", plans.Free)
	f.key("key_1", "acct_a", "key_1", pointer[int64](2000))
	day := func(d int) time.Time { return time.Date(2026, 4, d, 0, 0, 0, 0, time.UTC) }
	f.clock.Set(day(10).Add(-time.Second))
	var made []Reservation
	for i := range 4 {
		made = append(made, f.reserve(keyHold(fmt.Sprint("e", i), "key_1", 500)))
	}
	f.clock.Set(day(10))
	require.Equal(t, Outcome{Credits: 1999, Remaining: 501, KeyRemaining: pointer[int64](1)},
		f.spend(keyEvent("x", "key_1", 1999))[0])
	f.audit(t)

	settled := f.settle(made[0].ID, costs(400))
	require.Equal(t, []int64{1, 399}, []int64{settled.Credits, settled.Uncollected}, "the key's limit of this period")
	f.audit(t)
	_, err := f.Release(t.Context(), made[1].ID)
	require.NoError(t, err)
	f.audit(t)
	f.clock.Set(made[2].ExpiresAt)
	require.NoError(t, f.ExpireHolds(t.Context()))
	f.audit(t)
	var held, late int64
	require.NoError(t, f.pool.QueryRow(t.Context(), "SELECT sum(held) FROM balances").Scan(&held))
	require.EqualValues(t, 0, held)
	require.NoError(t, f.pool.QueryRow(t.Context(), "SELECT count(*) FROM usage_events WHERE late").Scan(&late))
	require.EqualValues(t, 1, late)
}

func TestReserve_changeOfPlan(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	f.account("acct_a", plans.Free)
	r := f.reserve(hold("e", "acct_a", 2500))
	f.plan("acct_a", plans.Pro, &Cycle{Source: "sub_1", Anchor: f.clock.Now(), Start: f.clock.Now()})
	f.audit(t)
	f.clock.Advance(time.Second)
	require.EqualValues(t, 200_000, f.current("acct_a").Remaining())
	require.EqualValues(t, 3000, f.settle(r.ID, costs(3000)).Credits)
	f.audit(t)
	require.EqualValues(t, 197_000, f.current("acct_a").Remaining())
}

// Callers that die after they have reserved leave nothing behind for long.
func TestReserve_thousandDeadHolders(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	const accounts, holders = 50, 1000
	for _, id := range eventIDs("acct_", accounts) {
		f.account(id, plans.Free)
	}
	f.key("key_0", "acct_0", "key_0", pointer[int64](1000))
	var group sync.WaitGroup
	for w := range 8 {
		group.Go(func() {
			for i := w; i < holders; i += 8 {
				h := hold(fmt.Sprint("e", i), fmt.Sprint("acct_", i%accounts), 100)
				if i%accounts == 0 && i%2 == 0 {
					h = keyHold(h.EventID, "key_0", 50)
				}
				h.TTL = time.Duration(1+i%7) * time.Minute
				if _, err := f.Reserve(context.Background(), h); err != nil {
					t.Error(err)
				}
			}
		})
	}
	group.Wait()
	f.audit(t)
	stuck := func() (n int64) {
		require.NoError(t, f.pool.QueryRow(t.Context(), "SELECT coalesce(sum(held), 0) FROM balances").Scan(&n))
		return n
	}
	require.NotZero(t, stuck())
	f.clock.Advance(10 * time.Minute)
	for i := range accounts / 2 {
		o := f.spend(event("x", fmt.Sprint("acct_", i), 2500))[0]
		require.Nil(t, o.Refusal, "the next spend frees")
	}
	f.audit(t)
	// On two replicas at once.
	group.Go(func() { _ = f.ExpireHolds(context.Background()) })
	require.NoError(t, f.ExpireHolds(t.Context()))
	group.Wait()
	require.EqualValues(t, 0, stuck())
	f.audit(t)
}

func TestReserve_parallel(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	f.account("acct_a", plans.Free)
	var group sync.WaitGroup
	for w := range 16 {
		group.Go(func() {
			for i := range 20 {
				id := fmt.Sprintf("e%d", (w/2)*20+i) // two callers for each id
				r, err := f.Reserve(context.Background(), hold(id, "acct_a", 30))
				if err != nil {
					wantFault(t, "credits_exhausted", err)
					continue
				}
				if i%3 == 0 {
					_, err = f.Release(context.Background(), r.ID)
				} else {
					_, err = f.Settle(context.Background(), r.ID, costs(25))
				}
				if err != nil {
					t.Error(err)
				}
				f.spend(event(fmt.Sprintf("s%d_%d", w, i), "acct_a", 1))
			}
		})
	}
	group.Wait()
	f.audit(t)
	require.Zero(t, f.current("acct_a").Held)
}

func TestReverse(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	f.account("acct_a", plans.Free)
	f.key("key_1", "acct_a", "key_1", pointer[int64](100))
	f.spend(keyEvent("e", "key_1", 100), event("free", "acct_a", 0))
	want := Reversal{ID: "reversal:e", Reverses: "e", Credits: 100}
	for range 2 {
		got, err := f.Reverse(t.Context(), "acct_a", "e")
		require.NoError(t, err)
		require.Equal(t, want, got)
		want.Duplicate = true
		b := f.current("acct_a")
		require.Equal(t, []int64{0, 2}, []int64{b.Used(), b.Requests}, "the request happened all the same")
		f.audit(t)
	}
	require.EqualValues(t, 0, *f.spend(keyEvent("e2", "key_1", 100))[0].KeyRemaining)
	require.True(t, f.spend(keyEvent("e", "key_1", 100))[0].Duplicate, "the event stays")

	got, err := f.Reverse(t.Context(), "acct_a", "free")
	require.NoError(t, err)
	require.Equal(t, Reversal{ID: "reversal:free", Reverses: "free"}, got)
	for _, id := range []string{"none", "reversal:e"} {
		_, err := f.Reverse(t.Context(), "acct_a", id)
		wantFault(t, "event_not_found", err)
	}
	_, err = f.Reverse(t.Context(), "acct_none", "e")
	wantFault(t, "event_not_found", err)
	f.audit(t)
}

func TestReverse_ofAClosedPeriod(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	f.account("acct_a", plans.Free)
	f.spend(event("e", "acct_a", 100))
	f.clock.Set(time.Date(2026, 4, 10, 0, 0, 0, 0, time.UTC))
	for i := range 2 {
		got, err := f.Reverse(t.Context(), "acct_a", "e")
		require.NoError(t, err)
		require.Equal(t, Reversal{ID: "reversal:e", Reverses: "e", Credits: 100, Duplicate: i > 0}, got)
	}
	b := f.current("acct_a")
	require.Equal(t, []int64{2600, 2500, 2600}, []int64{b.Granted, b.Included, b.Remaining()})
	f.audit(t)
}

func TestReverse_takenID(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	f.account("acct_a", plans.Free)
	f.spend(event("e", "acct_a", 100), event("reversal:e", "acct_a", 1), event("r", "acct_a", 100))
	f.reserve(hold("reversal:r", "acct_a", 1))
	for _, id := range []string{"e", "r"} {
		_, err := f.Reverse(t.Context(), "acct_a", id)
		wantFault(t, "event_conflict", err)
	}
	_, err := f.Reverse(t.Context(), "acct_a", "reversal:e")
	require.NoError(t, err)
	wantCode(t, "event_conflict", f.spend(event("reversal:reversal:e", "acct_a", 1))[0].Refusal)
	f.audit(t)
}
