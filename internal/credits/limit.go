package credits

import (
	"context"

	"github.com/keymeter/keymeter/internal/postgres"
)

// OverageLimit returns how many credits of overage an account lets itself use in a period, nil for any number.
func (c *Credits) OverageLimit(ctx context.Context, accountID string) (*int64, error) {
	set, err := getSettings(ctx, c.pool, accountID)
	return set.overageLimit, err
}

// SetOverageLimitTx sets it, for the current period too: a hard cap of the account's own. A limit under what was used
// already stops there.
func (c *Credits) SetOverageLimitTx(ctx context.Context, tx postgres.Tx, accountID string, limit *int64) error {
	now := c.now()
	b, err := c.lockToChangeTx(ctx, tx, accountID, now)
	if err != nil {
		return err
	}
	if err := setOverageLimit(ctx, tx, accountID, limit); err != nil {
		return err
	}
	plan := c.catalogue.Plan(b.Tier)
	if plan.Capped || b.OverageOff {
		return nil
	}
	b.OverageLimit = limit
	return c.refreshTx(ctx, tx, b, now)
}

// AdjustTx takes unused credits away, up to amount, as an operator decides, and returns how much that was.
func (c *Credits) AdjustTx(
	ctx context.Context, tx postgres.Tx, accountID string, amount int64, reason string,
) (taken int64, err error) {
	now := c.now()
	b, err := c.lockToChangeTx(ctx, tx, accountID, now)
	if err != nil {
		return 0, err
	}
	before := b.Granted
	any := func(lot) bool { return true }
	if err := c.loseTx(ctx, tx, b, any, amount, lostByAdjustment, c.ids.New("adjustment")+":"+reason, now); err != nil {
		return 0, err
	}
	b, err = c.refreshedTx(ctx, tx, b, now)
	return before - b.Granted, err
}
