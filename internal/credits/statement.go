package credits

import (
	"context"
	"time"

	"github.com/keymeter/keymeter/internal/fault"
)

// Statement is what happened to an account's credits in a billing period. Carried and the lines add up to Balance.
type Statement struct {
	Period           int32
	StartsAt, EndsAt time.Time
	Closed           bool  // nothing in it changes any more
	Carried          int64 // from the periods before
	Lines            []Entry
	Used             Balance // by category
	Balance          int64   // left at the end; of an open period now, with what is held
}

var errNoPeriod = fault.New(fault.NotFound, "not_found", "There is no such billing period.")

// Statement returns the statement of a period, of the current one if ordinal is nil.
func (c *Credits) Statement(ctx context.Context, accountID string, ordinal *int32) (Statement, error) {
	current, err := c.Current(ctx, accountID)
	if err != nil {
		return Statement{}, err
	}
	b := current
	if ordinal != nil && *ordinal != current.Period {
		var ok bool
		if b, ok, err = getPeriod(ctx, c.pool, accountID, *ordinal); err != nil {
			return Statement{}, err
		} else if !ok {
			return Statement{}, errNoPeriod
		}
	}
	s := Statement{Period: b.Period, StartsAt: b.StartsAt, EndsAt: b.EndsAt, Closed: b.Period != current.Period, Used: b}
	if s.Carried, s.Lines, err = periodEntries(ctx, c.pool, b); err != nil {
		return Statement{}, err
	}
	if running := b.Over() - b.Overage; !s.Closed && running > 0 {
		s.Lines = append(s.Lines, Entry{
			Kind: OverageEntry, At: c.now(), Period: b.Period, Credits: running, Label: b.Cycle.Source, UnitMicros: b.OverageMicros,
		})
	}
	s.Balance = s.Carried - b.Used()
	for _, line := range s.Lines {
		s.Balance += line.Credits
	}
	return s, nil
}
