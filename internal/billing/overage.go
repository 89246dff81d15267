package billing

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"time"

	"github.com/keymeter/keymeter/internal/credits"
	"github.com/keymeter/keymeter/internal/fault"
	"github.com/keymeter/keymeter/internal/postgres"
)

var (
	errBillNotFound  = fault.New(fault.NotFound, "overage_not_found", "There is no such overage.")
	errBillNotParked = fault.New(fault.Conflict, "overage_not_parked", "The overage is neither parked nor voided.")
	errNoCustomer    = &Refused{Code: "no_customer", Message: "the account has lost its customer at the billing provider"}
)

// BillState is what has become of an overage.
type BillState string

// The states of a bill.
const (
	BillPending BillState = "pending"
	Billed      BillState = "billed"
	Parked      BillState = "parked"
	Voided      BillState = "voided"
	Unbilled    BillState = "unbilled"
)

// Bill is an overage on its way to an invoice. InvoiceID is "" for one that waits for the next invoice.
type Bill struct {
	OverageID, AccountID, CustomerID, SubscriptionID string
	StartsAt, EndsAt                                 time.Time
	Credits, UnitMicros, AmountCents                 int64
	State                                            BillState
	InvoiceID, ItemID                                string
	Attempts                                         int
	NextAttemptAt                                    time.Time
	LastError                                        string
}

// recordOverage makes bills of overage that no event has led to: of accounts without a subscription, and of periods that
// were ended by usage.
func (b *Billing) recordOverage(ctx context.Context) error {
	accountIDs, err := accountsWithNewOverage(ctx, b.Pool, b.Now().Add(-overageFor), accountsAtOnce)
	if err != nil {
		return err
	}
	for _, accountID := range accountIDs {
		err := postgres.InTx(ctx, b.Pool, func(tx postgres.Tx) error {
			bought, err := lockAccount(ctx, tx, accountID)
			if err != nil {
				return err
			}
			return b.recordOverageTx(ctx, tx, accountID, deref(bought.customerID))
		})
		if err != nil {
			return err
		}
	}
	return nil
}

// recordOverageTx makes a bill of each overage of the account that has none yet. It is called while the account has the
// customer that the overage is to be billed to.
func (b *Billing) recordOverageTx(ctx context.Context, tx postgres.Tx, accountID, customerID string) error {
	overage, err := overageWithoutBill(ctx, tx, accountID)
	if err != nil {
		return err
	}
	for _, o := range overage {
		if err := insertBill(ctx, tx, newBill(o, customerID), b.Now()); err != nil {
			return err
		}
	}
	return nil
}

func newBill(o credits.Overage, customerID string) Bill {
	bill := Bill{
		OverageID: o.ID, AccountID: o.AccountID, StartsAt: o.StartsAt, EndsAt: o.EndsAt,
		Credits: o.Credits, UnitMicros: o.UnitMicros, AmountCents: cents(o.Micros()), State: BillPending,
	}
	switch {
	case o.Subscription == credits.OwnSource:
		bill.State = Unbilled
		return bill
	case bill.AmountCents == 0:
		bill.State = Billed
	}
	bill.CustomerID, bill.SubscriptionID = customerID, o.Subscription
	return bill
}

// cents rounds micro-dollars half up.
func cents(micros int64) int64 { return (micros + 5000) / 10000 }

// workOffBills puts one overage onto an invoice.
func (b *Billing) workOffBills(ctx context.Context) (found bool, err error) {
	now := b.Now()
	bill, found, err := claimBill(ctx, b.Pool, now, now.Add(claimFor))
	if err != nil || !found {
		return false, err
	}
	b.wakeUp() // there may be work for another worker, too
	invoiceID, itemID, failure := b.charge(ctx, bill)
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), claimFor-workTimeout)
	defer cancel()
	if failure == nil {
		return true, billed(ctx, b.Pool, bill.OverageID, invoiceID, itemID)
	}
	state, message := BillPending, "overage could not be billed and will be tried again"
	var refused *Refused
	if errors.As(failure, &refused) && !refused.Configuration {
		state, message = Parked, "overage was refused and is parked"
	}
	b.Logger.LogAttrs(ctx, slog.LevelError, message, slog.String("overage", bill.OverageID),
		slog.String("account", bill.AccountID), slog.Int("attempts", bill.Attempts), slog.String("error", failure.Error()))
	return true, billFailed(ctx, b.Pool, bill.OverageID, state, reason(failure), b.Now().Add(backoff(bill.Attempts, failure)))
}

// charge puts an overage onto the renewal that ends its period, if that is still a draft, else onto the next invoice. A
// subscription that is over has none: then onto one of its own.
func (b *Billing) charge(ctx context.Context, bill Bill) (invoiceID, itemID string, err error) {
	ctx, cancel := context.WithTimeout(ctx, workTimeout)
	defer cancel()
	if bill.CustomerID == "" {
		return "", "", errNoCustomer
	}
	subscriptions, err := b.Provider.Subscriptions(ctx, bill.CustomerID)
	if err != nil {
		return "", "", err
	}
	item := bill.item()
	live := slices.ContainsFunc(subscriptions, func(s Subscription) bool {
		return s.ID == bill.SubscriptionID && s.Status.Live()
	})
	if !live {
		invoiceID, err = b.Provider.BillAlone(ctx, OwnInvoice{
			AccountID: bill.AccountID, CustomerID: bill.CustomerID, SubscriptionID: bill.SubscriptionID,
			Description: "Usage of a subscription that has ended", Items: []OverageItem{item}, Key: item.Key,
		})
		return invoiceID, "", err
	}
	draft, ok, err := b.Provider.RenewalDraft(ctx, bill.CustomerID, bill.SubscriptionID, bill.EndsAt)
	if err != nil {
		return "", "", err
	}
	if ok {
		item.InvoiceID = draft
		itemID, err = b.Provider.AddOverage(ctx, item)
		if !errors.Is(err, ErrInvoiceClosed) {
			return draft, itemID, err
		}
		item.InvoiceID = ""
	}
	itemID, err = b.Provider.AddOverage(ctx, item)
	return "", itemID, err
}

func (bill Bill) item() OverageItem {
	const day = "2 Jan 2006"
	return OverageItem{
		AccountID: bill.AccountID, CustomerID: bill.CustomerID, SubscriptionID: bill.SubscriptionID,
		AmountCents: bill.AmountCents, Credits: bill.Credits, UnitPrice: dollars(bill.UnitMicros),
		Description: fmt.Sprintf("Usage beyond the plan, %s to %s: %d credits at $%s",
			bill.StartsAt.UTC().Format(day), bill.EndsAt.UTC().Format(day), bill.Credits, dollars(bill.UnitMicros)),
		PeriodStart: bill.StartsAt, PeriodEnd: bill.EndsAt, Key: overageKey + bill.OverageID,
	}
}

// overageKey begins the keys of the items of overage.
const overageKey = "overage:"

// dollars writes micro-dollars as an exact decimal.
func dollars(micros int64) string {
	text := strings.TrimRight(fmt.Sprintf("%d.%06d", micros/1e6, micros%1e6), "0")
	return strings.TrimSuffix(text, ".")
}

// RetryBill has an overage tried again that is parked, or billed anew whose invoice was voided.
func (b *Billing) RetryBill(ctx context.Context, overageID string) error {
	retried, known, err := retryBill(ctx, b.Pool, overageID, b.Now())
	switch {
	case err != nil:
		return err
	case !known:
		return errBillNotFound
	case !retried:
		return errBillNotParked
	}
	b.wakeUp()
	return nil
}
