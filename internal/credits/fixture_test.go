package credits

import (
	"context"
	"crypto/rand"
	"fmt"
	"testing"
	"time"

	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/stretchr/testify/require"

	"github.com/keymeter/keymeter/internal/ids"
	"github.com/keymeter/keymeter/internal/plans"
	"github.com/keymeter/keymeter/internal/postgres"
	"github.com/keymeter/keymeter/internal/testkit"
)

// fixture is a ledger on a database of its own.
type fixture struct {
	*Credits
	tb    testing.TB
	pool  *pgxpool.Pool
	clock *testkit.Clock
}

// theStart is within the first period of the fixture's accounts, which began at 2026-03-10.
func theStart() time.Time { return time.Date(2026, 3, 21, 10, 30, 0, 123456000, time.UTC) }

func newFixture(tb testing.TB) *fixture {
	tb.Helper()
	return fixtureOn(tb, testkit.DB(tb), testkit.NewClock(theStart()))
}

// fixtureOn is a replica of its own on the database.
func fixtureOn(tb testing.TB, pool *pgxpool.Pool, clock *testkit.Clock) *fixture {
	tb.Helper()
	f := startFixture(tb, pool, clock.Now)
	f.clock = clock
	return f
}

func startFixture(tb testing.TB, pool *pgxpool.Pool, now func() time.Time) *fixture {
	tb.Helper()
	catalogue, err := plans.Load("")
	require.NoError(tb, err)
	f := &fixture{Credits: New(pool, pool, ids.NewSource(now, rand.Reader), now, catalogue), tb: tb, pool: pool}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- f.Run(ctx) }()
	tb.Cleanup(func() {
		cancel()
		require.NoError(tb, <-done)
	})
	return f
}

func (f *fixture) exec(sql string, args ...any) {
	f.tb.Helper()
	_, err := f.pool.Exec(context.Background(), sql, args...)
	require.NoError(f.tb, err)
}

func (f *fixture) account(id string, tier plans.Tier) {
	f.tb.Helper()
	f.exec("INSERT INTO accounts (id, name, tier, created_at) VALUES ($1, $1, $2, '2026-03-10T12:00Z')", id, tier)
}

func (f *fixture) key(id, accountID, family string, limit *int64) {
	f.tb.Helper()
	f.exec(`INSERT INTO api_keys (id, account_id, hash, pepper_version, prefix, name, created_at, family, credit_limit)
		VALUES ($1, $2, $3, 1, 'p', 'n', '2026-03-10T12:00Z', $4, $5)`, id, accountID, []byte(id), family, limit)
}

// bought is the standing of an account that has paid.
func bought(plan plans.Plan, cycle *Cycle) Standing {
	return Standing{Plan: plan, Cycle: cycle, Monthly: Full, Overage: true}
}

// capped reports whether the balance has a hard cap.
func capped(b Balance) bool { return b.OverageLimit != nil }

// plan puts an account under a tier, as an operator does.
func (f *fixture) plan(accountID string, tier plans.Tier, cycle *Cycle) {
	f.tb.Helper()
	err := postgres.InTx(context.Background(), f.pool, func(tx postgres.Tx) error {
		if err := f.ApplyTx(context.Background(), tx, accountID, bought(f.catalogue.Plan(tier), cycle)); err != nil {
			return err
		}
		_, err := tx.Exec(context.Background(), "UPDATE accounts SET tier = $2 WHERE id = $1", accountID, tier)
		return err
	})
	require.NoError(f.tb, err)
}

func (f *fixture) spend(events ...Event) []Outcome {
	f.tb.Helper()
	outcomes, err := f.Spend(context.Background(), events)
	require.NoError(f.tb, err)
	require.Len(f.tb, outcomes, len(events))
	return outcomes
}

func (f *fixture) current(accountID string) Balance {
	f.tb.Helper()
	b, err := f.Current(context.Background(), accountID)
	require.NoError(f.tb, err)
	return b
}

// event is an event of an account that costs so many credits.
func event(id, accountID string, credits int64) Event {
	return Event{ID: id, AccountID: accountID, Category: plans.TTS, Credits: &credits}
}

func keyEvent(id, keyID string, credits int64) Event {
	return Event{ID: id, KeyID: keyID, Category: plans.LLM, Credits: &credits}
}

// audit fails if the ledger does not add up.
func (f *fixture) audit(tb require.TestingT) {
	found, err := f.Verify(context.Background())
	require.NoError(tb, err)
	require.Empty(tb, found)
}

func eventIDs(prefix string, n int) []string {
	made := make([]string, n)
	for i := range made {
		made[i] = fmt.Sprintf("%s%d", prefix, i)
	}
	return made
}
