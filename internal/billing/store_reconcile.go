package billing

import (
	"context"
	"time"

	"github.com/keymeter/keymeter/gen/queries"
	"github.com/keymeter/keymeter/internal/postgres"
)

// claimReconciliation returns up to when events were looked through, first if never. ok is false if another has the claim.
func claimReconciliation(
	ctx context.Context, db queries.DBTX, first, now, until time.Time,
) (since time.Time, ok bool, err error) {
	q := queries.New(db)
	if err := q.EnsureReconciliation(ctx, first); err != nil {
		return time.Time{}, false, err
	}
	since, err = q.ClaimReconciliation(ctx, queries.ClaimReconciliationParams{Now: now, Until: until})
	if postgres.NoRows(err) {
		return time.Time{}, false, nil
	}
	return since, err == nil, err
}

func moveReconciliation(ctx context.Context, db queries.DBTX, to time.Time) error {
	return queries.New(db).MoveReconciliation(ctx, to)
}

func releaseReconciliation(ctx context.Context, db queries.DBTX, until time.Time) error {
	return queries.New(db).ReleaseReconciliation(ctx, until)
}

type dueRow struct{ accountID, customerID string }

func accountsToCheck(ctx context.Context, db queries.DBTX, now time.Time, limit int32) ([]dueRow, error) {
	rows, err := queries.New(db).ListBillingAccountsToCheck(ctx, queries.ListBillingAccountsToCheckParams{
		Now: now, MaxRows: limit,
	})
	due := make([]dueRow, len(rows))
	for i, row := range rows {
		due[i] = dueRow{row.AccountID, deref(row.CustomerID)}
	}
	return due, err
}

func putOffCheck(ctx context.Context, db queries.DBTX, accountID string, until time.Time) error {
	return queries.New(db).PutOffCheck(ctx, queries.PutOffCheckParams{AccountID: accountID, CheckAt: until})
}

func countTroubles(ctx context.Context, db queries.DBTX) (Troubles, error) {
	row, err := queries.New(db).CountBillingTroubles(ctx)
	return Troubles{
		FailingEvents: row.FailingEvents, PendingOverage: row.PendingOverage, ParkedOverage: row.ParkedOverage,
		Duplicates: row.Duplicates,
	}, err
}
