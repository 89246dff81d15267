package credits

import (
	"context"
	"time"

	"github.com/keymeter/keymeter/internal/postgres"
)

// Overage is credits that were used beyond what was granted in a period, at the price that was in force. It enters the
// ledger when the period ends or the price changes, and never changes.
type Overage struct {
	ID, AccountID    string
	Period           int32
	Subscription     string // that the period followed; OwnSource for none
	StartsAt, EndsAt time.Time
	Credits          int64
	UnitMicros       int64 // micro-dollars a credit
	CreatedAt        time.Time
}

// Micros returns what the overage costs in micro-dollars.
func (o Overage) Micros() int64 { return o.Credits * o.UnitMicros }

// overageTx enters overage of the period into the ledger at the price that is in force. The provider's clock, which says
// where the period starts, may be ahead of ours.
func (c *Credits) overageTx(ctx context.Context, tx postgres.Tx, b Balance, credits int64, until, now time.Time) error {
	if credits <= 0 {
		return nil
	}
	return insertOverage(ctx, tx, Overage{
		ID: c.ids.New("ovg"), AccountID: b.AccountID, Period: b.Period, Subscription: b.Cycle.Source,
		StartsAt: b.StartsAt, EndsAt: later(until, b.StartsAt), Credits: credits, UnitMicros: b.OverageMicros, CreatedAt: now,
	})
}
