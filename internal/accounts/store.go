package accounts

import (
	"context"
	"time"

	"github.com/keymeter/keymeter/gen/queries"
	"github.com/keymeter/keymeter/internal/plans"
	"github.com/keymeter/keymeter/internal/postgres"
)

func insert(ctx context.Context, db queries.DBTX, a Account) error {
	err := queries.New(db).InsertAccount(ctx, queries.InsertAccountParams{
		ID: a.ID, ExternalID: a.ExternalID, Name: a.Name, Email: a.Email, Tier: string(a.Tier), CreatedAt: a.CreatedAt,
	})
	if postgres.Violates(err, "accounts_external_id_key") {
		return ErrExists.Because(err)
	}
	return err
}

func get(ctx context.Context, db queries.DBTX, id string) (Account, error) {
	row, err := queries.New(db).GetAccount(ctx, id)
	if postgres.NoRows(err) {
		return Account{}, ErrNotFound
	}
	return fromRow(queries.ListAccountsRow(row)), err
}

func list(ctx context.Context, db queries.DBTX, p ListParams) ([]Account, error) {
	rows, err := queries.New(db).ListAccounts(ctx, queries.ListAccountsParams{
		Before: p.Cursor, ExternalID: p.ExternalID, MaxRows: int32(p.Limit) + 1,
	})
	if err != nil {
		return nil, err
	}
	accounts := make([]Account, len(rows))
	for i, row := range rows {
		accounts[i] = fromRow(row)
	}
	return accounts, nil
}

func exists(ctx context.Context, db queries.DBTX, id string) (bool, error) {
	return queries.New(db).AccountExists(ctx, id)
}

func suspend(ctx context.Context, db queries.DBTX, id string, now time.Time) error {
	return found(queries.New(db).SuspendAccount(ctx, queries.SuspendAccountParams{ID: id, Now: now}))
}

func resume(ctx context.Context, db queries.DBTX, id string) error {
	return found(queries.New(db).ResumeAccount(ctx, id))
}

func setRateLimit(ctx context.Context, db queries.DBTX, id string, requests int32, window time.Duration) error {
	p := queries.SetAccountRateLimitParams{ID: id}
	if requests > 0 {
		seconds := int32(window / time.Second)
		p.Requests, p.Seconds = &requests, &seconds
	}
	return found(queries.New(db).SetAccountRateLimit(ctx, p))
}

func setTier(ctx context.Context, db queries.DBTX, id string, tier plans.Tier) error {
	return queries.New(db).SetAccountTier(ctx, queries.SetAccountTierParams{ID: id, Tier: string(tier)})
}

func found(rows int64, err error) error {
	if err == nil && rows == 0 {
		return ErrNotFound
	}
	return err
}

func fromRow(row queries.ListAccountsRow) Account {
	return Account{
		ID: row.ID, ExternalID: row.ExternalID, Name: row.Name, Email: row.Email, Tier: plans.Tier(row.Tier),
		SuspendedAt: row.SuspendedAt, StripeCustomerID: row.CustomerID, CreatedAt: row.CreatedAt,
	}
}
