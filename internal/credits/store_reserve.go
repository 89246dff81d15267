package credits

import (
	"context"
	"slices"
	"time"

	"github.com/keymeter/keymeter/gen/queries"
	"github.com/keymeter/keymeter/internal/plans"
	"github.com/keymeter/keymeter/internal/postgres"
)

func findReservation(ctx context.Context, db queries.DBTX, id string) (Reservation, error) {
	row, err := queries.New(db).FindReservation(ctx, id)
	if postgres.NoRows(err) {
		return Reservation{}, errNoReservation
	}
	return fromReservation(row), err
}

func findReservationOfEvent(ctx context.Context, db queries.DBTX, accountID, eventID string) (Reservation, bool, error) {
	row, err := queries.New(db).FindReservationOfEvent(ctx,
		queries.FindReservationOfEventParams{AccountID: accountID, EventID: eventID})
	if postgres.NoRows(err) {
		return Reservation{}, false, nil
	}
	return fromReservation(row), err == nil, err
}

func fromReservation(row queries.Reservation) Reservation {
	r := Reservation{
		ID: row.ID, EventID: row.EventID, AccountID: row.AccountID, KeyID: orElse(row.KeyID, ""),
		Category: plans.Category(row.Category), State: ReservationState(row.State), Held: row.Held,
		Credits: orElse(row.Credits, 0), Uncollected: orElse(row.Uncollected, 0), ExpiresAt: row.ExpiresAt,
		family: orElse(row.Family, ""), period: row.Period, createdAt: row.CreatedAt,
	}
	copy(r.made[:], row.Fingerprint)
	copy(r.settledBy[:], row.Settlement)
	return r
}

// insertReservation writes a reservation. b is the account's open period.
func insertReservation(ctx context.Context, db queries.DBTX, b Balance, r Reservation) error {
	if !b.reserves {
		if err := queries.New(db).MarkReserves(ctx, r.AccountID); err != nil {
			return err
		}
	}
	return queries.New(db).InsertReservation(ctx, queries.InsertReservationParams{
		ID: r.ID, AccountID: r.AccountID, EventID: r.EventID, Period: r.period, KeyID: optional(r.KeyID),
		Family: optional(r.family), Category: string(r.Category), Held: r.Held, Fingerprint: r.made[:],
		CreatedAt: r.createdAt, ExpiresAt: r.ExpiresAt,
	})
}

func endReservation(ctx context.Context, db queries.DBTX, r Reservation) error {
	p := queries.EndReservationParams{ID: r.ID, State: string(r.State)}
	if r.State == Settled {
		p.Credits, p.Uncollected, p.Settlement = &r.Credits, &r.Uncollected, r.settledBy[:]
	}
	return queries.New(db).EndReservation(ctx, p)
}

func accountsWithExpired(ctx context.Context, db queries.DBTX, now time.Time) ([]string, error) {
	ids, err := queries.New(db).AccountsWithExpiredReservations(ctx,
		queries.AccountsWithExpiredReservationsParams{Now: now, MaxRows: expireAtOnce})
	slices.Sort(ids)
	return ids, err
}

func lockOpenBalances(ctx context.Context, db queries.DBTX, accountIDs []string, now time.Time) ([]Balance, error) {
	rows, err := queries.New(db).LockOpenBalances(ctx,
		queries.LockOpenBalancesParams{AccountIds: accountIDs, Now: now})
	balances := make([]Balance, len(rows))
	for i := range rows {
		balances[i] = fromLocked(&rows[i])
	}
	return balances, err
}

// readBudget reads what the draft's key has spent.
func (l *ledger) readBudget(ctx context.Context, db queries.DBTX, d *draft) error {
	if d.keyID == "" || d.limit == noLimit {
		return nil
	}
	rows, err := queries.New(db).LatestKeyBudgets(ctx,
		queries.LatestKeyBudgetsParams{AccountIds: []string{d.accountID}, Families: []string{d.family}})
	l.budgeted(rows)
	return err
}

// recorded reports whether there is an event with the draft's id.
func recorded(ctx context.Context, db queries.DBTX, d *draft) (bool, error) {
	rows, err := queries.New(db).FindEvents(ctx,
		queries.FindEventsParams{AccountIds: []string{d.accountID}, Ids: []string{d.id}})
	return len(rows) > 0, err
}

// reversible is an event that may be reversed. reverses is set if it is a reversal itself.
type reversible struct {
	draft
	period   int32
	credits  int64
	reverses string
}

func findReversible(ctx context.Context, db queries.DBTX, accountID, id string) (reversible, bool, error) {
	row, err := queries.New(db).FindEventToReverse(ctx, queries.FindEventToReverseParams{AccountID: accountID, ID: id})
	if postgres.NoRows(err) {
		return reversible{}, false, nil
	}
	return reversible{
		draft: draft{
			accountID: accountID, keyID: orElse(row.KeyID, ""), family: row.Family, limit: noLimit,
			category: plans.Category(row.Category), quantity: none, output: none,
		},
		period: row.Period, credits: row.Credits, reverses: orElse(row.Reverses, ""),
	}, err == nil, err
}
