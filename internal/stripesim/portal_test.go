package stripesim_test

import (
	"net/http"
	"slices"
	"testing"

	"github.com/stretchr/testify/require"
	"github.com/stripe/stripe-go/v76"
)

func (b *bundle) portal(t *testing.T, sub *stripe.Subscription, flow *stripe.BillingPortalSessionFlowDataParams) string {
	t.Helper()
	ps, err := b.api.BillingPortalSessions.New(&stripe.BillingPortalSessionParams{
		Customer: stripe.String(sub.Customer.ID), ReturnURL: stripe.String("http://app.test/back"), FlowData: flow,
	})
	require.NoError(t, err)
	return page(t, ps.URL)
}

var changeStory = []string{
	"invoiceitem.created", "invoiceitem.created", "invoice.created", "customer.subscription.updated",
	"payment_intent.created", "invoice.finalized", "charge.succeeded", "payment_intent.succeeded", "invoice.paid",
	"invoice.payment_succeeded",
}

func TestPortalConfirmsAPlanChange(t *testing.T) {
	t.Parallel()
	b := setup(t)
	sub := b.subscribe(t, "starter")
	path := b.portal(t, sub, b.updateFlow(t, sub, "scale"))
	shown := b.do(t, "GET", path, "")
	require.Equal(t, http.StatusOK, shown.status)
	for _, want := range []string{"no money moves", "Starter", "Scale", "$499.00", "at once", "Confirm"} {
		require.Contains(t, shown.raw, want)
	}
	require.Equal(t, http.StatusConflict, b.do(t, "POST", path+"/cancel", "when=now&subscription="+sub.ID).status, "this session is for one change")

	before := len(b.sim.Events())
	done := b.do(t, "POST", path+"/confirm", "")
	require.Equal(t, http.StatusSeeOther, done.status)
	require.Equal(t, "http://app.test/changed", done.header.Get("Location"))
	require.Equal(t, changeStory, b.eventTypes(before))
	require.Equal(t, "scale", b.get(t, sub.ID).Items.Data[0].Price.LookupKey)
	require.Equal(t, http.StatusConflict, b.do(t, "POST", path+"/confirm", "").status)
	require.Equal(t, http.StatusOK, b.do(t, "GET", path, "").status)
}

func TestPortalConfirmsACancellation(t *testing.T) {
	t.Parallel()
	b := setup(t)
	sub := b.subscribe(t, "starter")
	path := b.portal(t, sub, &stripe.BillingPortalSessionFlowDataParams{
		Type:               stripe.String("subscription_cancel"),
		SubscriptionCancel: &stripe.BillingPortalSessionFlowDataSubscriptionCancelParams{Subscription: stripe.String(sub.ID)},
	})
	require.Contains(t, b.do(t, "GET", path, "").raw, "Cancel Starter")
	done := b.do(t, "POST", path+"/confirm", "")
	require.Equal(t, "http://app.test/back", done.header.Get("Location"))
	require.True(t, b.get(t, sub.ID).CancelAtPeriodEnd)
}

func TestPortalChangesTheCard(t *testing.T) {
	t.Parallel()
	b := setup(t)
	sub := b.subscribe(t, "starter")
	path := b.portal(t, sub, &stripe.BillingPortalSessionFlowDataParams{Type: stripe.String("payment_method_update")})
	require.Contains(t, b.do(t, "GET", path, "").raw, "requires authentication")
	before := len(b.sim.Events())
	require.Equal(t, http.StatusSeeOther, b.do(t, "POST", path+"/confirm", "card=declines").status)
	require.Empty(t, b.eventTypes(before))
	b.sim.Advance(32 * aDay)
	require.Equal(t, stripe.SubscriptionStatusPastDue, b.get(t, sub.ID).Status)
}

func TestWholePortal(t *testing.T) {
	t.Parallel()
	b := setup(t)
	sub := b.subscribe(t, "starter")
	path := b.portal(t, sub, nil)
	press := func(button, form string) {
		t.Helper()
		a := b.do(t, "POST", path+"/"+button, "subscription="+sub.ID+"&"+form)
		require.Equal(t, http.StatusSeeOther, a.status, a.raw)
		require.Equal(t, path, a.header.Get("Location"))
	}
	shown := b.do(t, "GET", path, "").raw
	require.Contains(t, shown, "Change to Pro")
	require.Contains(t, shown, `href="http://app.test/back"`)

	before := len(b.sim.Events())
	press("change", "price="+b.price(t, "pro").ID)
	require.Equal(t, "pro", b.get(t, sub.ID).Items.Data[0].Price.LookupKey)
	press("cancel", "when=period_end")
	require.True(t, b.get(t, sub.ID).CancelAtPeriodEnd)
	require.Contains(t, b.do(t, "GET", path, "").raw, "Do not cancel")
	press("resume", "")
	require.False(t, b.get(t, sub.ID).CancelAtPeriodEnd)
	require.Zero(t, b.get(t, sub.ID).CanceledAt)
	press("cancel", "when=now")
	require.Equal(t, stripe.SubscriptionStatusCanceled, b.get(t, sub.ID).Status)
	require.Equal(t, append(slices.Clone(changeStory),
		"customer.subscription.updated", "customer.subscription.updated", "customer.subscription.deleted",
	), b.eventTypes(before))

	require.Equal(t, http.StatusConflict, b.do(t, "POST", path+"/resume", "subscription="+sub.ID).status)
	require.Equal(t, http.StatusConflict, b.do(t, "POST", path+"/confirm", "").status)
	require.Equal(t, http.StatusNotFound, b.do(t, "GET", "/p/session/bps_x", "").status)
}

func TestPortalKeepsCustomersApart(t *testing.T) {
	t.Parallel()
	b := setup(t)
	mine, theirs := b.subscribe(t, "starter"), b.subscribe(t, "pro")
	path := b.portal(t, mine, nil)
	require.NotContains(t, b.do(t, "GET", path, "").raw, theirs.ID)
	require.Equal(t, http.StatusNotFound, b.do(t, "POST", path+"/cancel", "when=now&subscription="+theirs.ID).status)
	_, err := b.api.BillingPortalSessions.New(&stripe.BillingPortalSessionParams{
		Customer: stripe.String(mine.Customer.ID), FlowData: b.updateFlow(t, theirs, "scale"),
	})
	require.ErrorContains(t, err, "No such subscription")
}
