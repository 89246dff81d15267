package httpapi_test

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/require"

	"github.com/keymeter/keymeter/internal/stripesim"
	"github.com/keymeter/keymeter/internal/testkit"
)

// renewal is when the subscriptions of these tests renew for the first time.
var renewal = time.Date(2026, 4, 21, 10, 30, 0, 0, time.UTC)

type stripeItem struct {
	Amount      int64
	Description string
	Invoice     *string
	Metadata    map[string]string
}

func (w *world) items(customerID string) []stripeItem {
	w.t.Helper()
	var list struct{ Data []stripeItem }
	require.NoError(w.t, json.Unmarshal([]byte(w.stripeGet("/v1/invoiceitems?limit=100&customer="+customerID)), &list))
	return list.Data
}

type stripeInvoice struct {
	ID, Status    string
	Total         int64
	BillingReason string `json:"billing_reason"`
}

// invoices returns the customer's invoices, newest first.
func (w *world) invoices(customerID string) []stripeInvoice {
	w.t.Helper()
	var list struct{ Data []stripeInvoice }
	require.NoError(w.t, json.Unmarshal([]byte(w.stripeGet("/v1/invoices?limit=100&customer="+customerID)), &list))
	return list.Data
}

// billed waits until so many overages are in a state.
func (w *world) bills(state string, n int) {
	w.t.Helper()
	testkit.Eventually(w.t, state+" overage", func() bool { return w.count("overage_bills WHERE state = $1", state) == n })
}

// at moves the time, for everybody.
func (w *world) at(when time.Time) {
	w.clock.Set(when)
	w.sim.Advance()
}

// overspent is a customer on pro that used 50,000 credits too many: 4,000 cents.
func (w *world) overspent() (c customer, customerID string) {
	w.t.Helper()
	c = w.newCustomer()
	w.subscribe(c, "pro")
	w.reconcile()
	w.record(event{"id": "over", "accountId": c.ID, "category": "rag", "credits": 250000}).want(http.StatusOK)
	return c, *w.account(c).StripeCustomerID
}

func TestOverageIsOnTheRenewal(t *testing.T) {
	t.Parallel()
	w := newWorld(t, withStripe)
	_, customerID := w.overspent()
	require.NoError(t, w.sim.AddFault(stripesim.Fault{Kind: stripesim.ResetAfter, Route: "POST /v1/invoiceitems", Calls: 1}))
	w.at(renewal.Add(time.Second))
	w.delivered()
	w.bills("billed", 1)
	items := w.items(customerID)
	require.Len(t, items, 1)
	require.Equal(t, int64(4000), items[0].Amount)
	require.Equal(t, "Usage beyond the plan, 21 Mar 2026 to 21 Apr 2026: 50000 credits at $0.0008", items[0].Description)
	require.Equal(t, "0.0008", items[0].Metadata["keymeter_unit_price"])
	require.Equal(t, w.invoices(customerID)[0].ID, *items[0].Invoice)

	w.at(renewal.Add(2 * time.Hour))
	w.delivered()
	require.Equal(t, stripeInvoice{w.invoices(customerID)[0].ID, "paid", 9900 + 4000, "subscription_cycle"}, w.invoices(customerID)[0])
	w.reconcile()
	require.Len(t, w.items(customerID), 1)
}

// The draft may be closed between the moment it is found and that of the item.
func TestDraftClosesMeanwhile(t *testing.T) {
	t.Parallel()
	w := newWorld(t, withStripe)
	_, customerID := w.overspent()
	handler := w.sim.Handler()
	var once sync.Once
	w.stripeAnswers.Store(http.HandlerFunc(func(res http.ResponseWriter, req *http.Request) {
		if req.Method == http.MethodPost && req.URL.Path == "/v1/invoiceitems" {
			once.Do(func() { w.at(renewal.Add(2 * time.Hour)) })
		}
		handler.ServeHTTP(res, req)
	}))
	w.at(renewal.Add(time.Second))
	w.bills("billed", 1)
	items := w.items(customerID)
	require.Len(t, items, 1)
	require.Nil(t, items[0].Invoice)
	require.Equal(t, int64(9900), w.invoices(customerID)[0].Total)
}

// Usage may close the period before Stripe has renewed, and every webhook of the renewal may be lost.
func TestOverageAfterTheDraft(t *testing.T) {
	t.Parallel()
	w := newWorld(t, withStripe)
	c, customerID := w.overspent()
	w.sim.SetWebhook("", webhookSecret)
	w.at(renewal.Add(3 * time.Hour))
	w.record(event{"id": "next", "accountId": c.ID, "category": "rag", "credits": 1}).want(http.StatusOK)
	w.reconcile()
	w.bills("billed", 1)
	items := w.items(customerID)
	require.Len(t, items, 1)
	require.Nil(t, items[0].Invoice, "it waits for the next invoice")

	w.at(renewal.AddDate(0, 1, 0).Add(2 * time.Hour))
	w.reconcile()
	require.Equal(t, int64(9900+4000), w.invoices(customerID)[0].Total)
	require.NoError(t, w.sim.CancelSubscription(w.subscriptionsAtStripe(customerID)[0], false))
	w.clock.Advance(time.Minute)
	w.reconcile()
	w.bills("billed", 1)
	require.Len(t, w.invoices(customerID), 3, "it is on one, so that it needs none of its own")
}

func TestOverageOfLastPeriod(t *testing.T) {
	t.Parallel()
	w := newWorld(t, withStripe)
	_, customerID := w.overspent()
	require.NoError(t, w.sim.AddFault(stripesim.Fault{Kind: stripesim.ResetAfter, Route: "POST /v1/invoices", Calls: 1}))
	require.NoError(t, w.sim.CancelSubscription(w.subscriptionsAtStripe(customerID)[0], false))
	w.delivered()
	w.bills("billed", 1)
	w.at(w.clock.Now().Add(2 * time.Hour)) // Stripe takes its time to collect
	invoices := w.invoices(customerID)
	require.Len(t, invoices, 2)
	require.Equal(t, stripeInvoice{invoices[0].ID, "paid", 4000, "manual"}, invoices[0])
}

// An item that waits for an invoice which never comes gets one of its own.
func TestStrandedOverage(t *testing.T) {
	t.Parallel()
	w := newWorld(t, withStripe)
	_, customerID := w.overspent()
	w.sim.SetWebhook("", webhookSecret)
	w.at(renewal.Add(3 * time.Hour))
	w.reconcile()
	w.bills("billed", 1)
	require.NoError(t, w.sim.CancelSubscription(w.subscriptionsAtStripe(customerID)[0], false))
	w.clock.Advance(time.Minute)
	w.reconcile()
	testkit.Eventually(t, "an invoice", func() bool { return w.count("overage_bills WHERE invoice_id IS NOT NULL AND state = 'billed'") == 1 })
	require.Equal(t, int64(4000), w.invoices(customerID)[0].Total)
	require.Len(t, w.items(customerID), 1)
}

// A renewal that is a draft when its subscription is cancelled stays one. What is on it gets an invoice of its own.
func TestOverageOnAnAbandonedDraft(t *testing.T) {
	t.Parallel()
	w := newWorld(t, withStripe)
	_, customerID := w.overspent()
	w.at(renewal.Add(time.Second))
	w.delivered()
	w.bills("billed", 1)
	require.NoError(t, w.sim.CancelSubscription(w.subscriptionsAtStripe(customerID)[0], false))
	w.delivered()
	testkit.Eventually(t, "an invoice of its own", func() bool { return len(w.invoices(customerID)) == 3 })
	w.bills("billed", 1)
	w.at(w.clock.Now().Add(2 * time.Hour))
	invoices := w.invoices(customerID)
	require.Equal(t, stripeInvoice{invoices[0].ID, "paid", 4000, "manual"}, invoices[0])
	require.Equal(t, stripeInvoice{invoices[1].ID, "draft", 9900, "subscription_cycle"}, invoices[1], "without the overage")
	w.reconcile()
	require.Len(t, w.items(customerID), 1)
}

type problems struct {
	Events []struct {
		ID, Error string
		Attempts  int
	}
	Overage []struct {
		ID, AccountID, State, Error string
		AmountCents                 int64
	}
	FailingEvents, PendingOverage, ParkedOverage, DuplicateSubscriptions int64
}

func (w *world) problems() (p problems) {
	w.t.Helper()
	w.call("GET", "/v1/billing/problems", nil, bearer(theOperatorToken)).want(http.StatusOK, &p)
	return p
}

func TestOverageThatIsRefused(t *testing.T) {
	t.Parallel()
	w := newWorld(t, withStripe)
	c, customerID := w.overspent()
	handler := w.sim.Handler()
	w.stripeAnswers.Store(http.HandlerFunc(func(res http.ResponseWriter, req *http.Request) {
		if req.Method != http.MethodPost || req.URL.Path != "/v1/invoiceitems" {
			handler.ServeHTTP(res, req)
			return
		}
		res.WriteHeader(http.StatusBadRequest)
		_, _ = res.Write([]byte(`{"error":{"type":"invalid_request_error","code":"currency_mismatch","message":"Not in usd, sk_test_keymeter."}}`))
	}))
	w.at(renewal.Add(time.Second))
	w.delivered()
	w.bills("parked", 1)
	p := w.problems()
	require.Equal(t, int64(1), p.ParkedOverage)
	require.Equal(t, c.ID, p.Overage[0].AccountID)
	require.Contains(t, p.Overage[0].Error, "currency_mismatch")
	require.NotContains(t, w.dump()+w.log.String(), stripeKey)
	w.clock.Advance(10 * time.Minute)
	require.Equal(t, int64(1), w.reconcile().ParkedOverage, "it is not tried again by itself")

	retry := func(id string) response {
		return w.call("POST", "/v1/billing/overage/"+id+"/retry", nil, bearer(theOperatorToken))
	}
	w.stripeAnswers.Store(http.HandlerFunc(handler.ServeHTTP))
	retry(p.Overage[0].ID).want(http.StatusNoContent)
	w.bills("billed", 1)
	require.Len(t, w.items(customerID), 1)
	require.Empty(t, w.problems().Overage)
	retry(p.Overage[0].ID).wantProblem(http.StatusConflict, "overage_not_parked")
	retry("ovg_nobody").wantProblem(http.StatusNotFound, "overage_not_found")
}

// The message of a refusal is kept as far as it fits, whatever characters it has.
func TestOverageThatIsRefusedAtLength(t *testing.T) {
	t.Parallel()
	for n := range 3 {
		t.Run(strconv.Itoa(n), func(t *testing.T) {
			t.Parallel()
			w := newWorld(t, withStripe)
			w.overspent()
			handler := w.sim.Handler()
			w.stripeAnswers.Store(http.HandlerFunc(func(res http.ResponseWriter, req *http.Request) {
				if req.Method != http.MethodPost || req.URL.Path != "/v1/invoiceitems" {
					handler.ServeHTTP(res, req)
					return
				}
				res.WriteHeader(http.StatusBadRequest)
				_, _ = fmt.Fprintf(res, `{"error":{"type":"invalid_request_error","message":"%s%s"}}`,
					strings.Repeat("-", n), strings.Repeat("’", 500))
			}))
			w.at(renewal.Add(time.Second))
			w.delivered()
			w.bills("parked", 1)
		})
	}
}

// Whoever voids an invoice waives what is on it. That is seen, and can be taken back.
func TestOverageOnAVoidInvoice(t *testing.T) {
	t.Parallel()
	w := newWorld(t, withStripe)
	_, customerID := w.overspent()
	subscriptionID := w.subscriptionsAtStripe(customerID)[0]
	w.atStripe("POST", "/v1/subscriptions/"+subscriptionID, url.Values{"pause_collection[behavior]": {"void"}})
	w.at(renewal.Add(time.Second))
	w.delivered()
	w.bills("billed", 1)
	w.at(renewal.Add(2 * time.Hour))
	w.delivered()
	w.bills("voided", 1)
	voided := w.problems().Overage[0]
	require.Equal(t, []any{"voided", int64(4000)}, []any{voided.State, voided.AmountCents})
	w.told("evt_again", "invoice.voided", customerID)
	w.bills("voided", 1)

	retry := func() {
		w.call("POST", "/v1/billing/overage/"+voided.ID+"/retry", nil, bearer(theOperatorToken)).want(http.StatusNoContent)
	}
	retry()
	w.bills("billed", 1)
	w.atStripe("POST", "/v1/subscriptions/"+subscriptionID, url.Values{"pause_collection": {""}})
	require.NoError(t, w.sim.CancelSubscription(subscriptionID, false))
	w.delivered()
	testkit.Eventually(t, "an invoice of its own", func() bool {
		latest := w.invoices(customerID)[0]
		return latest.BillingReason == "manual" && latest.Total == 4000 && latest.Status != "draft"
	})
	w.told("evt_more", "invoice.voided", customerID)
	w.bills("billed", 1)
}

// Overage that is billed anew while the customer is read is not taken for what was voided.
func TestOverageIsBilledAnewMeanwhile(t *testing.T) {
	t.Parallel()
	w := newWorld(t, withStripe)
	c, customerID := w.overspent()
	w.at(renewal.Add(time.Second))
	w.delivered()
	w.bills("billed", 1)
	w.spend(c, "more", 450_000)
	require.NoError(t, w.sim.SetCard(customerID, stripesim.Card{Outcome: stripesim.Declines}))
	w.at(renewal.Add(2 * time.Hour))
	w.delivered()
	w.bills("billed", 2) // the other one is for the next invoice
	w.atStripe("POST", "/v1/invoices/"+w.invoices(customerID)[0].ID+"/void", nil)
	w.delivered()
	w.bills("voided", 1)

	read, answer := w.holdAnswer("/v1/checkout/sessions")
	w.webhook(webhookSecret, hint("evt_again", "invoice.voided", customerID)).want(http.StatusOK)
	<-read
	w.call("POST", "/v1/billing/overage/"+w.problems().Overage[0].ID+"/retry", nil, bearer(theOperatorToken)).
		want(http.StatusNoContent)
	w.bills("billed", 2)
	close(answer)
	w.workedOff()
	w.bills("billed", 2)
	require.Empty(t, w.problems().Overage)
}

// A period that ends once more, since a backup was restored, is not billed again; and if it ends otherwise, that is seen.
func TestOverageAfterARestore(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		lost  int64 // credits that were used since the backup
		state string
	}{"nothing is lost": {0, "billed"}, "usage is lost": {1000, "parked"}} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			w := newWorld(t, withStripe)
			customer, customerID := w.overspent()
			restore := w.backup()
			w.spend(customer, "more", c.lost)
			w.at(renewal.Add(time.Second))
			w.delivered()
			w.bills("billed", 1)
			before := w.items(customerID)
			require.Len(t, before, 1)

			restore()
			_, err := w.app.Reconcile(t.Context())
			require.NoError(t, err)
			w.bills(c.state, 1)
			require.Equal(t, before, w.items(customerID))
			if c.state == "parked" {
				require.Contains(t, w.problems().Overage[0].Error, "billed_otherwise")
			}
		})
	}
}

// backup keeps what is stored, and returns what brings that back.
func (w *world) backup() (restore func()) {
	ctx := context.Background()
	rows, err := w.pool.Query(ctx, `SELECT tablename FROM pg_tables WHERE schemaname = 'public'`)
	require.NoError(w.t, err)
	tables, err := pgx.CollectRows(rows, pgx.RowTo[string])
	require.NoError(w.t, err)
	inTx := func(statements ...string) {
		require.NoError(w.t, pgx.BeginFunc(ctx, w.pool, func(tx pgx.Tx) error {
			_, err := tx.Exec(ctx, strings.Join(statements, ";"))
			return err
		}))
	}
	save, load := []string{"CREATE SCHEMA backup"}, []string{
		"SET LOCAL session_replication_role = replica",
		"SET LOCAL deadlock_timeout = '1min'", // so that it is the server's workers who give way, and try again
	}
	for _, table := range tables {
		save = append(save, fmt.Sprintf("CREATE TABLE backup.%[1]s AS TABLE public.%[1]s", table))
		load = append(load, fmt.Sprintf("DELETE FROM public.%[1]s; INSERT INTO public.%[1]s SELECT * FROM backup.%[1]s", table))
	}
	inTx(save...)
	return func() { inTx(load...) }
}

func TestOverageWhileStripeIsAway(t *testing.T) {
	t.Parallel()
	w := newWorld(t, withStripe)
	c, customerID := w.overspent()
	w.sim.SetWebhook("", webhookSecret)
	w.at(renewal.Add(time.Second))
	require.NoError(t, w.sim.AddFault(stripesim.Fault{Kind: stripesim.TooManyRequests, RetryAfter: 10 * time.Second}))
	w.record(event{"id": "next", "accountId": c.ID, "category": "rag", "credits": 1}).want(http.StatusOK)
	_, err := w.app.Reconcile(t.Context())
	require.Error(t, err)
	testkit.Eventually(t, "a failure", func() bool { return w.count("overage_bills WHERE state = 'pending' AND last_error IS NOT NULL") == 1 })
	require.Equal(t, "pending", w.problems().Overage[0].State)
	w.sim.ClearFaults()
	w.clock.Advance(10 * time.Minute)
	w.reconcile()
	w.bills("billed", 1)
	require.Len(t, w.items(customerID), 1)
}

func TestOverageWithoutSubscription(t *testing.T) {
	t.Parallel()
	w := newWorld(t, withStripe)
	c := w.newCustomer()
	w.setTier(c, "pro")
	w.record(event{"id": "over", "accountId": c.ID, "category": "rag", "credits": 300000}).want(http.StatusOK)
	w.clock.Advance(40 * 24 * time.Hour)
	w.usage(c)
	w.reconcile()
	w.bills("unbilled", 1)
	require.Equal(t, "unbilled", w.problems().Overage[0].State)
	require.Equal(t, int64(8000), w.problems().Overage[0].AmountCents)
}

// Less than half a cent is nothing.
func TestOverageOfNothing(t *testing.T) {
	t.Parallel()
	w := newWorld(t, withStripe)
	c := w.newCustomer()
	w.subscribe(c, "pro")
	w.record(event{"id": "over", "accountId": c.ID, "category": "rag", "credits": 200006}).want(http.StatusOK)
	w.at(renewal.Add(time.Second))
	w.delivered()
	w.bills("billed", 1)
	require.Empty(t, w.items(*w.account(c).StripeCustomerID))
}
