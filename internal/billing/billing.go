// Package billing is what an account has bought: checkout, the portal, and the tier that follows from the state of the
// subscription at the billing provider.
package billing

import (
	"context"
	"log/slog"
	"time"

	"github.com/keymeter/keymeter/internal/accounts"
	"github.com/keymeter/keymeter/internal/credits"
	"github.com/keymeter/keymeter/internal/fault"
	"github.com/keymeter/keymeter/internal/ids"
	"github.com/keymeter/keymeter/internal/plans"
	"github.com/keymeter/keymeter/internal/postgres"
)

// The refusals of this package.
var (
	ErrAlreadySubscribed = fault.New(fault.Conflict, "already_subscribed", "The account is subscribed to this tier already.")
	ErrNeedsPayment      = fault.New(fault.Conflict, "subscription_needs_payment",
		"The account has a subscription whose payment is due. Open the billing portal to settle it.")
	ErrNoBillingAccount = fault.New(fault.Conflict, "no_billing_account",
		"The account has never been through checkout, so it has no billing portal.")
	ErrCheckoutInProgress = fault.New(fault.Conflict, "checkout_in_progress",
		"Another checkout of this account is being made. Try again.")
	ErrTierManaged = fault.New(fault.Conflict, "tier_managed_by_stripe",
		"The account's tier follows from its Stripe subscription.")
)

// Config is what Billing works with. A nil Provider means that billing is not configured.
type Config struct {
	Pool      *postgres.Pool
	IDs       *ids.Source
	Now       func() time.Time
	Catalogue *plans.Catalogue
	Accounts  *accounts.Accounts
	Credits   *credits.Credits
	Provider  Provider
	Logger    *slog.Logger
	// Await returns once no server answers by what was true before the invalidation.
	Await func(ctx context.Context, invalidation int64) error
	// Redirects says where users may be sent back to.
	Redirects Redirects
}

// Billing sells subscriptions and follows their state.
type Billing struct {
	Config
	wake chan struct{}
}

// New returns the billing of the accounts in the database behind cfg.Pool.
func New(cfg Config) *Billing { return &Billing{Config: cfg, wake: make(chan struct{}, 1)} }

// State is what an account is subscribed to. ExpiresAt is nil without a live subscription.
type State struct {
	Plan       plans.Plan
	Balance    credits.Balance
	CustomerID *string
	ExpiresAt  *time.Time
}

// State returns what an account is subscribed to.
func (b *Billing) State(ctx context.Context, accountID string) (State, error) {
	// The balance comes first: if a change of plan commits in between, the tier read after it is the newer one.
	balance, err := b.Credits.Current(ctx, accountID)
	if err != nil {
		return State{}, err
	}
	account, err := b.Accounts.Get(ctx, accountID)
	if err != nil {
		return State{}, err
	}
	bought, err := getAccount(ctx, b.Pool, accountID)
	if err != nil {
		return State{}, err
	}
	state := State{Plan: b.Catalogue.Plan(account.Tier), Balance: balance, CustomerID: account.StripeCustomerID}
	if account.Tier != plans.Free { // a subscription that is not paid for does not carry a tier
		state.ExpiresAt = bought.periodEnd
	}
	return state, nil
}

// SetTierTx sets an account's tier by hand. It returns ErrTierManaged if a live subscription says what the tier is.
func (b *Billing) SetTierTx(
	ctx context.Context, tx postgres.Tx, accountID string, tier plans.Tier,
) (account accounts.Account, invalidation int64, err error) {
	if account, err = b.Accounts.GetTx(ctx, tx, accountID); err != nil {
		return accounts.Account{}, 0, err
	}
	bought, err := lockAccount(ctx, tx, accountID)
	if err != nil {
		return accounts.Account{}, 0, err
	}
	if bought.subscriptionID != nil {
		return accounts.Account{}, 0, ErrTierManaged
	}
	account.Tier = tier
	invalidation, err = b.setStandingTx(ctx, tx, accountID, credits.Standing{
		Plan: b.Catalogue.Plan(tier), Monthly: credits.Full, Overage: true,
	})
	return account, invalidation, err
}
