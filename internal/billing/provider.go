package billing

import (
	"context"
	"time"

	"github.com/keymeter/keymeter/internal/fault"
	"github.com/keymeter/keymeter/internal/plans"
)

// The refusals of a provider. They say nothing about the account.
var (
	ErrNotConfigured = fault.New(fault.Unavailable, "billing_not_configured",
		"Billing is not configured on this server.")
	ErrUnavailable = fault.New(fault.Unavailable, "billing_unavailable",
		"The billing provider can't be reached right now. Try again.")
	ErrInvalidSignature = fault.New(fault.Invalid, "invalid_signature",
		"The Stripe-Signature header does not match the body under any configured secret.")
)

// Provider is the billing provider. It is declared here, where it is used, so that the domain does not depend on
// Stripe's client; internal/stripe implements it. Keys make a repeated call have no second effect.
type Provider interface {
	// CreateCustomer creates the account's customer and returns its id. The same account yields the same customer.
	CreateCustomer(ctx context.Context, c Contact) (string, error)
	// CustomerAccount returns the account id that a customer was created for, "" if none.
	CustomerAccount(ctx context.Context, customerID string) (string, error)
	// CreateCheckout creates a checkout that ends in a subscription.
	CreateCheckout(ctx context.Context, c Checkout) (Session, error)
	// ExpireCheckouts makes the customer's open checkouts unusable, except the one that was created under key.
	ExpireCheckouts(ctx context.Context, customerID, key string) error
	// CreatePortal creates a portal session, on its first page.
	CreatePortal(ctx context.Context, customerID, returnURL, key string) (Session, error)
	// CreatePlanChange creates a portal session that asks to confirm a change of plan.
	CreatePlanChange(ctx context.Context, c PlanChange) (Session, error)
	// Subscriptions returns the customer's subscriptions in their current state, ended ones too.
	Subscriptions(ctx context.Context, customerID string) ([]Subscription, error)
}

// Contact is what the provider gets to know of an account.
type Contact struct {
	AccountID, Name string
	Email           *string
}

// Checkout describes a checkout.
type Checkout struct {
	AccountID, CustomerID string
	Plan                  plans.Plan
	SuccessURL, CancelURL string
	Key                   string
}

// PlanChange describes a change of a subscription to another plan.
type PlanChange struct {
	CustomerID            string
	Subscription          Subscription
	Plan                  plans.Plan
	SuccessURL, CancelURL string
	Key                   string
}

// Session is a page of the provider's to send the user to.
type Session struct{ ID, URL string }

// Status is the state of a subscription, as Stripe names it.
type Status string

// The states, from Stripe's documentation of the subscription object.
const (
	Active            Status = "active"
	Trialing          Status = "trialing"
	PastDue           Status = "past_due"
	Unpaid            Status = "unpaid"
	Paused            Status = "paused"
	Incomplete        Status = "incomplete"
	IncompleteExpired Status = "incomplete_expired"
	Canceled          Status = "canceled"
)

// Live reports whether the subscription is not over, so that it must not be joined by a second one.
func (s Status) Live() bool { return s != Canceled && s != IncompleteExpired }

// entitles reports whether the subscription's plan is in force.
func (s Status) entitles() bool { return s == Active || s == Trialing || s == PastDue }

// Subscription is a subscription's current state. Tier is "" if its price is none of the catalogue's.
type Subscription struct {
	ID, ItemID             string
	Status                 Status
	Tier                   plans.Tier
	Created                time.Time
	Anchor                 time.Time // whole months are counted from it
	PeriodStart, PeriodEnd time.Time
	CancelAtPeriodEnd      bool
}
