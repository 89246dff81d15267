package credits

import (
	"context"
	"errors"

	"github.com/keymeter/keymeter/internal/fault"
	"github.com/keymeter/keymeter/internal/postgres"
)

// Reversal is a correction: an event of its own that gives back the credits of another, which stays.
type Reversal struct {
	ID, Reverses string
	Credits      int64 // given back
	Duplicate    bool  // it was reversed before
}

// reversalPrefix makes the id of a reversal of that of its event.
const reversalPrefix = "reversal:"

var errNoEvent = fault.New(fault.NotFound, "event_not_found", "There is no such event.")

// Reverse reverses an event of an account, once. Reversals are not reversed.
//
// An event of the current period is reversed there, by one of negative credits. A period that is over does not change
// any more: its event gets a reversal of 0 credits in the current period, and a grant there whose source is the
// reversal's id gives the credits back. So the sums of a period are always those of its events and grants.
func (c *Credits) Reverse(ctx context.Context, accountID, eventID string) (Reversal, error) {
	var reversal Reversal
	whose := &draft{accountID: accountID, limit: noLimit}
	err := c.inLedger(ctx, whose, func(tx postgres.Tx, l *ledger, a *account) error {
		event, ok, err := findReversible(ctx, tx, accountID, eventID)
		if err != nil {
			return err
		}
		if !ok || event.reverses != "" {
			return errNoEvent
		}
		reversal = Reversal{ID: reversalPrefix + eventID, Reverses: eventID, Credits: event.credits}
		if reversal.Duplicate, err = reversed(ctx, tx, accountID, reversal); err != nil || reversal.Duplicate {
			return err
		}
		return c.reverseTx(ctx, tx, l, a, event, reversal)
	})
	if errors.Is(err, errNoAccount) {
		err = errNoEvent
	}
	return reversal, err
}

// reversed reports whether the reversal is there. Its id may have been taken by an event of the caller's.
func reversed(ctx context.Context, tx postgres.Tx, accountID string, r Reversal) (bool, error) {
	before, ok, err := findReversible(ctx, tx, accountID, r.ID)
	if err != nil {
		return false, err
	}
	_, reserved, err := findReservationOfEvent(ctx, tx, accountID, r.ID)
	if err == nil && (reserved || ok && before.reverses != r.Reverses) {
		err = eventConflict(r.ID)
	}
	return ok, err
}

func (c *Credits) reverseTx(
	ctx context.Context, tx postgres.Tx, l *ledger, a *account, event reversible, r Reversal,
) error {
	event.id = r.ID
	event.fingerprint = hashed([]byte(r.ID))
	correction := entry{draft: &event.draft, reverses: r.Reverses}
	if event.period == a.balance.Period {
		correction.credits = -event.credits
	} else if event.credits > 0 {
		a.balance.Granted += event.credits
		expiresAt := carriedUntil(a.balance, Standing{Plan: c.catalogue.Plan(a.balance.Tier), Monthly: Full})
		_, err := c.giveTx(ctx, tx, a.balance, Grant{
			Kind: Adjustment, Amount: event.credits, Source: r.ID, Reason: "Reversal of an event of an earlier period",
			ExpiresAt: expiresAt,
		}, l.now)
		if err != nil {
			return err
		}
	}
	l.record(a, correction)
	return nil
}
