package credits

import (
	"context"
	"crypto/rand"
	"flag"
	"fmt"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/stretchr/testify/require"

	"github.com/keymeter/keymeter/internal/accounts"
	"github.com/keymeter/keymeter/internal/ids"
	"github.com/keymeter/keymeter/internal/plans"
	"github.com/keymeter/keymeter/internal/postgres"
	"github.com/keymeter/keymeter/internal/testkit"
)

// Property tests draw the same examples in each run, so that a change that breaks nothing never turns a build red. To
// look further: RAPID_SEED=0 RAPID_CHECKS=2000 go test.
func TestMain(m *testing.M) {
	for name, value := range map[string]string{"seed": "20260321", "nofailfile": "true"} {
		if os.Getenv("RAPID_"+strings.ToUpper(name)) == "" {
			_ = flag.Set("rapid."+name, value)
		}
	}
	testkit.Main(m)
}

// tester is what require and the calls below need; *testing.T and *rapid.T are both.
type tester interface {
	require.TestingT
	Helper()
	Context() context.Context
	Cleanup(func())
}

// bench is the ledger on a database, with a clock of its own.
type bench struct {
	pool      *pgxpool.Pool
	clock     *testkit.Clock
	catalogue *plans.Catalogue
	accounts  *accounts.Accounts
	credits   *Credits
}

func newBench(t tester, pool *pgxpool.Pool, catalogue *plans.Catalogue, now time.Time) *bench {
	t.Helper()
	b := &bench{pool: pool, clock: testkit.NewClock(now), catalogue: catalogue}
	source := ids.NewSource(b.clock.Now, rand.Reader)
	b.accounts = accounts.New(pool, source, b.clock.Now)
	b.credits = New(pool, pool, source, b.clock.Now, catalogue)
	ctx, stop := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- b.credits.Run(ctx) }()
	t.Cleanup(func() {
		stop()
		require.NoError(t, <-ended)
	})
	return b
}

func defaultCatalogue(t tester) *plans.Catalogue {
	t.Helper()
	catalogue, err := plans.Load("")
	require.NoError(t, err)
	return catalogue
}

func (b *bench) newAccount(t tester) string {
	t.Helper()
	var account accounts.Account
	err := postgres.InTx(t.Context(), b.pool, func(tx postgres.Tx) error {
		var err error
		account, err = b.accounts.CreateTx(t.Context(), tx, accounts.CreateParams{Name: "Acme"})
		return err
	})
	require.NoError(t, err)
	return account.ID
}

func (b *bench) record(ctx context.Context, events ...Event) ([]Outcome, error) {
	return b.credits.Spend(ctx, events)
}

// changePlan does what billing does: the plan first, then the account's tier.
func (b *bench) changePlan(ctx context.Context, accountID string, tier plans.Tier, cycle *Cycle) error {
	return b.apply(ctx, accountID, bought(b.catalogue.Plan(tier), cycle))
}

func (b *bench) apply(ctx context.Context, accountID string, s Standing) error {
	return postgres.InTx(ctx, b.pool, func(tx postgres.Tx) error {
		if err := b.credits.ApplyTx(ctx, tx, accountID, s); err != nil {
			return err
		}
		_, err := b.accounts.SetTierTx(ctx, tx, accountID, s.Plan.Tier)
		return err
	})
}

func (b *bench) current(t tester, accountID string) Balance {
	t.Helper()
	balance, err := b.credits.Current(t.Context(), accountID)
	require.NoError(t, err)
	return balance
}

// spend records an event of so many credits and wants it taken.
func (b *bench) spend(t tester, accountID, id string, credits int64) {
	t.Helper()
	outcomes, err := b.record(t.Context(), Event{ID: id, AccountID: accountID, Category: plans.RAG, Credits: &credits})
	require.NoError(t, err)
	require.Nil(t, outcomes[0].Refusal)
	require.Equal(t, credits, outcomes[0].Credits)
}

// checkIdentities checks what has to hold of the accounts' rows at all times, whatever happened before.
func (b *bench) checkIdentities(t tester, accountIDs ...string) {
	t.Helper()
	var parts []string
	for what, query := range map[string]string{
		"a balance is not the sum of its events": `
			SELECT count(*) FROM balances b WHERE account_id = ANY ($1) AND (tts, stt, llm, rag, requests) IS DISTINCT FROM (
				SELECT (coalesce(sum(credits) FILTER (WHERE category = 'tts'), 0)::bigint,
				        coalesce(sum(credits) FILTER (WHERE category = 'stt'), 0)::bigint,
				        coalesce(sum(credits) FILTER (WHERE category = 'llm'), 0)::bigint,
				        coalesce(sum(credits) FILTER (WHERE category = 'rag'), 0)::bigint,
				        count(*) FILTER (WHERE reverses IS NULL))
				FROM usage_events u WHERE u.account_id = b.account_id AND u.period = b.period)`,
		"a hard cap was passed": `
			SELECT count(*) FROM balances WHERE account_id = ANY ($1) AND tts + stt + llm + rag > granted + overage_limit`,
		"periods overlap or leave their order": `
			SELECT count(*) FROM balances a JOIN balances b ON b.account_id = a.account_id AND b.period > a.period
			WHERE a.account_id = ANY ($1) AND b.starts_at < a.ends_at`,
		"a period is missing": `
			SELECT count(*) FROM balances b WHERE account_id = ANY ($1) AND period > 0 AND NOT EXISTS (
				SELECT FROM balances p WHERE p.account_id = b.account_id AND p.period = b.period - 1)`,
	} {
		parts = append(parts, fmt.Sprintf("SELECT '%s' AS what, (%s) AS wrong", what, query))
	}
	var wrong []string
	require.NoError(t, b.pool.QueryRow(t.Context(),
		"SELECT array_agg(what) FROM ("+strings.Join(parts, " UNION ALL ")+") q WHERE wrong > 0", accountIDs).Scan(&wrong))
	require.Empty(t, wrong)
}

func ptr[T any](v T) *T { return &v }
