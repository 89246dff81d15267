package credits

import (
	"context"
	"slices"
	"time"

	"github.com/keymeter/keymeter/internal/fault"
	"github.com/keymeter/keymeter/internal/postgres"
)

// Alert says that an account has used so much of a period's credits. It is raised once in a period, in the transaction of
// the usage that passed the threshold.
type Alert struct {
	Percent       int16 // of the credits that were granted then
	Used, Granted int64
	RaisedAt      time.Time
}

// Alerts returns the alerts of the current period, and the percentages at which they are raised.
func (c *Credits) Alerts(ctx context.Context, accountID string) (raised []Alert, percents []int16, err error) {
	b, err := c.Current(ctx, accountID)
	if err != nil {
		return nil, nil, err
	}
	set, err := getSettings(ctx, c.pool, accountID)
	if err != nil {
		return nil, nil, err
	}
	raised, err = alertsOf(ctx, c.pool, b)
	return raised, c.percents(set), err
}

func (c *Credits) percents(set settings) []int16 {
	if set.alertPercents != nil {
		return set.alertPercents
	}
	return c.catalogue.Alerts
}

// SetAlertsTx sets the percentages at which alerts are raised; nil is the catalogue's. What has been passed already is
// raised at once.
func (c *Credits) SetAlertsTx(ctx context.Context, tx postgres.Tx, accountID string, percents []int16) error {
	sorted := slices.Clone(percents)
	slices.Sort(sorted)
	if len(slices.Compact(slices.Clone(sorted))) != len(sorted) {
		return fault.InvalidField("percents", "has a number twice")
	}
	now := c.now()
	b, err := c.lockToChangeTx(ctx, tx, accountID, now)
	if err != nil {
		return err
	}
	if err := setAlertPercents(ctx, tx, accountID, sorted); err != nil {
		return err
	}
	return c.refreshTx(ctx, tx, b, now)
}

// raise raises the alerts that are due in a ledger that is about to be written. Most of the time none is.
func (c *Credits) raise(ctx context.Context, db dbConn, l *ledger) error {
	for _, a := range l.accounts {
		if a.balance.alertAt == nil || a.balance.Used() < *a.balance.alertAt {
			continue
		}
		next, err := c.alert(ctx, db, a.balance, l.now)
		if err != nil {
			return err
		}
		if err := setAlertAt(ctx, db, a.balance, next); err != nil {
			return err
		}
	}
	return nil
}

// alert raises what is due and returns what use makes the next alert due, nil for none.
func (c *Credits) alert(ctx context.Context, db dbConn, b Balance, now time.Time) (*int64, error) {
	set, err := getSettings(ctx, db, b.AccountID)
	if err != nil {
		return nil, err
	}
	var due []int16
	var next *int64
	for _, p := range c.percents(set) {
		at := threshold(b.Granted, p)
		if b.Used() >= at {
			due = append(due, p)
		} else if next == nil {
			next = &at
		}
	}
	if len(due) == 0 {
		return next, nil
	}
	return next, insertAlerts(ctx, db, b, due, now)
}

// threshold is a percentage of credits, rounded up, and at least 1.
func threshold(granted int64, percent int16) int64 {
	whole, rest := granted/100, granted%100
	return max(1, whole*int64(percent)+(rest*int64(percent)+99)/100)
}
