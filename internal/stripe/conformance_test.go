package stripe

import (
	"fmt"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	stripego "github.com/stripe/stripe-go/v76"

	"github.com/keymeter/keymeter/internal/billing"
	"github.com/keymeter/keymeter/internal/plans"
)

// stripeTestKey is the variable with a key of a Stripe account in test mode, for the conformance suite. The suite brings the
// account's catalogue in line with the embedded one, and leaves customers behind.
const stripeTestKey = "KEYMETER_STRIPE_TEST_KEY"

// conformance is what every Stripe must show, so that the adapter does what it promises.
var conformance = []struct {
	name string
	test func(t *testing.T, w world)
}{
	{"sync is done once", conformSync},
	{"an account has one customer", conformCustomer},
	{"a checkout is made once", conformCheckout},
	{"other parameters under a key are refused", conformReplay},
	{"the portal opens", conformPortal},
	{"a downgrade waits for the period's end", conformDowngrade},
	{"a subscription reads as it is", conformSubscription},
	{"overage is on the renewal", conformRenewal},
	{"overage that is late is on the next renewal", conformPending},
	{"the last period has an invoice of its own", conformOwnInvoice},
	{"what was voided is billed anew", conformVoid},
	{"a second subscription is refunded", conformCancel},
	{"a top-up is paid, refunded and disputed", conformTopUp},
	{"events are walked in order", conformEvents},
}

func TestConformance(t *testing.T) {
	t.Parallel()
	t.Run("against the simulator", func(t *testing.T) {
		t.Parallel()
		conform(t, newSimulated(t), "THE SIMULATOR")
	})
	t.Run("against Stripe itself", func(t *testing.T) {
		t.Parallel()
		key := os.Getenv(stripeTestKey)
		if key == "" {
			t.Skipf("NOT RUN AGAINST STRIPE ITSELF: %s is not set", stripeTestKey)
		}
		require.True(t, strings.HasPrefix(key, "sk_test_"), "%s must be a key of test mode", stripeTestKey)
		conform(t, newReal(t, key), "STRIPE ITSELF, in test mode")
	})
}

func conform(t *testing.T, w world, name string) {
	t.Helper()
	_, _ = fmt.Fprintln(os.Stderr, "conformance suite: running against", name)
	for _, c := range conformance {
		require.True(t, t.Run(c.name, func(t *testing.T) { c.test(t, w) }) || c.name != conformance[0].name,
			"nothing works without the catalogue")
	}
}

func contact(accountID string) billing.Contact {
	return billing.Contact{AccountID: accountID, Name: "Acme", Email: ptr("billing@acme.test")}
}

func conformSync(t *testing.T, w world) {
	plan, err := w.stripe().PlanSync(t.Context(), "")
	require.NoError(t, err)
	_, err = w.stripe().ApplySync(t.Context(), plan, func(Change) {})
	require.NoError(t, err)
	plan, err = w.stripe().PlanSync(t.Context(), "")
	require.NoError(t, err)
	require.Empty(t, plan.Changes)
}

func conformCustomer(t *testing.T, w world) {
	c, account := w.stripe(), w.named("acct_customer")
	first, err := c.CreateCustomer(t.Context(), contact(account))
	require.NoError(t, err)
	again, err := c.CreateCustomer(t.Context(), billing.Contact{AccountID: account, Name: "Renamed"})
	require.NoError(t, err)
	require.Equal(t, first, again)
	accountID, exists, err := c.Customer(t.Context(), first)
	require.NoError(t, err)
	require.True(t, exists)
	require.Equal(t, account, accountID)
	_, exists, err = c.Customer(t.Context(), "cus_that_is_not")
	require.NoError(t, err)
	require.False(t, exists)
}

func checkoutOf(c *Client, account, customerID, key string) billing.Checkout {
	return billing.Checkout{
		AccountID: account, CustomerID: customerID, Plan: c.cfg.Catalogue.Plan(plans.Pro), Key: key,
		SuccessURL: "https://app.test/ok?s={CHECKOUT_SESSION_ID}", CancelURL: "https://app.test/no",
	}
}

func conformCheckout(t *testing.T, w world) {
	c, account := w.stripe(), w.named("acct_checkout")
	customerID := w.customer(t, account)
	first, err := c.CreateCheckout(t.Context(), checkoutOf(c, account, customerID, account+":1"))
	require.NoError(t, err)
	require.NotEmpty(t, first.URL)
	again, err := c.CreateCheckout(t.Context(), checkoutOf(c, account, customerID, account+":1"))
	require.NoError(t, err)
	require.Equal(t, first, again)
	other, err := c.CreateCheckout(t.Context(), checkoutOf(c, account, customerID, account+":2"))
	require.NoError(t, err)
	require.NotEqual(t, first.ID, other.ID)

	require.NoError(t, c.ExpireCheckouts(t.Context(), customerID, account+":2"))
	for id, want := range map[string]stripego.CheckoutSessionStatus{
		first.ID: stripego.CheckoutSessionStatusExpired, other.ID: stripego.CheckoutSessionStatusOpen,
	} {
		session, err := c.api.CheckoutSessions.Get(id, &stripego.CheckoutSessionParams{Params: read(t.Context())})
		require.NoError(t, err)
		require.Equal(t, want, session.Status)
	}
}

func conformReplay(t *testing.T, w world) {
	c, account := w.stripe(), w.named("acct_replay")
	customerID := w.customer(t, account)
	p := checkoutOf(c, account, customerID, account)
	_, err := c.CreateCheckout(t.Context(), p)
	require.NoError(t, err)
	p.CancelURL += "/elsewhere"
	_, err = c.CreateCheckout(t.Context(), p)
	var refused *billing.Refused
	require.ErrorAs(t, err, &refused)
	require.Equal(t, "idempotency_error", refused.Code)
	require.NotEmpty(t, refused.RequestID)
	require.False(t, refused.Configuration)
}

func conformPortal(t *testing.T, w world) {
	c, account := w.stripe(), w.named("acct_portal")
	customerID := w.customer(t, account)
	session, err := c.CreatePortal(t.Context(), customerID, "https://app.test/account", account+":home")
	require.NoError(t, err)
	require.NotEmpty(t, session.URL)
	subscribe(t, w, customerID, plans.Starter)
	session, err = c.CreatePlanChange(t.Context(), billing.PlanChange{
		CustomerID: customerID, Subscription: onlySubscription(t, w, customerID), Plan: c.cfg.Catalogue.Plan(plans.Pro),
		SuccessURL: "https://app.test/ok", CancelURL: "https://app.test/no", Key: account + ":change",
	})
	require.NoError(t, err)
	require.NotEmpty(t, session.URL)
}

func conformDowngrade(t *testing.T, w world) {
	c, account := w.stripe(), w.named("acct_downgrade")
	customerID := w.customer(t, account)
	subscribe(t, w, customerID, plans.Pro)
	change := func(tier plans.Tier, key string) billing.Session {
		session, err := c.CreatePlanChange(t.Context(), billing.PlanChange{
			CustomerID: customerID, Subscription: onlySubscription(t, w, customerID), Plan: c.cfg.Catalogue.Plan(tier),
			SuccessURL: "https://app.test/ok", CancelURL: "https://app.test/no", Key: account + key,
		})
		require.NoError(t, err)
		return session
	}
	if !w.confirm(t, change(plans.Starter, ":down")) {
		t.Skip("NOT RUN AGAINST STRIPE ITSELF: confirming takes a browser")
	}
	before := onlySubscription(t, w, customerID)
	require.Equal(t, plans.Pro, before.Tier)
	require.True(t, before.Scheduled)
	require.NotEmpty(t, change(plans.Scale, ":up").URL)
	s, draft := renew(t, w, customerID)
	require.Equal(t, plans.Starter, s.Tier)
	require.False(t, s.Scheduled)
	require.Equal(t, before.PeriodEnd, s.PeriodStart)
	require.Equal(t, int64(2900), invoice(t, w, draft).Total)
}

func onlySubscription(t *testing.T, w world, customerID string) billing.Subscription {
	t.Helper()
	subscriptions, err := w.stripe().Subscriptions(t.Context(), customerID)
	require.NoError(t, err)
	require.Len(t, subscriptions, 1)
	return subscriptions[0]
}

func conformSubscription(t *testing.T, w world) {
	customerID := w.customer(t, w.named("acct_subscription"))
	now := w.now(t, customerID)
	id := subscribe(t, w, customerID, plans.Pro)
	s := onlySubscription(t, w, customerID)
	require.Equal(t, id, s.ID)
	require.Equal(t, billing.Active, s.Status)
	require.Equal(t, plans.Pro, s.Tier)
	require.WithinDuration(t, now, s.PeriodStart, time.Minute)
	require.Equal(t, s.PeriodStart, s.Anchor)
	length := s.PeriodEnd.Sub(s.PeriodStart)
	require.True(t, length >= 28*24*time.Hour && length <= 31*24*time.Hour, length)
	require.False(t, s.Unpaid || s.Paused || s.CancelAtPeriodEnd)
	require.True(t, s.EndedAt.IsZero() && s.TrialEnd.IsZero())

	require.NoError(t, w.stripe().CancelSubscription(t.Context(), billing.Cancellation{SubscriptionID: id, Key: w.named("cancel")}))
	s = onlySubscription(t, w, customerID)
	require.Equal(t, billing.Canceled, s.Status)
	require.WithinDuration(t, now, s.EndedAt, time.Minute)
}

// renew lets the customer's period end and returns the subscription and the draft of its renewal.
func renew(t *testing.T, w world, customerID string) (s billing.Subscription, draft string) {
	t.Helper()
	before := onlySubscription(t, w, customerID)
	w.advance(t, customerID, before.PeriodEnd.Add(time.Minute).Sub(w.now(t, customerID)))
	s = onlySubscription(t, w, customerID)
	require.Equal(t, before.PeriodEnd, s.PeriodStart)
	require.True(t, s.Unpaid)
	draft, ok, err := w.stripe().RenewalDraft(t.Context(), customerID, s.ID, s.PeriodStart)
	require.NoError(t, err)
	require.True(t, ok)
	_, ok, err = w.stripe().RenewalDraft(t.Context(), customerID, s.ID, s.PeriodEnd)
	require.NoError(t, err)
	require.False(t, ok, "of another period")
	return s, draft
}

func overageOf(account string, s billing.Subscription, customerID, invoiceID string, amount int64) billing.OverageItem {
	return billing.OverageItem{
		AccountID: account, CustomerID: customerID, SubscriptionID: s.ID, InvoiceID: invoiceID, AmountCents: amount, Credits: 1000,
		UnitPrice: "0.0008", Description: "1,000 credits at $0.0008", PeriodStart: s.PeriodStart.AddDate(0, -1, 0),
		PeriodEnd: s.PeriodStart, Key: fmt.Sprintf("ovg:%s:%d:%d", s.ID, s.PeriodStart.Unix(), amount),
	}
}

func invoice(t *testing.T, w world, id string) *stripego.Invoice {
	t.Helper()
	got, err := w.stripe().api.Invoices.Get(id, &stripego.InvoiceParams{Params: read(t.Context())})
	require.NoError(t, err)
	return got
}

func conformRenewal(t *testing.T, w world) {
	c, account := w.stripe(), w.named("acct_renewal")
	customerID := w.customer(t, account)
	subscribe(t, w, customerID, plans.Pro)
	s, draft := renew(t, w, customerID)
	id, err := c.AddOverage(t.Context(), overageOf(account, s, customerID, draft, 80))
	require.NoError(t, err)
	again, err := c.AddOverage(t.Context(), overageOf(account, s, customerID, draft, 80))
	require.NoError(t, err)
	require.Equal(t, id, again)

	w.advance(t, customerID, 2*time.Hour)
	require.False(t, onlySubscription(t, w, customerID).Unpaid)
	paid := invoice(t, w, draft)
	require.Equal(t, stripego.InvoiceStatusPaid, paid.Status)
	require.Equal(t, int64(9900+80), paid.AmountPaid)
	_, ok, err := c.RenewalDraft(t.Context(), customerID, s.ID, s.PeriodStart)
	require.NoError(t, err)
	require.False(t, ok)
	again, err = c.AddOverage(t.Context(), overageOf(account, s, customerID, "", 80))
	require.NoError(t, err)
	require.Equal(t, id, again, "an item is added once, also where it would go elsewhere")
}

func conformPending(t *testing.T, w world) {
	c, account := w.stripe(), w.named("acct_pending")
	customerID := w.customer(t, account)
	subscribe(t, w, customerID, plans.Pro)
	s, draft := renew(t, w, customerID)
	w.advance(t, customerID, 2*time.Hour)
	_, err := c.AddOverage(t.Context(), overageOf(account, s, customerID, draft, 80))
	require.ErrorIs(t, err, billing.ErrInvoiceClosed)
	_, err = c.AddOverage(t.Context(), overageOf(account, s, customerID, "", 80))
	require.NoError(t, err)
	_, next := renew(t, w, customerID)
	require.Equal(t, int64(9900+80), invoice(t, w, next).Total)
}

func conformOwnInvoice(t *testing.T, w world) {
	c, account := w.stripe(), w.named("acct_own")
	customerID := w.customer(t, account)
	s := billing.Subscription{ID: subscribe(t, w, customerID, plans.Pro), PeriodStart: w.now(t, customerID)}
	left := overageOf(account, s, customerID, "", 55)
	_, err := c.AddOverage(t.Context(), left)
	require.NoError(t, err)
	require.NoError(t, c.CancelSubscription(t.Context(), billing.Cancellation{SubscriptionID: s.ID, Key: account}))
	own := billing.OwnInvoice{
		AccountID: account, CustomerID: customerID, SubscriptionID: s.ID, Description: "Last period", Key: account,
		Items: []billing.OverageItem{left, overageOf(account, s, customerID, "", 125)},
	}
	id, err := c.BillAlone(t.Context(), own)
	require.NoError(t, err)
	again, err := c.BillAlone(t.Context(), own)
	require.NoError(t, err)
	require.Equal(t, id, again)
	require.Equal(t, int64(55+125), invoice(t, w, id).Total)
	w.advance(t, customerID, 2*time.Hour)
	require.Equal(t, stripego.InvoiceStatusPaid, invoice(t, w, id).Status)
}

func conformVoid(t *testing.T, w world) {
	c, account := w.stripe(), w.named("acct_void")
	customerID := w.customer(t, account)
	s := billing.Subscription{ID: subscribe(t, w, customerID, plans.Pro), PeriodStart: w.now(t, customerID)}
	require.NoError(t, c.CancelSubscription(t.Context(), billing.Cancellation{SubscriptionID: s.ID, Key: account}))
	item := overageOf(account, s, customerID, "", 55)
	own := billing.OwnInvoice{
		AccountID: account, CustomerID: customerID, SubscriptionID: s.ID, Description: "Last period", Key: account,
		Items: []billing.OverageItem{item},
	}
	first, err := c.BillAlone(t.Context(), own)
	require.NoError(t, err)
	voided, err := c.VoidedItems(t.Context(), customerID)
	require.NoError(t, err)
	require.Empty(t, voided)
	_, err = c.api.Invoices.VoidInvoice(first, &stripego.InvoiceVoidInvoiceParams{Params: write(t.Context(), account+":void")})
	require.NoError(t, err)
	voided, err = c.VoidedItems(t.Context(), customerID)
	require.NoError(t, err)
	require.Len(t, voided, 1)
	require.NotEmpty(t, voided[item.Key])

	second, err := c.BillAlone(t.Context(), own)
	require.NoError(t, err)
	require.NotEqual(t, first, second)
	require.Equal(t, int64(55), invoice(t, w, second).Total)
	voided, err = c.VoidedItems(t.Context(), customerID)
	require.NoError(t, err)
	require.Empty(t, voided)
	again, err := c.BillAlone(t.Context(), own)
	require.NoError(t, err)
	require.Equal(t, second, again)
}

func conformCancel(t *testing.T, w world) {
	c, account := w.stripe(), w.named("acct_cancel")
	customerID := w.customer(t, account)
	id := subscribe(t, w, customerID, plans.Pro)
	for range 2 {
		require.NoError(t, c.CancelSubscription(t.Context(), billing.Cancellation{SubscriptionID: id, Refund: true, Key: account}))
	}
	params := &stripego.SubscriptionParams{Params: read(t.Context())}
	params.AddExpand("latest_invoice.charge")
	s, err := c.api.Subscriptions.Get(id, params)
	require.NoError(t, err)
	require.Equal(t, stripego.SubscriptionStatusCanceled, s.Status)
	require.InDelta(t, 9900, s.LatestInvoice.Charge.AmountRefunded, 1, "all of it: nothing was used")
}

func conformTopUp(t *testing.T, w world) {
	c, account := w.stripe(), w.named("acct_topup")
	customerID := w.customer(t, account)
	session, err := c.CreateTopUp(t.Context(), billing.TopUp{
		AccountID: account, CustomerID: customerID, Name: "50,000 credits", Credits: 50_000, AmountCents: 5000, Key: account,
		SuccessURL: "https://app.test/ok", CancelURL: "https://app.test/no",
	})
	require.NoError(t, err)
	want := billing.Payment{SessionID: session.ID, AccountID: account, CustomerID: customerID, Credits: 50_000, AmountCents: 5000}
	requirePayment(t, w, want)
	require.NoError(t, c.ExpireCheckouts(t.Context(), customerID, ""))
	if !w.pay(t, session.ID) {
		t.Skip("NOT RUN AGAINST STRIPE ITSELF: paying takes a browser")
	}
	want.Paid = true
	requirePayment(t, w, want)
	paid, _, err := c.TopUpPayment(t.Context(), session.ID)
	require.NoError(t, err)

	_, err = c.api.Refunds.New(&stripego.RefundParams{
		Params: read(t.Context()), PaymentIntent: stripego.String(paid.PaymentIntentID), Amount: stripego.Int64(1200),
	})
	require.NoError(t, err)
	want.RefundedCents = 1200
	requirePayment(t, w, want)
	if w.dispute(t, paid.PaymentIntentID, false) {
		want.Disputed = true
		requirePayment(t, w, want)
	}
	byIntent, ok, err := c.TopUpOfPaymentIntent(t.Context(), paid.PaymentIntentID)
	require.NoError(t, err)
	require.True(t, ok)
	all, err := c.TopUps(t.Context(), customerID)
	require.NoError(t, err)
	require.Equal(t, []billing.Payment{byIntent}, all)
}

// requirePayment compares what does not depend on Stripe's choice of ids and time.
func requirePayment(t *testing.T, w world, want billing.Payment) {
	t.Helper()
	got, ok, err := w.stripe().TopUpPayment(t.Context(), want.SessionID)
	require.NoError(t, err)
	require.True(t, ok)
	got.PaymentIntentID, got.Created = "", time.Time{}
	require.Equal(t, want, got)
}

func conformEvents(t *testing.T, w world) {
	customerID := w.customer(t, w.named("acct_events"))
	since := w.now(t, customerID).Add(-time.Minute)
	subscribe(t, w, customerID, plans.Pro)
	var all []billing.Event
	require.NoError(t, w.stripe().Events(t.Context(), since, func(e billing.Event) error { all = append(all, e); return nil }))
	require.True(t, slices.IsSortedFunc(all, func(a, b billing.Event) int { return a.Created.Compare(b.Created) }))
	var kinds []string
	for _, e := range all {
		require.NotEmpty(t, e.CustomerID)
		if e.CustomerID == customerID {
			kinds = append(kinds, e.Type)
		}
	}
	require.Subset(t, kinds, []string{"customer.subscription.created", "invoice.created", "invoice.paid"})
}
