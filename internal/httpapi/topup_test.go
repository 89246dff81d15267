package httpapi_test

import (
	"context"
	"encoding/json"
	"net/http"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/keymeter/keymeter/internal/app"
)

func topUp(credits int64) map[string]any {
	return map[string]any{
		"credits": credits, "successUrl": "https://yourapp.com/billing/success", "cancelUrl": "https://yourapp.com/billing/cancel",
	}
}

// buy buys credits and returns the payment intent.
func (w *world) buy(c customer, credits int64) (paymentIntent string) {
	w.t.Helper()
	var s session
	w.call("POST", "/v1/billing/topup", topUp(credits), c.auth()).want(http.StatusOK, &s)
	w.click(s.URL + "/complete")
	var paid struct {
		PaymentIntent string `json:"payment_intent"`
		AmountTotal   int64  `json:"amount_total"`
	}
	require.NoError(w.t, json.Unmarshal([]byte(w.stripeGet("/v1/checkout/sessions/"+s.SessionID)), &paid))
	require.Equal(w.t, credits/10, paid.AmountTotal, "a dollar for a thousand")
	return paid.PaymentIntent
}

func TestTopUp(t *testing.T) {
	t.Parallel()
	w := newWorld(t, withStripe)
	c := w.newCustomer()
	remaining := func() int64 { return w.subscription(c).Credits.Remaining }
	payment := w.buy(c, 10000)
	require.Equal(t, int64(2500+10000), remaining())
	require.Equal(t, "free", w.subscription(c).Tier)
	w.told("evt_again", "checkout.session.completed", *w.account(c).StripeCustomerID)
	require.Equal(t, int64(2500+10000), remaining(), "once")

	t.Run("it is there in the next month", func(t *testing.T) {
		w.clock.Advance(32 * 24 * time.Hour)
		require.Equal(t, int64(2500+10000), remaining())
	})
	t.Run("a refund takes its part", func(t *testing.T) {
		_, err := w.sim.Refund(payment, 333)
		require.NoError(t, err)
		w.delivered()
		require.Equal(t, int64(2500+10000-3330), remaining())
		_, err = w.sim.Refund(payment, 1)
		require.NoError(t, err)
		w.delivered()
		require.Equal(t, int64(2500+10000-3340), remaining())
	})
	t.Run("a dispute takes what is left, and not what is used", func(t *testing.T) {
		w.record(event{"id": "used", "accountId": c.ID, "category": "rag", "credits": 3500}).want(http.StatusOK)
		_, err := w.sim.OpenDispute(payment)
		require.NoError(t, err)
		w.delivered()
		require.Zero(t, remaining())
		require.Equal(t, "free", w.subscription(c).Tier)
		w.told("evt_more", "charge.dispute.created", *w.account(c).StripeCustomerID)
		w.clock.Advance(32 * 24 * time.Hour)
		require.Equal(t, int64(2500), remaining())
	})
}

// What a dispute took is there again when it is won.
func TestDisputeOfATopUpIsWon(t *testing.T) {
	t.Parallel()
	w := newWorld(t, withStripe)
	c := w.newCustomer()
	payment := w.buy(c, 10_000)
	w.spend(c, "used", 4500)
	remaining := func() int64 { return w.subscription(c).Credits.Remaining }
	dispute, err := w.sim.OpenDispute(payment)
	require.NoError(t, err)
	w.delivered()
	require.Zero(t, remaining())
	require.NoError(t, w.sim.CloseDispute(dispute, true))
	w.delivered()
	require.Equal(t, int64(8000), remaining())
	w.told("evt_again", "charge.dispute.closed", w.customerID(c))
	require.Equal(t, int64(8000), remaining(), "once")
}

// The money of a top-up may go and come more than once: a refund fails, and then a dispute is won.
func TestMoneyOfATopUpGoesAndComes(t *testing.T) {
	t.Parallel()
	w := newWorld(t, withStripe)
	c := w.newCustomer()
	payment := w.buy(c, 10_000)
	remaining := func() int64 { return w.subscription(c).Credits.Remaining }
	_, err := w.sim.Refund(payment, 300)
	require.NoError(t, err)
	w.delivered()
	require.Equal(t, int64(2500+7000), remaining())
	w.rewriteOf("/v1/checkout/sessions", `"amount_refunded":300`, `"amount_refunded":0`)
	w.told("evt_failed", "charge.refund.updated", w.customerID(c))
	require.Equal(t, int64(2500+10_000), remaining())
	dispute, err := w.sim.OpenDispute(payment)
	require.NoError(t, err)
	w.delivered()
	require.Equal(t, int64(2500), remaining())
	require.NoError(t, w.sim.CloseDispute(dispute, true))
	w.delivered()
	require.Equal(t, int64(2500+10_000), remaining())
}

// A reading of top-ups that took long does not undo what was read after it.
func TestOlderReadingOfTopUpsIsNotWritten(t *testing.T) {
	t.Parallel()
	w := newWorld(t, withStripe)
	c := w.newCustomer()
	dispute, err := w.sim.OpenDispute(w.buy(c, 10_000))
	require.NoError(t, err)
	w.delivered()
	w.reconcile()
	require.Equal(t, int64(2500), w.subscription(c).Credits.Remaining)
	w.clock.Advance(26 * time.Hour) // the checkout is looked at once more
	read, answer := w.holdAnswer("/v1/disputes")
	reconciled := make(chan error, 1)
	go func() {
		_, err := w.app.Reconcile(context.Background())
		reconciled <- err
	}()
	<-read
	require.NoError(t, w.sim.CloseDispute(dispute, true))
	w.delivered()
	require.Equal(t, int64(12_500), w.subscription(c).Credits.Remaining)
	close(answer)
	require.NoError(t, <-reconciled)
	require.Equal(t, int64(12_500), w.subscription(c).Credits.Remaining)
}

// A dispute that is won gives back what it took, and not what a refund did.
func TestARefundStaysWhenADisputeIsWon(t *testing.T) {
	t.Parallel()
	w := newWorld(t, withStripe)
	c := w.newCustomer()
	payment := w.buy(c, 10_000)
	w.spend(c, "used", 2500+9000)
	_, err := w.sim.Refund(payment, 500)
	require.NoError(t, err)
	w.delivered()
	require.Zero(t, w.subscription(c).Credits.Remaining)
	dispute, err := w.sim.OpenDispute(payment)
	require.NoError(t, err)
	w.delivered()
	require.NoError(t, w.sim.CloseDispute(dispute, true))
	w.delivered()
	require.Zero(t, w.subscription(c).Credits.Remaining)
}

// A purchase that no event tells of, not even Stripe's list of them, is found all the same.
func TestReconcileFindsAPurchaseWithoutAnyEvent(t *testing.T) {
	t.Parallel()
	w := newWorld(t, withStripe)
	topped, subscribed, idle := w.newCustomer(), w.newCustomer(), w.newCustomer()
	w.reconcile()
	w.sim.SetWebhook("", webhookSecret)
	w.buy(topped, 10_000)
	var s session
	w.checkout(idle, "pro").want(http.StatusOK, &s)
	w.checkout(subscribed, "pro").want(http.StatusOK, &s)
	require.NoError(t, w.sim.CompleteCheckout(s.SessionID))
	w.clock.Advance(24 * time.Hour)
	_, err := w.pool.Exec(context.Background(), `UPDATE reconciliation SET events_until = $1`, w.clock.Now())
	require.NoError(t, err)
	require.Zero(t, w.reconcile().Checked, "they may still pay")
	w.clock.Advance(time.Hour)
	require.Equal(t, int64(3), w.reconcile().Checked)
	require.Equal(t, int64(12_500), w.subscription(topped).Credits.Remaining)
	require.Equal(t, "pro", w.subscription(subscribed).Tier)
	require.Equal(t, "free", w.subscription(idle).Tier)
	w.clock.Advance(time.Hour)
	require.Zero(t, w.reconcile().Checked, "once")
}

func TestTopUpRequest(t *testing.T) {
	t.Parallel()
	w := newWorld(t, withStripe)
	c := w.newCustomer()
	for _, credits := range []int64{0, -1000, 999, 1500, 4000, 10_001_000, 1_000_001_000} {
		w.call("POST", "/v1/billing/topup", topUp(credits), c.auth()).wantField("credits")
	}
	body := topUp(5000)
	body["cancelUrl"] = "http://evil.com"
	w.call("POST", "/v1/billing/topup", body, c.auth()).wantField("cancelUrl")
	var first, again session
	w.call("POST", "/v1/billing/topup", topUp(5000), c.auth(), idempotencyKey("k")).want(http.StatusOK, &first)
	w.call("POST", "/v1/billing/topup", topUp(5000), c.auth(), idempotencyKey("k")).want(http.StatusOK, &again)
	require.Equal(t, first, again)
	w.stripe.Close()
	r := w.call("POST", "/v1/billing/topup", topUp(5000), c.auth())
	r.wantProblem(http.StatusServiceUnavailable, "billing_unavailable")
	require.NotEmpty(t, r.header.Get("Retry-After"))
}

func TestTopUpsNotSold(t *testing.T) {
	t.Parallel()
	w := newWorld(t, withStripe, withConfig(func(cfg *app.Config) { cfg.Catalogue = "testdata/without_topups.yaml" }))
	c := w.newCustomer()
	w.call("POST", "/v1/billing/topup", topUp(5000), c.auth()).wantProblem(http.StatusConflict, "top_ups_not_sold")
}
