package billing

import (
	"context"
	"errors"
	"time"

	"github.com/keymeter/keymeter/internal/fault"
	"github.com/keymeter/keymeter/internal/plans"
)

const (
	checkoutClaim = time.Minute    // how long a checkout may take to be made before another one may begin
	checkoutEnds  = 25 * time.Hour // when no checkout that is made now is open any more; Stripe gives them a day
)

// CheckoutParams describes what the user wants to buy. Key identifies the request, for retries.
type CheckoutParams struct {
	AccountID             string
	Tier                  plans.Tier
	SuccessURL, CancelURL string
	Key                   string
}

// Checkout returns the page on which the user subscribes or, with a live subscription, confirms the change of plan. One
// account makes one checkout at a time and has at most one that is open, so that it is never sold two subscriptions.
func (b *Billing) Checkout(ctx context.Context, p CheckoutParams) (Session, error) {
	wrong := append(b.Redirects.check("successUrl", p.SuccessURL), b.Redirects.check("cancelUrl", p.CancelURL)...)
	if len(wrong) > 0 {
		return Session{}, fault.InvalidFields(wrong)
	}
	return b.withCustomer(ctx, p.AccountID, func(customerID string) (Session, error) {
		return b.sell(ctx, customerID, p)
	})
}

// withCustomer makes a checkout for the account's customer, one at a time.
func (b *Billing) withCustomer(
	ctx context.Context, accountID string, make func(customerID string) (Session, error),
) (session Session, err error) {
	if b.Provider == nil {
		return Session{}, ErrNotConfigured
	}
	now := b.Now()
	until := now.Add(checkoutClaim).Truncate(time.Microsecond) // what Postgres stores
	if err := claimCheckout(ctx, b.Pool, accountID, now, until); err != nil {
		return Session{}, err
	}
	defer func() {
		// The caller may be gone already; the claim goes all the same.
		err = errors.Join(err, releaseCheckout(context.WithoutCancel(ctx), b.Pool, accountID, until))
	}()
	customerID, err := b.ensureCustomer(ctx, accountID)
	if err != nil {
		return Session{}, err
	}
	// What is bought must be seen also if its events are lost, and Stripe has forgotten them.
	if err := checkBy(ctx, b.Pool, accountID, now.Add(checkoutEnds)); err != nil {
		return Session{}, err
	}
	return make(customerID)
}

func (b *Billing) sell(ctx context.Context, customerID string, p CheckoutParams) (Session, error) {
	subscriptions, err := b.Provider.Subscriptions(ctx, customerID)
	if err != nil {
		return Session{}, err
	}
	plan := b.Catalogue.Plan(p.Tier)
	current, ok := governing(subscriptions)
	switch {
	case !ok:
		if err := b.Provider.ExpireCheckouts(ctx, customerID, p.Key); err != nil {
			return Session{}, err
		}
		return b.Provider.CreateCheckout(ctx, Checkout{
			AccountID: p.AccountID, CustomerID: customerID, Plan: plan,
			SuccessURL: p.SuccessURL, CancelURL: p.CancelURL, Key: p.Key,
		})
	case current.Status != Active && current.Status != Trialing:
		return Session{}, ErrNeedsPayment
	case current.Tier == p.Tier && !current.Scheduled:
		return Session{}, ErrAlreadySubscribed
	}
	return b.Provider.CreatePlanChange(ctx, PlanChange{
		CustomerID: customerID, Subscription: current, Plan: plan,
		SuccessURL: p.SuccessURL, CancelURL: p.CancelURL, Key: p.Key,
	})
}

// ensureCustomer returns the account's customer and creates it if there is none. It is called under the claim.
func (b *Billing) ensureCustomer(ctx context.Context, accountID string) (string, error) {
	bought, err := getAccount(ctx, b.Pool, accountID)
	if err != nil || bought.customerID != nil {
		return deref(bought.customerID), err
	}
	account, err := b.Accounts.Get(ctx, accountID)
	if err != nil {
		return "", err
	}
	id, err := b.Provider.CreateCustomer(ctx, Contact{
		AccountID: account.ID, Name: account.Name, Email: account.Email, Generation: bought.version,
	})
	if err != nil {
		return "", err
	}
	return id, setCustomer(ctx, b.Pool, accountID, id)
}

// PortalParams describes where the portal leads back to. ReturnURL may be nil. Key identifies the request, for retries.
type PortalParams struct {
	AccountID string
	ReturnURL *string
	Key       string
}

// Portal returns a page of the billing portal. An account that never had a customer is ErrNoBillingAccount.
func (b *Billing) Portal(ctx context.Context, p PortalParams) (Session, error) {
	returnURL := b.Redirects.PortalReturn
	if p.ReturnURL != nil {
		if wrong := b.Redirects.check("returnUrl", *p.ReturnURL); len(wrong) > 0 {
			return Session{}, fault.InvalidFields(wrong)
		}
		returnURL = *p.ReturnURL
	}
	if b.Provider == nil {
		return Session{}, ErrNotConfigured
	}
	bought, err := getAccount(ctx, b.Pool, p.AccountID)
	if err != nil {
		return Session{}, err
	}
	if bought.customerID == nil {
		return Session{}, ErrNoBillingAccount
	}
	return b.Provider.CreatePortal(ctx, *bought.customerID, returnURL, p.Key)
}

func deref(s *string) string {
	if s == nil {
		return ""
	}
	return *s
}
