package stripesim_test

import (
	"encoding/json"
	"net/http"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"github.com/stripe/stripe-go/v76"
)

func day(y int, m time.Month, d int) time.Time { return time.Date(y, m, d, 9, 30, 15, 0, time.UTC) }

func (b *bundle) get(t *testing.T, id string) *stripe.Subscription {
	t.Helper()
	sub, err := b.api.Subscriptions.Get(id, nil)
	require.NoError(t, err)
	return sub
}

func TestPeriodsClipAtMonthEnd(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		start time.Time
		ends  []time.Time
	}{
		{day(2026, 1, 31), []time.Time{day(2026, 2, 28), day(2026, 3, 31), day(2026, 4, 30), day(2026, 5, 31)}},
		{day(2028, 1, 30), []time.Time{day(2028, 2, 29), day(2028, 3, 30)}},
		{day(2026, 12, 15), []time.Time{day(2027, 1, 15), day(2027, 2, 15)}},
		{day(2026, 6, 30).In(time.FixedZone("", 20*3600)), []time.Time{day(2026, 7, 30)}},
	} {
		b := setup(t)
		b.clock.Set(tt.start)
		sub := b.subscribe(t, "starter")
		for _, end := range tt.ends {
			require.Equal(t, end.Unix(), b.get(t, sub.ID).CurrentPeriodEnd, "%v", end)
			b.clock.Set(end)
		}
	}
}

var paidStory = []string{
	"payment_intent.created", "invoice.finalized", "charge.succeeded", "payment_intent.succeeded", "invoice.paid",
	"invoice.payment_succeeded",
}

func TestRenewal(t *testing.T) {
	t.Parallel()
	b := setup(t)
	sub := b.subscribe(t, "starter")
	first := sub.LatestInvoice.ID
	before := len(b.sim.Events())
	b.clock.Set(time.Unix(sub.CurrentPeriodEnd, 0))
	renewed := b.get(t, sub.ID)
	require.Equal(t, sub.CurrentPeriodEnd, renewed.CurrentPeriodStart)
	require.NotEqual(t, first, renewed.LatestInvoice.ID)
	require.Equal(t, []string{"invoice.created", "customer.subscription.updated"}, b.eventTypes(before))
	before = len(b.sim.Events())
	b.sim.Advance(time.Hour - time.Second)
	require.Empty(t, b.eventTypes(before), "a draft is left open for an hour")
	b.sim.Advance(time.Second)
	require.Equal(t, paidStory, b.eventTypes(before))
	inv, err := b.api.Invoices.Get(renewed.LatestInvoice.ID, nil)
	require.NoError(t, err)
	require.Equal(t, stripe.InvoiceBillingReasonSubscriptionCycle, inv.BillingReason)
	require.Equal(t, renewed.CurrentPeriodEnd, inv.Lines.Data[0].Period.End)
	require.Equal(t, sub.CurrentPeriodStart, inv.PeriodStart, "an invoice's own period lies behind it")
}

func TestCancelAtPeriodEnd(t *testing.T) {
	t.Parallel()
	b := setup(t)
	sub := b.subscribe(t, "starter")
	before := len(b.sim.Events())
	require.NoError(t, b.sim.CancelSubscription(sub.ID, true))
	require.NoError(t, b.sim.CancelSubscription(sub.ID, true), "again is no change")
	require.Equal(t, []string{"customer.subscription.updated"}, b.eventTypes(before))
	require.Equal(t, map[string]any{
		"cancel_at": nil, "cancel_at_period_end": false, "canceled_at": nil,
		"cancellation_details": map[string]any{"reason": nil},
	}, b.previous(t))

	b.clock.Set(time.Unix(sub.CurrentPeriodEnd, 0))
	ended := b.get(t, sub.ID)
	require.Equal(t, stripe.SubscriptionStatusCanceled, ended.Status)
	require.Equal(t, sub.CurrentPeriodEnd, ended.EndedAt)
	require.Equal(t, []string{"customer.subscription.updated", "customer.subscription.deleted"}, b.eventTypes(before))
}

func TestCancelNow(t *testing.T) {
	t.Parallel()
	b := setup(t)
	sub := b.subscribe(t, "starter")
	before := len(b.sim.Events())
	require.NoError(t, b.sim.CancelSubscription(sub.ID, false))
	require.Error(t, b.sim.CancelSubscription(sub.ID, false))
	require.Error(t, b.sim.CancelSubscription("sub_x", false))
	require.Equal(t, []string{"customer.subscription.deleted"}, b.eventTypes(before))
	ended := b.get(t, sub.ID)
	require.Equal(t, b.clock.Now().Unix(), ended.CanceledAt)
	require.Equal(t, b.clock.Now().Unix(), ended.EndedAt)
	require.Equal(t, http.StatusNotFound, b.do(t, "DELETE", "/v1/subscriptions/"+sub.ID, "").status)
	require.Equal(t, http.StatusBadRequest, b.do(t, "POST", "/v1/subscriptions/"+sub.ID, "cancel_at_period_end=true").status)
	for query, n := range map[string]int{"": 0, "status=active": 0, "status=all": 1, "status=canceled": 1, "status=ended": 1} {
		list := b.do(t, "GET", "/v1/subscriptions?"+query, "")
		require.Len(t, list.body["data"], n, query)
	}
}

func TestPlanChangeNamesWhatChanged(t *testing.T) {
	t.Parallel()
	b := setup(t)
	sub := b.subscribe(t, "starter")
	before := len(b.sim.Events())
	form := "items[0][id]=" + sub.Items.Data[0].ID + "&items[0][price]=" + b.price(t, "pro").ID
	require.Equal(t, http.StatusOK, b.do(t, "POST", "/v1/subscriptions/"+sub.ID, form, "Idempotency-Key", "k").status)
	story := []string{"invoiceitem.created", "invoiceitem.created", "customer.subscription.updated"}
	require.Equal(t, story, b.eventTypes(before))
	previous := b.previous(t)
	require.Len(t, previous, 1)
	old := previous["items"].(map[string]any)["data"].([]any)[0].(map[string]any)
	require.Equal(t, "starter", old["price"].(map[string]any)["lookup_key"])

	require.Equal(t, http.StatusOK, b.do(t, "POST", "/v1/subscriptions/"+sub.ID, form).status)
	require.Len(t, b.eventTypes(before), len(story), "the same plan again is no change")
}

// previous is the previous_attributes of the last event.
func (b *bundle) previous(t *testing.T) map[string]any {
	t.Helper()
	events := b.sim.Events()
	var payload struct {
		Data struct {
			Previous map[string]any `json:"previous_attributes"`
		} `json:"data"`
	}
	require.NoError(t, json.Unmarshal(events[len(events)-1].Payload, &payload))
	return payload.Data.Previous
}
