package billing

import (
	"context"
	"time"

	"github.com/keymeter/keymeter/gen/queries"
	"github.com/keymeter/keymeter/internal/credits"
	"github.com/keymeter/keymeter/internal/postgres"
)

// overageWithoutBill reads a table of internal/credits.
func overageWithoutBill(ctx context.Context, db queries.DBTX, accountID string) ([]credits.Overage, error) {
	rows, err := queries.New(db).ListOverageWithoutBill(ctx, accountID)
	found := make([]credits.Overage, len(rows))
	for i, row := range rows {
		found[i] = credits.Overage{
			ID: row.ID, AccountID: row.AccountID, Period: row.Period, Subscription: row.Subscription,
			StartsAt: row.StartsAt, EndsAt: row.EndsAt, Credits: row.Credits, UnitMicros: row.UnitMicros,
			CreatedAt: row.CreatedAt,
		}
	}
	return found, err
}

func accountsWithNewOverage(ctx context.Context, db queries.DBTX, since time.Time, limit int32) ([]string, error) {
	return queries.New(db).ListAccountsWithNewOverage(ctx, queries.ListAccountsWithNewOverageParams{
		Since: since, MaxRows: limit,
	})
}

func insertBill(ctx context.Context, db queries.DBTX, bill Bill, now time.Time) error {
	return queries.New(db).InsertOverageBill(ctx, queries.InsertOverageBillParams{
		OverageID: bill.OverageID, AccountID: bill.AccountID, CustomerID: optional(bill.CustomerID),
		SubscriptionID: optional(bill.SubscriptionID), StartsAt: bill.StartsAt, EndsAt: bill.EndsAt,
		Credits: bill.Credits, UnitMicros: bill.UnitMicros, AmountCents: bill.AmountCents, State: string(bill.State), Now: now,
	})
}

func claimBill(ctx context.Context, db queries.DBTX, now, until time.Time) (bill Bill, found bool, err error) {
	row, err := queries.New(db).ClaimOverageBill(ctx, queries.ClaimOverageBillParams{Now: now, Until: until})
	if postgres.NoRows(err) {
		return Bill{}, false, nil
	}
	return fromBillRow(row), err == nil, err
}

func openBills(ctx context.Context, db queries.DBTX, limit int32) ([]Bill, error) {
	rows, err := queries.New(db).ListOpenOverage(ctx, limit)
	found := make([]Bill, len(rows))
	for i, row := range rows {
		found[i] = fromBillRow(row)
	}
	return found, err
}

func fromBillRow(row queries.OverageBill) Bill {
	return Bill{
		OverageID: row.OverageID, AccountID: row.AccountID, CustomerID: deref(row.CustomerID),
		SubscriptionID: deref(row.SubscriptionID), StartsAt: row.StartsAt, EndsAt: row.EndsAt, Credits: row.Credits,
		UnitMicros: row.UnitMicros, AmountCents: row.AmountCents, State: BillState(row.State),
		InvoiceID: deref(row.InvoiceID), ItemID: deref(row.ItemID), Attempts: int(row.Attempts),
		NextAttemptAt: row.NextAttemptAt, LastError: deref(row.LastError),
	}
}

func billed(ctx context.Context, db queries.DBTX, overageID, invoiceID, itemID string) error {
	return queries.New(db).BilledOverage(ctx, queries.BilledOverageParams{
		OverageID: overageID, InvoiceID: optional(invoiceID), ItemID: optional(itemID),
	})
}

func billFailed(
	ctx context.Context, db queries.DBTX, overageID string, state BillState, reason string, next time.Time,
) error {
	return queries.New(db).FailedOverageBill(ctx, queries.FailedOverageBillParams{
		OverageID: overageID, State: string(state), LastError: reason, NextAttemptAt: next,
	})
}

// retryBill reports whether a parked bill is tried again, and whether there is a bill.
func retryBill(ctx context.Context, db queries.DBTX, overageID string, now time.Time) (retried, known bool, err error) {
	q := queries.New(db)
	rows, err := q.RetryOverageBill(ctx, queries.RetryOverageBillParams{OverageID: overageID, Now: now})
	if err != nil || rows > 0 {
		return rows > 0, true, err
	}
	known, err = q.OverageBillExists(ctx, overageID)
	return false, known, err
}

// reviveStranded has overage looked at once more that was put onto an invoice of subscriptions that have ended since.
func reviveStranded(ctx context.Context, db queries.DBTX, accountID string, ended []string, now time.Time) error {
	_, err := queries.New(db).ReviveStrandedOverage(ctx, queries.ReviveStrandedOverageParams{
		AccountID: accountID, Ended: ended, Now: now,
	})
	return err
}

// billedOverage returns the overage that an account has on an invoice, or on one to come.
func billedOverage(ctx context.Context, db queries.DBTX, accountID string) (overageIDs []string, err error) {
	return queries.New(db).ListBilledOverage(ctx, accountID)
}

// voidBills notes that the invoices were voided that overage was on.
func voidBills(ctx context.Context, db queries.DBTX, accountID string, overageIDs []string) error {
	if len(overageIDs) == 0 {
		return nil
	}
	return queries.New(db).VoidOverageBills(ctx, queries.VoidOverageBillsParams{AccountID: accountID, OverageIds: overageIDs})
}

func optional(s string) *string {
	if s == "" {
		return nil
	}
	return &s
}
