package stripesim_test

import (
	"encoding/json"
	"net/http"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"github.com/stripe/stripe-go/v76"
)

var checkoutStory = []string{
	"customer.subscription.created", "invoice.created", "payment_intent.created", "invoice.finalized",
	"charge.succeeded", "payment_intent.succeeded", "invoice.paid", "invoice.payment_succeeded",
	"customer.subscription.updated", "checkout.session.completed",
}

func TestCheckoutByCurl(t *testing.T) {
	t.Parallel()
	b := setup(t)
	cs := b.checkout(t, b.customer(t), "pro")

	shown := b.do(t, "GET", page(t, cs.URL), "")
	require.Equal(t, http.StatusOK, shown.status)
	for _, want := range []string{"no money moves", "Pro", "$99.00", "Subscribe", `href="http://app.test/plans"`} {
		require.Contains(t, shown.raw, want)
	}
	require.NotContains(t, shown.raw, "E-mail", "the customer is known")

	before := len(b.sim.Events())
	paid := b.do(t, "POST", page(t, cs.URL)+"/complete", "")
	require.Equal(t, http.StatusSeeOther, paid.status)
	require.Equal(t, "http://app.test/done?session_id="+cs.ID, paid.header.Get("Location"))
	require.Equal(t, checkoutStory, b.eventTypes(before))

	again := b.do(t, "POST", page(t, cs.URL)+"/complete", "")
	require.Equal(t, http.StatusConflict, again.status)
	require.Error(t, b.sim.CompleteCheckout(cs.ID))
	require.Equal(t, http.StatusGone, b.do(t, "GET", page(t, cs.URL), "").status)
	require.Len(t, b.eventTypes(before), len(checkoutStory), "a second click changes nothing")
	require.Equal(t, http.StatusNotFound, b.do(t, "POST", "/c/pay/cs_test_x/complete", "").status)
}

func TestCheckoutMakesItsCustomer(t *testing.T) {
	t.Parallel()
	b := setup(t)
	cs := b.checkout(t, nil, "starter")
	require.Nil(t, cs.Customer)
	require.Contains(t, b.do(t, "GET", page(t, cs.URL), "").raw, "E-mail")
	b.do(t, "POST", page(t, cs.URL)+"/complete", "email=new@example.com")
	require.Equal(t, append([]string{"customer.created"}, checkoutStory...), b.eventTypes(0))
	done, err := b.api.CheckoutSessions.Get(cs.ID, nil)
	require.NoError(t, err)
	require.Equal(t, "new@example.com", done.CustomerDetails.Email)
	require.Empty(t, done.URL)
}

func TestCheckoutSnapshots(t *testing.T) {
	t.Parallel()
	b := setup(t)
	b.subscribe(t, "starter")
	statuses := map[string]string{}
	for _, ev := range b.sim.Events() {
		var payload struct {
			Data struct {
				Object struct {
					Status  string `json:"status"`
					Invoice string `json:"invoice"`
				} `json:"object"`
			} `json:"data"`
			Request struct {
				ID *string `json:"id"`
			} `json:"request"`
		}
		require.NoError(t, json.Unmarshal(ev.Payload, &payload))
		statuses[ev.Type] = payload.Data.Object.Status
		require.Equal(t, ev.Type == "customer.created", payload.Request.ID != nil, "%s: only the API call has a request", ev.Type)
	}
	require.Equal(t, map[string]string{
		"customer.created": "", "customer.subscription.created": "incomplete", "invoice.created": "draft",
		"customer.subscription.updated": "active",
		"invoice.finalized":             "open", "invoice.paid": "paid", "invoice.payment_succeeded": "paid",
		"payment_intent.created": "requires_payment_method", "charge.succeeded": "succeeded",
		"payment_intent.succeeded": "succeeded", "checkout.session.completed": "complete",
	}, statuses)
}

func TestExpire(t *testing.T) {
	t.Parallel()
	b := setup(t)
	cs := b.checkout(t, nil, "starter")
	expired, err := b.api.CheckoutSessions.Expire(cs.ID, nil)
	require.NoError(t, err)
	require.Equal(t, stripe.CheckoutSessionStatusExpired, expired.Status)
	require.Equal(t, []string{"checkout.session.expired"}, b.eventTypes(0))
	require.Equal(t, http.StatusConflict, b.do(t, "POST", page(t, cs.URL)+"/complete", "").status)
	require.Equal(t, http.StatusBadRequest, b.do(t, "POST", "/v1/checkout/sessions/"+cs.ID+"/expire", "").status)
	require.Len(t, b.sim.Events(), 1)
}

func TestSessionExpiresAfterADay(t *testing.T) {
	t.Parallel()
	b := setup(t)
	cs := b.checkout(t, nil, "starter")
	b.clock.Set(time.Unix(cs.ExpiresAt-1, 0))
	b.sim.Advance()
	require.Empty(t, b.sim.Events())
	b.clock.Set(time.Unix(cs.ExpiresAt, 0))
	require.Error(t, b.sim.CompleteCheckout(cs.ID))
	require.Equal(t, []string{"checkout.session.expired"}, b.eventTypes(0))
	require.Equal(t, int64(24*time.Hour/time.Second), cs.ExpiresAt-cs.Created)
}

func TestManyClicksMakeOneSubscription(t *testing.T) {
	t.Parallel()
	b := setup(t)
	hook := newReceiver(t, 0)
	b.sim.SetWebhook(hook.URL, testSecret)
	b.run(t)
	cs := b.checkout(t, b.customer(t), "starter")
	clicks := make(chan error, 10)
	for range cap(clicks) {
		go func() { clicks <- b.sim.CompleteCheckout(cs.ID) }()
	}
	var paid int
	for range cap(clicks) {
		if <-clicks == nil {
			paid++
		}
	}
	require.Equal(t, 1, paid)
	b.waitDelivered(t)
	require.Equal(t, append([]string{"customer.created"}, checkoutStory...), hook.types())
}
