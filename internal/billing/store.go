package billing

import (
	"context"
	"slices"
	"time"

	"github.com/keymeter/keymeter/gen/queries"
	"github.com/keymeter/keymeter/internal/postgres"
)

// boughtRow is what we know of an account at the provider.
type boughtRow struct {
	customerID, subscriptionID *string
	periodEnd, pastDueSince    *time.Time
	version                    int64
}

func getAccount(ctx context.Context, db queries.DBTX, accountID string) (boughtRow, error) {
	row, err := queries.New(db).GetBillingAccount(ctx, accountID)
	if postgres.NoRows(err) {
		return boughtRow{}, nil
	}
	return fromRow(row), err
}

// lockAccount returns the account's row and holds it. There is one afterwards.
func lockAccount(ctx context.Context, db queries.DBTX, accountID string) (boughtRow, error) {
	q := queries.New(db)
	if err := q.EnsureBillingAccount(ctx, accountID); err != nil {
		return boughtRow{}, err
	}
	row, err := q.LockBillingAccount(ctx, accountID)
	return fromRow(row), err
}

func fromRow(row queries.BillingAccount) boughtRow {
	return boughtRow{
		customerID: row.CustomerID, subscriptionID: row.SubscriptionID,
		periodEnd: row.CurrentPeriodEnd, pastDueSince: row.PastDueSince, version: row.Version,
	}
}

func findByCustomer(ctx context.Context, db queries.DBTX, customerID string) (string, error) {
	row, err := queries.New(db).FindBillingAccountByCustomer(ctx, &customerID)
	if postgres.NoRows(err) {
		return "", nil
	}
	return row.AccountID, err
}

// adoptCustomer gives the account the customer, if the account exists and has none. It returns "" if it can't.
func adoptCustomer(ctx context.Context, pool *postgres.Pool, accountID, customerID string) (string, error) {
	exists, err := queries.New(pool).AccountExists(ctx, accountID)
	if err != nil || !exists {
		return "", err
	}
	if err := setCustomer(ctx, pool, accountID, customerID); err != nil {
		return "", err
	}
	return findByCustomer(ctx, pool, customerID)
}

func setCustomer(ctx context.Context, db queries.DBTX, accountID, customerID string) error {
	q := queries.New(db)
	if err := q.EnsureBillingAccount(ctx, accountID); err != nil {
		return err
	}
	return q.SetCustomer(ctx, queries.SetCustomerParams{AccountID: accountID, CustomerID: customerID})
}

func claimCheckout(ctx context.Context, db queries.DBTX, accountID string, now, until time.Time) error {
	q := queries.New(db)
	if err := q.EnsureBillingAccount(ctx, accountID); err != nil {
		return err
	}
	rows, err := q.ClaimCheckout(ctx, queries.ClaimCheckoutParams{AccountID: accountID, Now: now, Until: until})
	if err == nil && rows == 0 {
		return ErrCheckoutInProgress
	}
	return err
}

func releaseCheckout(ctx context.Context, db queries.DBTX, accountID string, until time.Time) error {
	return queries.New(db).ReleaseCheckout(ctx, queries.ReleaseCheckoutParams{AccountID: accountID, Until: until})
}

// followedRow is what is kept of the subscription that decides; without one it is zero.
type followedRow struct {
	subscription *Subscription
	pastDueSince *time.Time
	checkAt      time.Time // when to read it anew
}

func setSubscription(ctx context.Context, db queries.DBTX, accountID string, f followedRow, now time.Time) error {
	params := queries.SetSubscriptionParams{AccountID: accountID, Now: now}
	if s := f.subscription; s != nil {
		status := string(s.Status)
		params.SubscriptionID, params.SubscriptionStatus, params.CurrentPeriodEnd = &s.ID, &status, &s.PeriodEnd
		params.PastDueSince, params.CheckAt = f.pastDueSince, &f.checkAt
	}
	return queries.New(db).SetSubscription(ctx, params)
}

// checkBy has the account read anew at a time, if not sooner.
func checkBy(ctx context.Context, db queries.DBTX, accountID string, at time.Time) error {
	return queries.New(db).CheckBy(ctx, queries.CheckByParams{AccountID: accountID, At: at})
}

// checked notes that the account has been read now, and that nothing is bought but top-ups.
func checked(ctx context.Context, db queries.DBTX, accountID string, now time.Time) error {
	return queries.New(db).Checked(ctx, queries.CheckedParams{AccountID: accountID, Now: now})
}

func clearCustomer(ctx context.Context, db queries.DBTX, accountID string) error {
	return queries.New(db).ClearCustomer(ctx, accountID)
}

type duplicateRow struct {
	subscriptionID, keptID string
	cancelled              bool
}

type duplicateRows []duplicateRow

func (d duplicateRows) has(subscriptionID string) bool {
	return slices.ContainsFunc(d, func(row duplicateRow) bool { return row.subscriptionID == subscriptionID })
}

func duplicatesOf(ctx context.Context, db queries.DBTX, accountID string) (duplicateRows, error) {
	rows, err := queries.New(db).ListDuplicateSubscriptions(ctx, accountID)
	found := make(duplicateRows, len(rows))
	for i, row := range rows {
		found[i] = duplicateRow{row.SubscriptionID, row.KeptID, row.CancelledAt != nil}
	}
	return found, err
}

func insertDuplicate(ctx context.Context, db queries.DBTX, accountID, subscriptionID, keptID string, now time.Time) error {
	return queries.New(db).InsertDuplicateSubscription(ctx, queries.InsertDuplicateSubscriptionParams{
		SubscriptionID: subscriptionID, AccountID: accountID, KeptID: keptID, FoundAt: now,
	})
}

func duplicateCancelled(ctx context.Context, db queries.DBTX, subscriptionID string, now time.Time) error {
	return queries.New(db).CancelledDuplicateSubscription(ctx, queries.CancelledDuplicateSubscriptionParams{
		SubscriptionID: subscriptionID, Now: now,
	})
}
