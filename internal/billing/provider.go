package billing

import (
	"context"
	"errors"
	"fmt"
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

// ErrInvoiceClosed says that an invoice takes no more items: it has stopped being a draft.
var ErrInvoiceClosed = errors.New("the invoice is not a draft any more")

// Refused is what the provider refuses for good: the same call again is refused again. Code is the provider's; Message is
// its own, without secrets, for operators to read; RequestID is what its support asks for.
type Refused struct {
	Code, Message, RequestID string
	// Configuration reports that the server's key is refused, or lacks a permission. Then the call may be made again
	// once an operator has mended that.
	Configuration bool
}

// Error is for logs.
func (r *Refused) Error() string {
	return fmt.Sprintf("the billing provider refused: %s: %s (request %s)", r.Code, r.Message, r.RequestID)
}

// Provider is the billing provider. It is declared here, where it is used, so that the domain does not depend on
// Stripe's client; internal/stripe implements it. Keys make a repeated call have no second effect.
//
// Of every method, ErrUnavailable is an error that another try may mend, with RetryAfter where the provider asks for one,
// and a *Refused is one that it will not. No call outlasts its context.
type Provider interface {
	// CreateCustomer creates the account's customer and returns its id. The same account and generation yield the same
	// customer.
	CreateCustomer(ctx context.Context, c Contact) (string, error)
	// Customer returns the account id that a customer was created for, "" if none, and whether it exists: one that was
	// deleted does not.
	Customer(ctx context.Context, customerID string) (accountID string, exists bool, err error)

	// CreateCheckout creates a checkout that ends in a subscription.
	CreateCheckout(ctx context.Context, c Checkout) (Session, error)
	// ExpireCheckouts makes the customer's open checkouts of subscriptions unusable, except the one that was created
	// under key.
	ExpireCheckouts(ctx context.Context, customerID, key string) error
	// CreatePortal creates a portal session, on its first page.
	CreatePortal(ctx context.Context, customerID, returnURL, key string) (Session, error)
	// CreatePlanChange creates a portal session that asks to confirm a change of plan. Where one is scheduled already, it
	// shows that, to be cancelled before another is chosen.
	CreatePlanChange(ctx context.Context, c PlanChange) (Session, error)

	// Subscriptions returns the customer's subscriptions in their current state, ended ones too.
	Subscriptions(ctx context.Context, customerID string) ([]Subscription, error)
	// CancelSubscription ends a subscription at once. One that is over stays as it is, and the refund is still made.
	CancelSubscription(ctx context.Context, c Cancellation) error

	// RenewalDraft returns the draft of the renewal invoice for the period that starts then. ok is false if there is
	// none, or none any more.
	RenewalDraft(
		ctx context.Context, customerID, subscriptionID string, periodStart time.Time,
	) (invoiceID string, ok bool, err error)
	// AddOverage puts an item on an invoice, once for each key, wherever it was to go: an item that an earlier call left
	// on another invoice, or pending, is returned. ErrInvoiceClosed if the invoice is no draft any more.
	AddOverage(ctx context.Context, item OverageItem) (itemID string, err error)
	// VoidedItems returns the items of the customer, by their keys, that are on invoices which were voided. Such an item is
	// as good as none: AddOverage and BillAlone make it anew.
	VoidedItems(ctx context.Context, customerID string) (itemIDs map[string]string, err error)
	// BillAlone makes an invoice of its own, of these items alone, and has it collected. Called again, it goes on where an
	// earlier call stopped.
	BillAlone(ctx context.Context, invoice OwnInvoice) (invoiceID string, err error)

	// CreateTopUp creates a checkout that ends in a single payment.
	CreateTopUp(ctx context.Context, t TopUp) (Session, error)
	// TopUpPayment returns the payment of a top-up's checkout in its current state. ok is false if the session is none of
	// CreateTopUp's.
	TopUpPayment(ctx context.Context, sessionID string) (p Payment, ok bool, err error)
	// TopUpOfPaymentIntent is TopUpPayment, by Stripe's payment intent.
	TopUpOfPaymentIntent(ctx context.Context, paymentIntentID string) (p Payment, ok bool, err error)
	// TopUps returns the customer's paid top-ups in their current state, newest first, refunded ones too.
	TopUps(ctx context.Context, customerID string) ([]Payment, error)

	// Events calls fn with what happened since then, oldest first, of the types that a webhook is told of, until fn
	// returns an error. The provider forgets events after 30 days.
	Events(ctx context.Context, since time.Time, fn func(Event) error) error
}

// Contact is what the provider gets to know of an account. Generation is another for each customer that an account has: one
// that was deleted is followed by a new one.
type Contact struct {
	AccountID, Name string
	Email           *string
	Generation      int64
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

// Subscription is a subscription's current state. Tier is "" if its price is none of the catalogue's. Times that do not
// apply are zero.
type Subscription struct {
	ID, ItemID             string
	Status                 Status
	Tier                   plans.Tier
	Created                time.Time
	Anchor                 time.Time // whole months are counted from it
	PeriodStart, PeriodEnd time.Time
	CancelAtPeriodEnd      bool
	PlanSince              time.Time // when the plan was changed last in this period, if that was invoiced
	TrialEnd, EndedAt      time.Time
	// Unpaid reports that an invoice of the subscription is a draft or open: its current period, or the last change of
	// plan, is not paid for yet.
	Unpaid bool
	// Scheduled reports that a change is scheduled, such as a downgrade at the period's end.
	Scheduled bool
	// Paused reports that payments are not collected for now. The status may be active all the same.
	Paused bool
}

// Cancellation describes a subscription that is to end. With Refund, what was paid for the rest of its current period
// goes back to where it came from.
type Cancellation struct {
	SubscriptionID string
	Refund         bool
	Key            string
}

// OverageItem is an item of an invoice: usage of a period beyond what was included. InvoiceID is a draft to put it on;
// "" leaves it pending for the subscription's next invoice. AmountCents is what is charged. Credits and UnitPrice, exact
// dollars a credit as in "0.0008", only say what it is for. Key identifies the item for ever.
type OverageItem struct {
	AccountID, CustomerID, SubscriptionID, InvoiceID string
	AmountCents, Credits                             int64
	UnitPrice, Description                           string
	PeriodStart, PeriodEnd                           time.Time
	Key                                              string
}

// OwnInvoice is an invoice of its own, such as for the last period of a subscription that has ended, which pays it the way
// it was paid. The items' InvoiceID is not read. Key identifies the invoice for ever.
type OwnInvoice struct {
	AccountID, CustomerID, SubscriptionID string
	Description                           string
	Items                                 []OverageItem
	Key                                   string
}

// TopUp describes a purchase of credits. Name is shown to the user as what is bought.
type TopUp struct {
	AccountID, CustomerID string
	Name                  string
	Credits, AmountCents  int64
	SuccessURL, CancelURL string
	Key                   string
}

// Payment is a top-up's payment in its current state. RefundedCents is a part of AmountCents, which is what was paid.
// Disputed reports that the money was taken back or may be: a dispute is open, or lost.
type Payment struct {
	SessionID, PaymentIntentID, AccountID, CustomerID string
	Credits, AmountCents, RefundedCents               int64
	Paid, Disputed                                    bool
	Created                                           time.Time
}
