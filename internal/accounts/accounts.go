// Package accounts keeps the customers: who they are, which tier they are on, and whether they are suspended.
package accounts

import (
	"context"
	"time"

	"github.com/keymeter/keymeter/internal/fault"
	"github.com/keymeter/keymeter/internal/ids"
	"github.com/keymeter/keymeter/internal/leases"
	"github.com/keymeter/keymeter/internal/plans"
	"github.com/keymeter/keymeter/internal/postgres"
)

// The refusals of this package.
var (
	ErrNotFound = fault.New(fault.NotFound, "account_not_found", "There is no such account.")
	ErrExists   = fault.New(fault.Conflict, "account_exists", "There is an account with this externalId already.")
)

// Account is a customer.
type Account struct {
	ID               string
	ExternalID       *string
	Name             string
	Email            *string
	Tier             plans.Tier
	SuspendedAt      *time.Time
	StripeCustomerID *string
	CreatedAt        time.Time
}

// Accounts reads and writes accounts.
type Accounts struct {
	pool *postgres.Pool
	ids  *ids.Source
	now  func() time.Time
}

// New returns the accounts in the database behind pool.
func New(pool *postgres.Pool, source *ids.Source, now func() time.Time) *Accounts {
	return &Accounts{pool: pool, ids: source, now: now}
}

// CreateParams describes an account to create. ExternalID and Email may be nil.
type CreateParams struct {
	Name              string
	ExternalID, Email *string
}

// CreateTx creates an account on the free tier. It returns ErrExists if the external id is taken.
func (a *Accounts) CreateTx(ctx context.Context, tx postgres.Tx, p CreateParams) (Account, error) {
	account := Account{
		ID: a.ids.New("acct"), ExternalID: p.ExternalID, Name: p.Name, Email: p.Email,
		Tier: plans.Free, CreatedAt: a.now(),
	}
	return account, insert(ctx, tx, account)
}

// Get returns an account, or ErrNotFound.
func (a *Accounts) Get(ctx context.Context, id string) (Account, error) { return get(ctx, a.pool, id) }

// GetTx is Get in a transaction.
func (a *Accounts) GetTx(ctx context.Context, tx postgres.Tx, id string) (Account, error) {
	return get(ctx, tx, id)
}

// ListParams selects a page. Cursor is the id of the last account of the page before, or nil.
type ListParams struct {
	Limit              int
	Cursor, ExternalID *string
}

// List returns a page of accounts, newest first, and whether there are more.
func (a *Accounts) List(ctx context.Context, p ListParams) (page []Account, more bool, err error) {
	if p.Cursor != nil {
		if err := a.checkCursor(ctx, *p.Cursor); err != nil {
			return nil, false, err
		}
	}
	rows, err := list(ctx, a.pool, p)
	if err != nil || len(rows) <= p.Limit {
		return rows, false, err
	}
	return rows[:p.Limit], true, nil
}

func (a *Accounts) checkCursor(ctx context.Context, id string) error {
	known, err := exists(ctx, a.pool, id)
	if err == nil && !known {
		return fault.InvalidField("cursor", "is not an account's id")
	}
	return err
}

// SuspendTx suspends an account. Its keys are refused from the commit on by whoever reads the database, and by
// everybody once the invalidation has been waited for.
func (a *Accounts) SuspendTx(ctx context.Context, tx postgres.Tx, id string) (Account, int64, error) {
	if err := suspend(ctx, tx, id, a.now()); err != nil {
		return Account{}, 0, err
	}
	return changedTx(ctx, tx, id)
}

// ResumeTx ends a suspension.
func (a *Accounts) ResumeTx(ctx context.Context, tx postgres.Tx, id string) (Account, int64, error) {
	if err := resume(ctx, tx, id); err != nil {
		return Account{}, 0, err
	}
	return changedTx(ctx, tx, id)
}

func changedTx(ctx context.Context, tx postgres.Tx, id string) (Account, int64, error) {
	account, err := get(ctx, tx, id)
	if err != nil {
		return Account{}, 0, err
	}
	invalidation, err := leases.TakeTx(ctx, tx, leases.Account(id))
	return account, invalidation, err
}

// SetRateLimitTx sets how many requests the account's keys may make in a window of whole seconds; 0 requests is no limit.
func (a *Accounts) SetRateLimitTx(
	ctx context.Context, tx postgres.Tx, id string, requests int32, window time.Duration,
) (invalidation int64, err error) {
	if err := setRateLimit(ctx, tx, id, requests, window); err != nil {
		return 0, err
	}
	return leases.TakeTx(ctx, tx, leases.Account(id))
}

// SetTierTx writes the tier, and nothing else: what it grants is the business of credits.
func (a *Accounts) SetTierTx(ctx context.Context, tx postgres.Tx, id string, tier plans.Tier) (invalidation int64, err error) {
	if err := setTier(ctx, tx, id, tier); err != nil {
		return 0, err
	}
	return leases.TakeTx(ctx, tx, leases.Account(id))
}
