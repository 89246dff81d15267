package billing

import (
	"context"
	"fmt"
	"math/bits"
	"strconv"

	"github.com/keymeter/keymeter/internal/credits"
	"github.com/keymeter/keymeter/internal/fault"
	"github.com/keymeter/keymeter/internal/postgres"
)

var errTopUpsNotSold = fault.New(fault.Conflict, "top_ups_not_sold", "Top-ups are not for sale here.")

// TopUpParams describes how many credits the user wants to buy. Key identifies the request, for retries.
type TopUpParams struct {
	AccountID             string
	Credits               int64
	SuccessURL, CancelURL string
	Key                   string
}

// TopUp returns the page on which the user buys credits.
func (b *Billing) TopUp(ctx context.Context, p TopUpParams) (Session, error) {
	price, sold := b.Catalogue.TopUp()
	if !sold {
		return Session{}, errTopUpsNotSold
	}
	wrong := append(b.Redirects.check("successUrl", p.SuccessURL), b.Redirects.check("cancelUrl", p.CancelURL)...)
	if p.Credits < price.MinCredits || p.Credits > price.MaxCredits {
		wrong = append(wrong, fault.Field{
			Name: "credits", Message: fmt.Sprintf("must be between %d and %d", price.MinCredits, price.MaxCredits),
		})
	}
	if len(wrong) > 0 {
		return Session{}, fault.InvalidFields(wrong)
	}
	return b.withCustomer(ctx, p.AccountID, func(customerID string) (Session, error) {
		return b.Provider.CreateTopUp(ctx, TopUp{
			AccountID: p.AccountID, CustomerID: customerID, Name: fmt.Sprintf("%d credits", p.Credits),
			Credits: p.Credits, AmountCents: price.Cents(p.Credits),
			SuccessURL: p.SuccessURL, CancelURL: p.CancelURL, Key: p.Key,
		})
	})
}

// applyTopUpsTx gives what was paid for, and takes back what was paid back, each once.
func (b *Billing) applyTopUpsTx(ctx context.Context, tx postgres.Tx, accountID string, payments []Payment) error {
	for _, p := range payments {
		if err := b.applyTopUpTx(ctx, tx, accountID, p); err != nil {
			return err
		}
	}
	return nil
}

func (b *Billing) applyTopUpTx(ctx context.Context, tx postgres.Tx, accountID string, p Payment) error {
	if !p.Paid || p.Credits <= 0 {
		return nil
	}
	_, err := b.Credits.GrantTx(ctx, tx, credits.Grant{
		AccountID: accountID, Kind: credits.TopUp, Amount: p.Credits, Source: p.SessionID, Reason: "Top-up",
	})
	if err != nil {
		return err
	}
	if err := insertTopUp(ctx, tx, accountID, p, b.Now()); err != nil {
		return err
	}
	asked := reclaimable(p)
	more, change, err := reclaimTopUp(ctx, tx, p.SessionID, asked)
	switch {
	case err != nil:
		return err
	case more > 0:
		_, err = b.Credits.TakeBackTx(ctx, tx, accountID, p.SessionID, fmt.Sprintf("%s:%d", p.SessionID, change), more)
	case more < 0:
		_, err = b.Credits.GiveBackTx(ctx, tx, accountID, p.SessionID, strconv.Itoa(int(change)), asked,
			"Top-up, its money has stayed after all")
	}
	return err
}

// reclaimable is how many credits of a top-up its payer has no right to: all while it is disputed, else the refunded part
// of them, rounded down.
func reclaimable(p Payment) int64 {
	switch {
	case p.Disputed || p.RefundedCents >= p.AmountCents && p.RefundedCents > 0:
		return p.Credits
	case p.RefundedCents <= 0:
		return 0
	}
	high, low := bits.Mul64(uint64(p.Credits), uint64(p.RefundedCents))
	share, _ := bits.Div64(high, low, uint64(p.AmountCents)) // less than credits, so that it fits
	return int64(share)
}
