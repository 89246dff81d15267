package httpapi_test

import (
	"context"
	"encoding/json"
	"io"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/keymeter/keymeter/internal/billing"
	"github.com/keymeter/keymeter/internal/stripesim"
	"github.com/keymeter/keymeter/internal/testkit"
)

// atStripe does something at the simulator by Stripe's API, as somebody does in the Dashboard, and returns the id of the
// object that it is about.
func (w *world) atStripe(method, path string, form url.Values) (id string) {
	w.t.Helper()
	req, err := http.NewRequestWithContext(context.Background(), method, w.stripe.URL+path, strings.NewReader(form.Encode()))
	require.NoError(w.t, err)
	req.Header.Set("Authorization", "Bearer "+stripeKey)
	req.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	res, err := http.DefaultClient.Do(req)
	require.NoError(w.t, err)
	defer func() { _ = res.Body.Close() }()
	body, err := io.ReadAll(res.Body)
	require.NoError(w.t, err)
	require.Equal(w.t, http.StatusOK, res.StatusCode, string(body))
	var object struct{ ID string }
	require.NoError(w.t, json.Unmarshal(body, &object))
	return object.ID
}

// subscribeAtStripe gives a customer a subscription by hand.
func (w *world) subscribeAtStripe(customerID, lookupKey string, more ...string) (subscriptionID string) {
	w.t.Helper()
	var prices struct{ Data []struct{ ID string } }
	require.NoError(w.t, json.Unmarshal([]byte(w.stripeGet("/v1/prices?lookup_keys[]="+lookupKey)), &prices))
	form := url.Values{"customer": {customerID}, "items[0][price]": {prices.Data[0].ID}}
	for i := 0; i < len(more); i += 2 {
		form.Set(more[i], more[i+1])
	}
	return w.atStripe("POST", "/v1/subscriptions", form)
}

func (w *world) reconcile() billing.Report {
	w.t.Helper()
	report, err := w.app.Reconcile(context.Background())
	require.NoError(w.t, err)
	w.workedOff() // the server may have been faster to claim what was found
	return report
}

// customerID makes the account a customer of Stripe's and returns its id.
func (w *world) customerID(c customer) string {
	w.t.Helper()
	w.checkout(c, "pro").want(http.StatusOK)
	return *w.account(c).StripeCustomerID
}

func TestReconcileFindsLostWebhooks(t *testing.T) {
	t.Parallel()
	w := newWorld(t, withStripe)
	c := w.newCustomer()
	w.reconcile()
	var s session
	w.checkout(c, "pro").want(http.StatusOK, &s)
	w.sim.SetWebhook("", webhookSecret)
	require.NoError(t, w.sim.CompleteCheckout(s.SessionID))
	require.Equal(t, "free", w.subscription(c).Tier)

	w.clock.Advance(5 * time.Minute)
	// Stripe's list may show an event late, when a run has been past its time.
	_, err := w.pool.Exec(context.Background(), `UPDATE reconciliation SET events_until = $1`, w.clock.Now())
	require.NoError(t, err)
	require.Positive(t, w.reconcile().Found)
	require.Equal(t, "pro", w.subscription(c).Tier)
	require.Zero(t, w.reconcile().Found, "once")

	t.Run("also once Stripe is back", func(t *testing.T) {
		require.NoError(t, w.sim.CancelSubscription(w.subscriptionsAtStripe(*w.account(c).StripeCustomerID)[0], false))
		require.NoError(t, w.sim.AddFault(stripesim.Fault{Kind: stripesim.Unavailable, RetryAfter: time.Hour}))
		w.clock.Advance(time.Hour)
		_, err := w.app.Reconcile(context.Background())
		require.ErrorIs(t, err, billing.ErrUnavailable)
		require.Equal(t, "pro", w.subscription(c).Tier)
		w.sim.ClearFaults()
		w.reconcile()
		require.Equal(t, "free", w.subscription(c).Tier)
	})
}

func TestOldEventsAreForgotten(t *testing.T) {
	t.Parallel()
	w := newWorld(t, withStripe)
	c := w.newCustomer()
	w.subscribe(c, "pro")
	w.delivered()
	_, err := w.pool.Exec(context.Background(), `INSERT INTO stripe_events (id, type, customer_id, received_at, next_attempt_at)
		VALUES ('evt_open', 'customer.updated', 'cus_1', $1, $2)`, w.clock.Now(), w.clock.Now().AddDate(1, 0, 0))
	require.NoError(t, err)
	handled, before := "stripe_events WHERE handled_at <= $1", w.clock.Now()
	for range 2 { // a month and a week later
		require.Positive(t, w.count(handled, before))
		w.clock.Advance(18 * 24 * time.Hour)
		_, err = w.app.Reconcile(context.Background())
		require.NoError(t, err)
	}
	require.Zero(t, w.count(handled, before))
	require.Equal(t, 1, w.count("stripe_events WHERE id = 'evt_open'"), "it is not handled yet")
}

// While a worker has a customer, what comes for it waits, also if it sorts before what that worker has.
func TestOneWorkerHasACustomer(t *testing.T) {
	t.Parallel()
	w := newWorld(t, withStripe)
	customerID := w.customerID(w.newCustomer())
	_, err := w.pool.Exec(context.Background(), `INSERT INTO stripe_events (id, type, customer_id, received_at, next_attempt_at)
		VALUES ('evt_b', 'invoice.paid', $1, $2, $3), ('evt_a', 'invoice.paid', $1, $2, $2)`,
		customerID, w.clock.Now(), w.clock.Now().Add(time.Minute))
	require.NoError(t, err)
	open := "stripe_events WHERE handled_at IS NULL AND customer_id = $1"
	_, err = w.app.Reconcile(context.Background())
	require.NoError(t, err)
	require.Equal(t, 2, w.count(open, customerID))
	w.clock.Advance(time.Minute) // that worker has died
	w.reconcile()
	require.Zero(t, w.count(open, customerID))
}

func TestReconcileOneAtATime(t *testing.T) {
	t.Parallel()
	w := newWorld(t, withStripe)
	w.reconcile()
	_, err := w.pool.Exec(context.Background(), `UPDATE reconciliation SET busy_until = $1`, w.clock.Now().Add(time.Minute))
	require.NoError(t, err)
	require.True(t, w.reconcile().Busy)
	w.clock.Advance(time.Minute)
	require.False(t, w.reconcile().Busy, "whoever was at it has died")
}

// What happens at Stripe without an event that we ever see is found by looking.
func TestReconcileChecksSubscriptions(t *testing.T) {
	t.Parallel()
	w := newWorld(t, withStripe)
	c := w.newCustomer()
	w.subscribe(c, "pro")
	require.Zero(t, w.reconcile().Checked)
	w.rewrite(`"status":"active"`, `"status":"unpaid"`)
	w.clock.Advance(6 * time.Hour)
	require.Equal(t, int64(1), w.reconcile().Checked)
	require.Equal(t, "free", w.subscription(c).Tier)
	require.Zero(t, w.reconcile().Checked)
}

// A reading that took long does not undo what was read after it.
func TestOlderReadingIsNotWritten(t *testing.T) {
	t.Parallel()
	w := newWorld(t, withStripe)
	c := w.newCustomer()
	w.subscribe(c, "pro")
	w.reconcile()
	read, answer := w.holdAnswer("/v1/subscriptions")
	w.clock.Advance(6 * time.Hour)
	reconciled := make(chan error, 1)
	go func() {
		_, err := w.app.Reconcile(context.Background())
		reconciled <- err
	}()
	<-read
	require.NoError(t, w.sim.CancelSubscription(w.subscriptionsAtStripe(*w.account(c).StripeCustomerID)[0], false))
	w.delivered()
	require.Equal(t, "free", w.subscription(c).Tier)
	close(answer)
	require.NoError(t, <-reconciled)
	require.Equal(t, "free", w.subscription(c).Tier)
}

// holdAnswer keeps back Stripe's next answer about a path until answer is closed. read is closed when Stripe has made it.
func (w *world) holdAnswer(path string) (read <-chan struct{}, answer chan<- struct{}) {
	handler, made, goOn := w.sim.Handler(), make(chan struct{}), make(chan struct{})
	var others atomic.Bool
	w.stripeAnswers.Store(http.HandlerFunc(func(res http.ResponseWriter, req *http.Request) {
		recorder := httptest.NewRecorder()
		handler.ServeHTTP(recorder, req)
		if req.Method == http.MethodGet && req.URL.Path == path && !others.Swap(true) {
			close(made)
			<-goOn
		}
		res.WriteHeader(recorder.Code)
		_, _ = res.Write(recorder.Body.Bytes())
	}))
	return made, goOn
}

// An event that fails is tried again until it succeeds, whoever received it.
func TestFailedEventsAreRetried(t *testing.T) {
	t.Parallel()
	w := newWorld(t, withStripe)
	c := w.newCustomer()
	w.subscribe(c, "pro")
	customerID := *w.account(c).StripeCustomerID
	w.rewrite(`"status":"active"`, `"status":"unpaid"`)
	require.NoError(t, w.sim.AddFault(stripesim.Fault{Kind: stripesim.Unavailable, Route: "GET /v1/invoices", RetryAfter: 6 * time.Second}))
	w.webhook(webhookSecret, hint("evt_1", "customer.subscription.updated", customerID)).want(http.StatusOK)
	failed := func(attempts int) func() bool {
		return func() bool {
			return w.count("stripe_events WHERE id = 'evt_1' AND attempts = $1 AND last_error IS NOT NULL AND handled_at IS NULL", attempts) == 1
		}
	}
	testkit.Eventually(t, "a failure", failed(1))
	require.Equal(t, "evt_1", w.problems().Events[0].ID)
	require.Equal(t, int64(1), w.problems().FailingEvents)
	w.webhook(webhookSecret, hint("evt_2", "customer.subscription.updated", customerID)).want(http.StatusOK)
	require.Equal(t, "pro", w.subscription(c).Tier)
	w.clock.Advance(10 * time.Second)
	testkit.Eventually(t, "another failure", failed(2))
	w.sim.ClearFaults()
	w.clock.Advance(5 * time.Minute)
	w.workedOff()
	require.Equal(t, "free", w.subscription(c).Tier)
	require.NotContains(t, w.dump(), stripeKey)
}

func TestGrace(t *testing.T) {
	t.Parallel()
	w := newWorld(t, withStripe)
	c := w.newCustomer()
	w.subscribe(c, "pro")
	customerID := *w.account(c).StripeCustomerID
	require.NoError(t, w.sim.SetDunning(stripesim.Dunning{End: "past_due"}))
	require.NoError(t, w.sim.SetCard(customerID, stripesim.Card{Outcome: stripesim.Declines}))
	w.clock.Set(time.Date(2026, 4, 21, 11, 31, 0, 0, time.UTC))
	w.sim.Advance()
	w.delivered()
	require.Equal(t, "pro", w.subscription(c).Tier)
	require.Equal(t, 1, w.count("billing_accounts WHERE subscription_status = 'past_due' AND past_due_since IS NOT NULL"))

	w.clock.Advance(7*24*time.Hour - time.Second)
	w.reconcile()
	require.Equal(t, "pro", w.subscription(c).Tier, "events in between do not lengthen it")
	w.clock.Advance(time.Second)
	w.reconcile()
	require.Equal(t, "free", w.subscription(c).Tier)
	require.Nil(t, w.subscription(c).TierExpiresAt)

	require.NoError(t, w.sim.SetCard(customerID, stripesim.Card{Outcome: stripesim.Succeeds}))
	w.atStripe("POST", "/v1/invoices/"+w.latestInvoice(customerID)+"/pay", nil)
	w.delivered()
	require.Equal(t, "pro", w.subscription(c).Tier)
	require.Zero(t, w.count("billing_accounts WHERE past_due_since IS NOT NULL"))
}

func (w *world) latestInvoice(customerID string) string {
	w.t.Helper()
	var list struct{ Data []struct{ ID string } }
	require.NoError(w.t, json.Unmarshal([]byte(w.stripeGet("/v1/invoices?customer="+customerID)), &list))
	return list.Data[0].ID
}

func TestPausedCollection(t *testing.T) {
	t.Parallel()
	w := newWorld(t, withStripe)
	c := w.newCustomer()
	w.subscribe(c, "pro")
	id := w.subscriptionsAtStripe(*w.account(c).StripeCustomerID)[0]
	w.atStripe("POST", "/v1/subscriptions/"+id, url.Values{"pause_collection[behavior]": {"void"}})
	w.delivered()
	require.Equal(t, "free", w.subscription(c).Tier)
	w.atStripe("POST", "/v1/subscriptions/"+id, url.Values{"pause_collection": {""}})
	w.delivered()
	require.Equal(t, "pro", w.subscription(c).Tier)
}

// A second subscription can still be made by hand. Nobody pays twice.
func TestSecondSubscription(t *testing.T) {
	t.Parallel()
	w := newWorld(t, withStripe)
	c := w.newCustomer()
	w.subscribe(c, "pro")
	customerID := *w.account(c).StripeCustomerID
	first := w.subscriptionsAtStripe(customerID)
	w.clock.Advance(time.Hour)
	require.NoError(t, w.sim.AddFault(stripesim.Fault{Kind: stripesim.ServerError, Route: "POST /v1/refunds", Calls: 3}))
	w.subscribeAtStripe(customerID, "keymeter_scale_monthly")
	testkit.Eventually(t, "a failed refund", func() bool { return w.count("stripe_events WHERE last_error IS NOT NULL") > 0 })
	require.Equal(t, "pro", w.subscription(c).Tier)
	w.clock.Advance(25 * time.Hour) // Stripe has forgotten the idempotency key of the refund that failed
	w.delivered()
	require.Equal(t, first, w.subscriptionsAtStripe(customerID))
	var refunds struct{ Data []struct{ Amount int64 } }
	require.NoError(t, json.Unmarshal([]byte(w.stripeGet("/v1/refunds")), &refunds))
	require.Len(t, refunds.Data, 1)
	require.Equal(t, int64(49900), refunds.Data[0].Amount)
	require.Equal(t, int64(1), w.reconcile().Duplicates)
	require.Contains(t, w.log.String(), "an account had a second subscription")

	t.Run("one that is another system's is left alone", func(t *testing.T) {
		product := w.atStripe("POST", "/v1/products", url.Values{"name": {"Seats"}})
		w.atStripe("POST", "/v1/prices", url.Values{
			"product": {product}, "currency": {"usd"}, "unit_amount": {"500"}, "recurring[interval]": {"month"}, "lookup_key": {"seats"},
		})
		w.subscribeAtStripe(customerID, "seats")
		w.delivered()
		require.Len(t, w.subscriptionsAtStripe(customerID), 2)
		require.Equal(t, "pro", w.subscription(c).Tier)
	})
}

func TestHandMadeSubscription(t *testing.T) {
	t.Parallel()
	w := newWorld(t, withStripe)
	known, byMetadata := w.newCustomer(), w.newCustomer()
	w.subscribeAtStripe(w.customerID(known), "keymeter_starter_monthly")
	made := w.atStripe("POST", "/v1/customers", url.Values{"metadata[keymeter_account_id]": {byMetadata.ID}})
	w.subscribeAtStripe(made, "keymeter_scale_monthly", "trial_period_days", "14")
	foreign := w.atStripe("POST", "/v1/customers", url.Values{"name": {"Somebody"}})
	w.subscribeAtStripe(foreign, "keymeter_pro_monthly")
	w.delivered()
	require.Equal(t, "starter", w.subscription(known).Tier)
	require.Equal(t, "scale", w.subscription(byMetadata).Tier)
	require.Equal(t, made, *w.account(byMetadata).StripeCustomerID)
	require.Equal(t, 2, w.count("billing_accounts WHERE subscription_id IS NOT NULL"))
}

func TestCustomerDeleted(t *testing.T) {
	t.Parallel()
	w := newWorld(t, withStripe)
	c := w.newCustomer()
	w.subscribe(c, "pro")
	w.record(event{"id": "e", "accountId": c.ID, "category": "rag", "credits": 5}).want(http.StatusOK)
	before := *w.account(c).StripeCustomerID

	t.Run("a claim that it is deleted is not enough", func(t *testing.T) {
		w.told("evt_claim", "customer.deleted", before)
		require.Equal(t, "pro", w.subscription(c).Tier)
	})
	w.atStripe("DELETE", "/v1/customers/"+before, nil)
	w.delivered()
	require.Equal(t, "free", w.subscription(c).Tier)
	require.Nil(t, w.account(c).StripeCustomerID)
	w.newKey(c, nil)
	require.Equal(t, 1, w.count("usage_events WHERE account_id = $1", c.ID))

	w.clock.Advance(time.Hour)
	w.told("evt_late", "customer.subscription.updated", before)
	w.call("POST", "/v1/billing/portal", nil, c.auth()).wantProblem(http.StatusConflict, "no_billing_account")
	w.subscribe(c, "starter")
	require.NotEqual(t, before, *w.account(c).StripeCustomerID)
}

// An account whose customer was deleted has nothing to be read: not even its checkout, which is over.
func TestDeletedCustomerIsNotChecked(t *testing.T) {
	t.Parallel()
	w := newWorld(t, withStripe)
	w.reconcile()
	w.atStripe("DELETE", "/v1/customers/"+w.customerID(w.newCustomer()), nil)
	w.delivered()
	w.clock.Advance(26 * time.Hour)
	report := w.reconcile()
	require.Zero(t, report.Checked)
	require.Zero(t, report.Unreadable)
}

func TestCheckoutOfSuspendedAccount(t *testing.T) {
	t.Parallel()
	w := newWorld(t, withStripe)
	c := w.newCustomer()
	var s session
	w.checkout(c, "pro").want(http.StatusOK, &s)
	w.call("POST", "/v1/accounts/"+c.ID+"/suspend", nil, bearer(theOperatorToken)).want(http.StatusOK)
	w.click(s.URL + "/complete")
	a := w.account(c)
	require.Equal(t, "pro", a.Tier)
	require.Equal(t, "suspended", a.Status)
	w.call("GET", "/v1/usage", nil, c.auth()).wantProblem(http.StatusForbidden, "account_suspended")
}

// A first payment that is not made yet says nothing about what an account had before.
func TestIncompleteSubscription(t *testing.T) {
	t.Parallel()
	w := newWorld(t, withStripe)
	c := w.newCustomer()
	customerID := w.customerID(c)
	w.setTier(c, "scale")
	w.subscribeAtStripe(customerID, "keymeter_starter_monthly", "payment_behavior", "default_incomplete")
	w.delivered()
	require.Equal(t, "scale", w.subscription(c).Tier)
	w.setTier(c, "pro")
	w.checkout(c, "scale").wantProblem(http.StatusConflict, "subscription_needs_payment")
	w.atStripe("POST", "/v1/invoices/"+w.latestInvoice(customerID)+"/pay", nil)
	w.delivered()
	require.Equal(t, "starter", w.subscription(c).Tier)
}
