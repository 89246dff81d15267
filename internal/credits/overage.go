package credits

import (
	"context"
	"errors"
	"time"

	"github.com/keymeter/keymeter/gen/queries"
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

// OverageOf returns an account's overage of periods that are over, oldest first.
func (c *Credits) OverageOf(ctx context.Context, db queries.DBTX, accountID string) ([]Overage, error) {
	return nil, errors.New("credits: OverageOf is yet to come")
}
