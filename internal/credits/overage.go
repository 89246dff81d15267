package credits

import (
	"context"
	"strconv"
	"time"

	"github.com/keymeter/keymeter/internal/ids"
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
	before, err := countOverage(ctx, tx, b)
	if err != nil {
		return err
	}
	return insertOverage(ctx, tx, Overage{
		ID: overageID(b, before), AccountID: b.AccountID, Period: b.Period, Subscription: b.Cycle.Source,
		StartsAt: b.StartsAt, EndsAt: later(until, b.StartsAt), Credits: credits, UnitMicros: b.OverageMicros, CreatedAt: now,
	})
}

// overageID names the n-th overage of a period. It is the same if the period ends once more, after a backup of the database
// was restored: what was billed then is found by it.
func overageID(b Balance, n int64) string {
	return ids.Of("ovg", b.StartsAt, b.AccountID, b.Cycle.Source, b.StartsAt.UTC().Format(time.RFC3339Nano), strconv.FormatInt(n, 10))
}
