package credits

import (
	"context"
	"crypto/rand"
	"fmt"
	"strings"
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

// identities are queries that find what does not add up in the ledger.
func identities() map[string]string {
	return map[string]string{
		"balances are the sums of events": `
			SELECT b.account_id, b.period FROM balances b LEFT JOIN LATERAL (
				SELECT coalesce(sum(credits) FILTER (WHERE category = 'tts'), 0) AS tts,
				       coalesce(sum(credits) FILTER (WHERE category = 'stt'), 0) AS stt,
				       coalesce(sum(credits) FILTER (WHERE category = 'llm'), 0) AS llm,
				       coalesce(sum(credits) FILTER (WHERE category = 'rag'), 0) AS rag,
				       count(*) FILTER (WHERE reverses IS NULL) AS requests
				FROM usage_events e WHERE e.account_id = b.account_id AND e.period = b.period) e ON true
			WHERE (b.tts, b.stt, b.llm, b.rag, b.requests) IS DISTINCT FROM (e.tts, e.stt, e.llm, e.rag, e.requests)`,
		"events have a balance": `
			SELECT account_id, period FROM usage_events e WHERE NOT EXISTS (
				SELECT FROM balances b WHERE b.account_id = e.account_id AND b.period = e.period)`,
		"granted is what the grants leave for the open period": `
			SELECT b.account_id, b.period, b.granted, g.amount - coalesce(u.credits, 0) - coalesce(l.amount, 0) AS rest
			FROM balances b
			LEFT JOIN (SELECT account_id, sum(amount) AS amount FROM credit_grants GROUP BY 1) g USING (account_id)
			LEFT JOIN (SELECT account_id, sum(credits) AS credits FROM credit_burns GROUP BY 1) u USING (account_id)
			LEFT JOIN (SELECT account_id, sum(amount) AS amount FROM credit_losses GROUP BY 1) l USING (account_id)
			WHERE NOT b.closed AND b.granted <> coalesce(g.amount, 0) - coalesce(u.credits, 0) - coalesce(l.amount, 0)`,
		"no grant is burned or lost beyond its amount": `
			SELECT g.id FROM credit_grants g
			LEFT JOIN (SELECT grant_id, sum(credits) AS credits FROM credit_burns GROUP BY 1) u ON u.grant_id = g.id
			LEFT JOIN (SELECT grant_id, sum(amount) AS amount FROM credit_losses GROUP BY 1) l ON l.grant_id = g.id
			WHERE coalesce(u.credits, 0) + coalesce(l.amount, 0) > g.amount`,
		"what closed periods used is burns and overage": `
			SELECT b.account_id, b.period FROM balances b
			LEFT JOIN (SELECT account_id, period, sum(credits) AS credits FROM credit_burns GROUP BY 1, 2) u USING (account_id, period)
			LEFT JOIN (SELECT account_id, period, sum(credits) AS credits FROM overages GROUP BY 1, 2) o USING (account_id, period)
			WHERE b.closed AND greatest(b.tts + b.stt + b.llm + b.rag, b.overage) <> coalesce(u.credits, 0) + coalesce(o.credits, 0)`,
		"overage of open periods is in the ledger": `
			SELECT b.account_id, b.period FROM balances b
			LEFT JOIN (SELECT account_id, period, sum(credits) AS credits FROM overages GROUP BY 1, 2) o USING (account_id, period)
			WHERE NOT b.closed AND b.overage <> coalesce(o.credits, 0)`,
		"held is the sum of reservations that hold": `
			SELECT b.account_id, b.period FROM balances b LEFT JOIN (
				SELECT account_id, period, sum(held) AS held FROM reservations WHERE state = 'held' GROUP BY 1, 2) r
				USING (account_id, period)
			WHERE b.held <> coalesce(r.held, 0)`,
		"totals are the sums of events": `
			SELECT account_id, hour, key_id FROM usage_totals t FULL JOIN (
				SELECT account_id, date_trunc('hour', occurred_at) AS hour, coalesce(key_id, '') AS key_id, category,
				       sum(credits) AS credits, count(*) FILTER (WHERE reverses IS NULL) AS requests
				FROM usage_events GROUP BY 1, 2, 3, 4) e USING (account_id, hour, key_id, category)
			WHERE (t.credits, t.requests) IS DISTINCT FROM (e.credits, e.requests)`,
		"hours are the sums of totals": `
			SELECT account_id, hour FROM usage_hours h FULL JOIN (
				SELECT account_id, hour, category, sum(credits) AS credits, sum(requests) AS requests
				FROM usage_totals GROUP BY 1, 2, 3) t USING (account_id, hour, category)
			WHERE (h.credits, h.requests) IS DISTINCT FROM (t.credits, t.requests)`,
		"budgets are the sums of events of families": `
			SELECT account_id, family, period FROM key_budgets b FULL JOIN (
				SELECT e.account_id, k.family, e.period, sum(e.credits) AS credits
				FROM usage_events e JOIN api_keys k ON k.id = e.key_id GROUP BY 1, 2, 3) e USING (account_id, family, period)
			WHERE coalesce(b.used, 0) <> coalesce(e.credits, 0)`,
		"budgets hold what reservations hold": `
			SELECT account_id, family, period FROM key_budgets b FULL JOIN (
				SELECT account_id, family, period, sum(held) AS held FROM reservations
				WHERE state = 'held' AND family IS NOT NULL GROUP BY 1, 2, 3) r USING (account_id, family, period)
			WHERE coalesce(b.held, 0) <> coalesce(r.held, 0)`,
		"settled reservations are events": `
			SELECT r.id, r.credits, r.uncollected FROM reservations r
			LEFT JOIN usage_events e ON e.account_id = r.account_id AND e.id = r.event_id
			WHERE (r.state = 'settled') <> (e.id IS NOT NULL)
			   OR (e.credits, e.uncollected) IS DISTINCT FROM (r.credits, coalesce(r.uncollected, e.uncollected))`,
		"late events are those from before the period": `
			SELECT account_id, id FROM usage_events e JOIN balances b USING (account_id, period)
			WHERE e.late <> (e.occurred_at < b.starts_at)`,
		"reversals give back what they reverse": `
			SELECT e.account_id, r.id FROM usage_events r
			LEFT JOIN usage_events e ON e.account_id = r.account_id AND e.id = r.reverses
			LEFT JOIN credit_grants g ON g.account_id = r.account_id AND g.source = r.id AND g.period = r.period
			WHERE r.reverses IS NOT NULL AND (e.credits + r.credits - coalesce(g.amount, 0)) IS DISTINCT FROM 0`,
	}
}

// audit fails if the ledger does not add up.
func (f *fixture) audit(tb require.TestingT) {
	var parts []string
	for name, sql := range identities() {
		parts = append(parts, fmt.Sprintf("SELECT '%s: ' || x::text AS found FROM (%s) x", name, sql))
	}
	var found string
	err := f.pool.QueryRow(context.Background(),
		"SELECT coalesce(string_agg(found, E'\n'), '') FROM ("+strings.Join(parts, " UNION ALL ")+") y").Scan(&found)
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
