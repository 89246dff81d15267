package credits

import (
	"context"
	"encoding/binary"
	"time"

	"github.com/keymeter/keymeter/internal/fault"
	"github.com/keymeter/keymeter/internal/plans"
	"github.com/keymeter/keymeter/internal/postgres"
)

// Hold is a wish to hold credits for work whose cost is known at its end. EventID is the id of the event that it
// becomes. Whose the credits are is said as in Event.
type Hold struct {
	EventID          string
	AccountID, KeyID string
	Resolved         bool
	Family           string
	CreditLimit      *int64
	Category         plans.Category
	Credits          int64
	TTL              time.Duration
}

// ReservationState is what became of a reservation.
type ReservationState string

// The states.
const (
	Held     ReservationState = "held"
	Settled  ReservationState = "settled"
	Released ReservationState = "released"
	Expired  ReservationState = "expired" // holds nothing any more, and can still be settled
)

// Reservation is credits that are held, or were. A hold belongs to the period in which it was made. What it is settled
// with is charged to the period that is the current one then.
type Reservation struct {
	ID, EventID, AccountID, KeyID string
	Category                      plans.Category
	State                         ReservationState
	Held                          int64
	Credits                       int64 // charged
	Uncollected                   int64 // what it cost beyond what could be charged
	ExpiresAt                     time.Time

	family          string
	period          int32
	createdAt       time.Time
	made, settledBy fingerprint
}

// Cost is what something cost in the end, under the rules of Event.
type Cost struct {
	Credits          *int64
	Provider         string
	Quantity, Output *int64
	BYOK             bool
}

var (
	errNoReservation = fault.New(fault.NotFound, "reservation_not_found", "There is no such reservation.")
	errSettled       = fault.New(fault.Conflict, "reservation_settled", "The reservation has been settled already.")
	errReleased      = fault.New(fault.Conflict, "reservation_released", "The reservation has been released already.")
)

// expireAtOnce is how many reservations ExpireHolds frees in a transaction.
const expireAtOnce = 1000

// Reserve holds credits, as far as a spend of them would be let through. The same hold again is the same reservation,
// whatever has become of it.
func (c *Credits) Reserve(ctx context.Context, h Hold) (Reservation, error) {
	drafts, err := c.draft(ctx, []Event{{
		ID: h.EventID, AccountID: h.AccountID, KeyID: h.KeyID, Resolved: h.Resolved, Family: h.Family,
		CreditLimit: h.CreditLimit, Category: h.Category, Credits: &h.Credits,
	}})
	if err != nil {
		return Reservation{}, err
	}
	d := &drafts[0]
	if d.outcome.Refusal != nil {
		return Reservation{}, d.outcome.Refusal
	}
	made := hashed(binary.AppendVarint(d.fingerprint[:], int64(h.TTL)))
	var r Reservation
	err = c.inLedger(ctx, d, func(tx postgres.Tx, l *ledger, a *account) error {
		before, ok, err := findReservationOfEvent(ctx, tx, d.accountID, d.id)
		switch {
		case err != nil:
			return err
		case ok && before.made != made:
			return reservedConflict(d.id)
		case ok:
			r = before
			return nil
		}
		taken, err := recorded(ctx, tx, d)
		if err != nil {
			return err
		}
		if taken {
			return eventConflict(d.id)
		}
		if refusal := a.refuse(d); refusal != nil {
			return refusal
		}
		r = Reservation{
			ID: c.ids.New("rsv"), EventID: d.id, AccountID: d.accountID, KeyID: d.keyID, Category: d.category,
			State: Held, Held: d.cost, ExpiresAt: l.now.Add(h.TTL), family: d.family, period: a.balance.Period,
			createdAt: l.now, made: made,
		}
		l.hold(r.AccountID, r.period, r.family, r.Held)
		if r.KeyID != "" {
			a.budget(r.family).decidedBy(d.limit)
		}
		return insertReservation(ctx, tx, a.balance, r)
	})
	return r, err
}

// Settle ends a reservation with what the work cost. That is charged as far as what was held, the plan and the key's
// own limit allow, as an event of the time at which the hold was made. The same again answers as the first time.
func (c *Credits) Settle(ctx context.Context, id string, cost Cost) (Reservation, error) {
	d, err := c.settlement(ctx, id, cost)
	if err != nil {
		return Reservation{}, err
	}
	var r Reservation
	err = c.inLedger(ctx, d, func(tx postgres.Tx, l *ledger, a *account) error {
		r, err = findReservation(ctx, tx, id)
		switch {
		case err != nil:
			return err
		case r.State == Settled && r.settledBy == d.fingerprint:
			return nil
		case r.State == Settled:
			return errSettled
		case r.State == Released:
			return errReleased
		}
		if d.refusal != nil {
			return d.refusal
		}
		// What is held is spent already, whatever a key's limit has become since.
		allowed := a.leftFor(d.family, d.limit)
		if r.State == Held {
			if r.period == a.balance.Period {
				allowed += r.Held
			}
			l.hold(r.AccountID, r.period, r.family, -r.Held)
		}
		r.State, r.settledBy = Settled, d.fingerprint
		r.Credits = min(d.cost, allowed)
		r.Uncollected = d.cost - r.Credits
		l.record(a, entry{draft: d, credits: r.Credits, uncollected: r.Uncollected, occurredAt: r.createdAt})
		return endReservation(ctx, tx, r)
	})
	return r, err
}

// settlement is the event that a reservation becomes.
func (c *Credits) settlement(ctx context.Context, id string, cost Cost) (*draft, error) {
	r, err := findReservation(ctx, c.pool, id)
	if err != nil {
		return nil, err
	}
	event := Event{
		ID: r.EventID, AccountID: r.AccountID, KeyID: r.KeyID, Family: r.family, Resolved: true, Category: r.Category,
		Credits: cost.Credits, Provider: cost.Provider, Quantity: cost.Quantity, Output: cost.Output, BYOK: cost.BYOK,
	}
	if r.KeyID != "" {
		owners, err := findOwners(ctx, c.pool, []string{r.KeyID})
		if err != nil {
			return nil, err
		}
		if limit := owners[r.KeyID].limit; limit != noLimit {
			event.CreditLimit = &limit
		}
	}
	drafts, err := c.draft(ctx, []Event{event})
	if err != nil {
		return nil, err
	}
	return &drafts[0], nil
}

// Release ends a reservation at no cost. Releasing it again, or one that has expired, changes nothing.
func (c *Credits) Release(ctx context.Context, id string) (Reservation, error) {
	r, err := findReservation(ctx, c.pool, id)
	if err != nil {
		return Reservation{}, err
	}
	whose := &draft{accountID: r.AccountID, limit: noLimit}
	err = c.inLedger(ctx, whose, func(tx postgres.Tx, l *ledger, _ *account) error {
		r, err = findReservation(ctx, tx, id)
		switch {
		case err != nil:
			return err
		case r.State == Settled:
			return errSettled
		case r.State != Held:
			return nil
		}
		l.hold(r.AccountID, r.period, r.family, -r.Held)
		r.State = Released
		return endReservation(ctx, tx, r)
	})
	return r, err
}

// ExpireHolds frees what is held by reservations that have run out. The next spend of an account does so too.
func (c *Credits) ExpireHolds(ctx context.Context) error {
	for {
		now := c.now()
		accountIDs, err := accountsWithExpired(ctx, c.pool, now)
		if err != nil || len(accountIDs) == 0 {
			return err
		}
		err = postgres.InTx(ctx, c.pool, func(tx postgres.Tx) error {
			balances, err := lockOpenBalances(ctx, tx, accountIDs, now)
			if err != nil {
				return err
			}
			l := newLedger(now, balances...)
			if err := l.expire(ctx, tx, accountIDs); err != nil {
				return err
			}
			return l.writeAll(ctx, tx)
		})
		if err != nil {
			return err
		}
	}
}

// inLedger runs fn in a transaction that holds the current period of the draft's account, and then writes what fn has
// decided. Reservations that have run out are freed before.
func (c *Credits) inLedger(
	ctx context.Context, d *draft, fn func(tx postgres.Tx, l *ledger, a *account) error,
) error {
	return postgres.InTx(ctx, c.pool, func(tx postgres.Tx) error {
		now := c.now()
		balance, err := c.lockCurrentTx(ctx, tx, d.accountID, now)
		if err != nil {
			return err
		}
		l := newLedger(now, balance)
		if err := l.readBudget(ctx, tx, d); err != nil {
			return err
		}
		if err := l.expire(ctx, tx, []string{d.accountID}); err != nil {
			return err
		}
		if err := fn(tx, l, l.accounts[d.accountID]); err != nil {
			return err
		}
		if err := c.raise(ctx, tx, l); err != nil {
			return err
		}
		return l.writeAll(ctx, tx)
	})
}
