package credits

import (
	"context"

	"github.com/keymeter/keymeter/internal/plans"
	"github.com/keymeter/keymeter/internal/postgres"
)

// Monthly is how much of a period's monthly credits an account has a right to by now.
type Monthly int

const (
	// Frozen is none beyond those that were granted already: payment is overdue.
	Frozen Monthly = iota
	// Bridge is a small advance, for the time until the renewal is paid.
	Bridge
	// Full is all of them.
	Full
)

// Standing is what an account may do by what it has bought.
type Standing struct {
	Plan    plans.Plan
	Cycle   *Cycle // of the subscription that the plan comes from; nil for a plan without one
	Monthly Monthly
	Overage bool // usage beyond the credits is let through and billed, as far as the plan has it
}

// ApplyTx puts the account's current period under a standing; the same again changes nothing. The caller writes the
// account's tier afterwards.
//
// A period of the cycle that has not been seen yet is opened. Within a period, more credits are there at once, what is
// used stays used, and a plan from a subscription never takes granted credits away; a plan set by hand does.
func (c *Credits) ApplyTx(ctx context.Context, tx postgres.Tx, accountID string, s Standing) error {
	return c.ChangePlanTx(ctx, tx, accountID, s.Plan, s.Cycle)
}
