package credits

import (
	"context"
	"time"

	"github.com/keymeter/keymeter/internal/fault"
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

// GrantTx gives credits, usable at once: they also cover what has been used beyond the credits in this period. A source
// that gave already gives nothing more; given tells.
func (c *Credits) GrantTx(ctx context.Context, tx postgres.Tx, g Grant) (given bool, err error) {
	now := c.now()
	if g.ExpiresAt != nil && !g.ExpiresAt.After(now) {
		return false, fault.InvalidField("expiresAt", "is not in the future")
	}
	b, err := c.lockToChangeTx(ctx, tx, g.AccountID, now)
	if err != nil {
		return false, err
	}
	if given, err = c.giveTx(ctx, tx, b, g, now); err != nil || !given {
		return given, err
	}
	return true, c.refreshTx(ctx, tx, b, now)
}

// giveTx writes a grant. Its amount counts once the period has been refreshed.
func (c *Credits) giveTx(ctx context.Context, tx postgres.Tx, b Balance, g Grant, now time.Time) (bool, error) {
	if g.Amount <= 0 {
		return false, nil
	}
	g.ID, g.AccountID, g.CreatedAt = c.ids.New("grant"), b.AccountID, now
	return insertGrant(ctx, tx, b.Period, g)
}

// TakeBackTx takes back what is unused of the grant that a source gave, and of what was given back of it, up to amount, and
// returns how much that was. by names what caused it, so that it is taken once; the same again answers as the first time.
func (c *Credits) TakeBackTx(
	ctx context.Context, tx postgres.Tx, accountID, source, by string, amount int64,
) (taken int64, err error) {
	now := c.now()
	b, err := c.lockToChangeTx(ctx, tx, accountID, now)
	if err != nil {
		return 0, err
	}
	grants, err := grantAndGivenBack(ctx, tx, accountID, source)
	if err != nil || len(grants) == 0 {
		return 0, err
	}
	if taken, ok, err := lossesBy(ctx, tx, accountID, grants, by); err != nil || ok {
		return taken, err
	}
	ls, err := openLots(ctx, tx, accountID)
	if err != nil {
		return 0, err
	}
	burned, _ := ls.burns(b.spoken())
	for _, g := range grants {
		take := int64(0)
		for i, l := range ls {
			if l.id == g.id {
				take = min(amount-taken, l.available-burned[i])
			}
		}
		taken += take
		err = insertLoss(ctx, tx, loss{
			id: c.ids.New("loss"), accountID: accountID, grantID: g.id, period: b.Period, amount: take, cause: lostTakenBack,
			source: by, at: now,
		})
		if err != nil {
			return 0, err
		}
	}
	return taken, c.refreshTx(ctx, tx, b, now)
}

// GivenBack names the source of what is given back, by what it was taken from.
func GivenBack(source string) string { return "returned:" + source }

// GiveBackTx gives what was taken back of the grant that a source gave and is more than keep, and returns how much that is.
// by names what caused it, so that it is given once.
func (c *Credits) GiveBackTx(
	ctx context.Context, tx postgres.Tx, accountID, source, by string, keep int64, reason string,
) (given int64, err error) {
	now := c.now()
	b, err := c.lockToChangeTx(ctx, tx, accountID, now)
	if err != nil {
		return 0, err
	}
	grants, err := grantAndGivenBack(ctx, tx, accountID, source)
	if err != nil || len(grants) == 0 {
		return 0, err
	}
	given = grants[0].taken - keep
	for _, back := range grants[1:] {
		given += back.taken - back.amount
	}
	ok, err := c.giveTx(ctx, tx, b, Grant{
		Kind: grants[0].kind, Amount: given, Source: GivenBack(source) + ":" + by, Reason: reason, ExpiresAt: grants[0].expiresAt,
	}, now)
	if err != nil || !ok {
		return 0, err
	}
	return given, c.refreshTx(ctx, tx, b, now)
}

// spoken is what the grants of the period have to cover: what is used or held and has not been billed as overage.
func (b Balance) spoken() int64 { return max(0, b.Used()+b.Held-b.Overage) }

// lockToChangeTx returns the current period, and holds its row and the account's.
func (c *Credits) lockToChangeTx(ctx context.Context, tx postgres.Tx, accountID string, now time.Time) (Balance, error) {
	if _, err := lockAccount(ctx, tx, accountID); err != nil {
		return Balance{}, err
	}
	b, err := c.lockCurrentTx(ctx, tx, accountID, now)
	if err != nil {
		return Balance{}, err
	}
	return c.freeTx(ctx, tx, b, now)
}

// loseTx takes from lots what is unused of them, up to amount. The last goes first.
func (c *Credits) loseTx(
	ctx context.Context, tx postgres.Tx, b Balance, from func(l lot) bool, amount int64, why cause, source string,
	now time.Time,
) error {
	ls, err := openLots(ctx, tx, b.AccountID)
	if err != nil {
		return err
	}
	burned, _ := ls.burns(b.spoken())
	for i := len(ls) - 1; i >= 0; i-- {
		take := min(amount, ls[i].available-burned[i])
		if take <= 0 || !from(ls[i]) {
			continue
		}
		err := insertLoss(ctx, tx, loss{
			id: c.ids.New("loss"), accountID: b.AccountID, grantID: ls[i].id, period: b.Period, amount: take, cause: why,
			source: source, at: now,
		})
		if err != nil {
			return err
		}
		amount -= take
	}
	return nil
}
