package credits

import (
	"context"
	"time"

	"github.com/keymeter/keymeter/gen/queries"
	"github.com/keymeter/keymeter/internal/plans"
	"github.com/keymeter/keymeter/internal/postgres"
)

type accountRow struct {
	tier      plans.Tier
	createdAt time.Time
}

func lockAccount(ctx context.Context, db queries.DBTX, id string) (accountRow, error) {
	row, err := queries.New(db).LockAccountTier(ctx, id)
	if postgres.NoRows(err) {
		return accountRow{}, errNoAccount
	}
	return accountRow{tier: plans.Tier(row.Tier), createdAt: row.CreatedAt}, err
}

// openBalance returns the account's open period. That may be over already.
func openBalance(ctx context.Context, db queries.DBTX, accountID string) (Balance, bool, error) {
	row, err := queries.New(db).OpenBalance(ctx, accountID)
	if postgres.NoRows(err) {
		return Balance{}, false, nil
	}
	return fromRow(row), err == nil, err
}

func lockOpenBalance(ctx context.Context, db queries.DBTX, accountID string) (Balance, bool, error) {
	row, err := queries.New(db).LockOpenBalance(ctx, accountID)
	if postgres.NoRows(err) {
		return Balance{}, false, nil
	}
	return fromRow(row), err == nil, err
}

func fromRow(row queries.Balance) Balance {
	return Balance{
		AccountID: row.AccountID, Period: row.Period, months: int(row.Months), reserves: row.Reserves,
		Cycle:    Cycle{Source: row.Source, Anchor: row.Anchor, Start: addMonths(row.Anchor, int(row.Months))},
		StartsAt: row.StartsAt, EndsAt: row.EndsAt, Tier: plans.Tier(row.Tier), Granted: row.Granted,
		ValidUntil: row.ValidUntil, Overage: row.Overage, OverageLimit: row.OverageLimit, OverageMicros: row.OverageMicros, OverageOff: row.OverageOff, alertAt: row.AlertAt,
		Included: row.Included,
		TTS:      row.Tts, STT: row.Stt, LLM: row.Llm, RAG: row.Rag, Held: row.Held, Requests: row.Requests,
	}
}

func insertBalance(ctx context.Context, db queries.DBTX, b Balance) error {
	return queries.New(db).InsertBalance(ctx, queries.InsertBalanceParams{
		AccountID: b.AccountID, Period: b.Period, Source: b.Cycle.Source, Anchor: b.Cycle.Anchor, Months: int32(b.months),
		StartsAt: b.StartsAt, EndsAt: b.EndsAt, ValidUntil: b.ValidUntil, Tier: string(b.Tier), Granted: b.Granted,
		Included: b.Included, OverageLimit: b.OverageLimit, OverageMicros: b.OverageMicros, Reserves: b.reserves,
	})
}

func shortenPeriod(ctx context.Context, db queries.DBTX, b Balance, at time.Time) error {
	return queries.New(db).ShortenPeriod(ctx,
		queries.ShortenPeriodParams{AccountID: b.AccountID, Period: b.Period, EndsAt: at})
}

func closePeriod(ctx context.Context, db queries.DBTX, accountID string) error {
	return queries.New(db).ClosePeriod(ctx, accountID)
}

// owner is whom a key spends for.
type owner struct {
	accountID, family string
	limit             int64
}

func findOwners(ctx context.Context, db queries.DBTX, keyIDs []string) (map[string]owner, error) {
	rows, err := queries.New(db).KeyOwners(ctx, keyIDs)
	found := make(map[string]owner, len(rows))
	for _, row := range rows {
		found[row.ID] = owner{accountID: row.AccountID, family: row.Family, limit: orElse(row.CreditLimit, noLimit)}
	}
	return found, err
}

func optional(s string) *string {
	if s == "" {
		return nil
	}
	return &s
}

func orElse[T any](p *T, otherwise T) T {
	if p == nil {
		return otherwise
	}
	return *p
}

func orNone(n int64) *int64 {
	if n == none {
		return nil
	}
	return &n
}
