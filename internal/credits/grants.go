package credits

import (
	"context"
	"errors"
	"time"

	"github.com/keymeter/keymeter/internal/postgres"
)

// Kind is what a grant is for. The contract lists the kinds.
type Kind string

// The kinds of grants.
const (
	MonthlyGrant Kind = "monthly"
	BridgeGrant  Kind = "bridge" // until a renewal is paid
	TopUp        Kind = "topup"
	Promotional  Kind = "promotional"
	Adjustment   Kind = "adjustment"
)

// Grant is credits that are given to an account. Source names what caused it and is unique in the account, so that it is
// given once. ExpiresAt nil is never.
type Grant struct {
	ID, AccountID string
	Kind          Kind
	Amount        int64 // above 0
	Source        string
	Reason        string // for people to read
	CreatedAt     time.Time
	ExpiresAt     *time.Time
}

// GrantTx gives credits, usable at once. A source that gave already gives nothing more; given tells.
func (c *Credits) GrantTx(ctx context.Context, tx postgres.Tx, g Grant) (given bool, err error) {
	return false, errors.New("credits: GrantTx is yet to come")
}

// TakeBackTx takes back what is unused of the grant that a source gave, up to amount, and returns how much that was. by
// names what caused it, so that it is taken once; the same again answers as the first time.
func (c *Credits) TakeBackTx(
	ctx context.Context, tx postgres.Tx, accountID, source, by string, amount int64,
) (taken int64, err error) {
	return 0, errors.New("credits: TakeBackTx is yet to come")
}
