package stripesim_test

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"github.com/stripe/stripe-go/v76"

	"github.com/keymeter/keymeter/internal/stripesim"
)

const aDay = 24 * time.Hour

// story is the events after the first n with the simulated moment of each.
func (b *bundle) story(n int) []string {
	var out []string
	for _, ev := range b.sim.Events()[n:] {
		out = append(out, ev.Created.UTC().Format("02 Jan 15:04 ")+ev.Type)
	}
	return out
}

// billed is the subscription's invoices, newest first.
func (b *bundle) billed(t *testing.T, sub string) []*stripe.Invoice {
	t.Helper()
	var out []*stripe.Invoice
	it := b.api.Invoices.List(&stripe.InvoiceListParams{Subscription: stripe.String(sub)})
	for it.Next() {
		out = append(out, it.Invoice())
	}
	require.NoError(t, it.Err())
	return out
}

func TestAdvanceOverMonths(t *testing.T) {
	t.Parallel()
	b := setup(t)
	b.clock.Set(day(2026, 1, 31))
	sub := b.subscribe(t, "starter")
	before := len(b.sim.Events())
	b.sim.Advance(60 * aDay)
	require.Equal(t, day(2026, 1, 31).Add(60*aDay), b.sim.Now())
	require.Equal(t, []string{
		"28 Feb 09:30 invoice.created", "28 Feb 09:30 customer.subscription.updated",
		"28 Feb 10:30 payment_intent.created", "28 Feb 10:30 invoice.finalized", "28 Feb 10:30 charge.succeeded",
		"28 Feb 10:30 payment_intent.succeeded", "28 Feb 10:30 invoice.paid", "28 Feb 10:30 invoice.payment_succeeded",
		"31 Mar 09:30 invoice.created", "31 Mar 09:30 customer.subscription.updated",
		"31 Mar 10:30 payment_intent.created", "31 Mar 10:30 invoice.finalized", "31 Mar 10:30 charge.succeeded",
		"31 Mar 10:30 payment_intent.succeeded", "31 Mar 10:30 invoice.paid", "31 Mar 10:30 invoice.payment_succeeded",
	}, b.story(before))
	require.Equal(t, day(2026, 4, 30).Unix(), b.get(t, sub.ID).CurrentPeriodEnd)
	require.Len(t, b.billed(t, sub.ID), 3)
}

func TestAdvancedTimeSurvivesARestart(t *testing.T) {
	t.Parallel()
	b := setup(t)
	b.sim.Advance(40 * aDay)
	second := b.restart(t)
	require.Equal(t, b.sim.Now(), second.sim.Now())
	require.Equal(t, b.clock.Now().Add(40*aDay), second.sim.Now())
}

func TestCancelAtPeriodEndBillsNothing(t *testing.T) {
	t.Parallel()
	b := setup(t)
	sub := b.subscribe(t, "starter")
	require.NoError(t, b.sim.CancelSubscription(sub.ID, true))
	before := len(b.sim.Events())
	b.sim.Advance(100 * aDay)
	require.Equal(t, []string{"customer.subscription.deleted"}, b.eventTypes(before))
	require.Equal(t, sub.CurrentPeriodEnd, b.sim.Events()[before].Created.Unix())
	require.Len(t, b.billed(t, sub.ID), 1)
}

func TestFailedRenewals(t *testing.T) {
	t.Parallel()
	failure := []string{"charge.failed", "payment_intent.payment_failed", "invoice.payment_failed"}
	for end, last := range map[string]string{
		"canceled": "customer.subscription.deleted", "unpaid": "customer.subscription.updated", "past_due": "invoice.payment_failed",
	} {
		t.Run(end, func(t *testing.T) {
			t.Parallel()
			b := setup(t)
			b.clock.Set(day(2026, 3, 1))
			sub := b.subscribe(t, "starter")
			require.NoError(t, b.sim.SetDunning(stripesim.Dunning{Retries: []time.Duration{aDay, 2 * aDay}, End: end}))
			require.NoError(t, b.sim.SetCard(sub.Customer.ID, stripesim.Card{Outcome: stripesim.Declines}))
			b.sim.Advance(31*aDay + time.Hour - time.Second)
			before := len(b.sim.Events())
			b.sim.Advance(time.Second)
			require.Equal(t, append([]string{"payment_intent.created", "invoice.finalized"}, append(failure, "customer.subscription.updated")...), b.eventTypes(before))
			require.Equal(t, stripe.SubscriptionStatusPastDue, b.get(t, sub.ID).Status)
			inv := b.billed(t, sub.ID)[0]
			require.Equal(t, int64(1), inv.AttemptCount)
			require.Equal(t, b.sim.Now().Add(aDay).Unix(), inv.NextPaymentAttempt)
			require.Equal(t, stripe.InvoiceStatusOpen, inv.Status)
			require.Equal(t, int64(1900), inv.AmountRemaining)

			before = len(b.sim.Events())
			b.sim.Advance(4 * aDay)
			types := b.eventTypes(before)
			require.Equal(t, append(failure, failure...), types[:6])
			require.Equal(t, last, types[len(types)-1])
			require.Equal(t, stripe.SubscriptionStatus(end), b.get(t, sub.ID).Status)
			inv = b.billed(t, sub.ID)[0]
			require.Equal(t, int64(3), inv.AttemptCount)
			require.Zero(t, inv.NextPaymentAttempt)
		})
	}
}

func TestARetryThatSucceeds(t *testing.T) {
	t.Parallel()
	b := setup(t)
	sub := b.subscribe(t, "starter")
	require.NoError(t, b.sim.SetCard(sub.Customer.ID, stripesim.Card{Outcome: stripesim.Declines, Times: 2}))
	b.clock.Set(time.Unix(sub.CurrentPeriodEnd, 0))
	b.sim.Advance(time.Hour + 3*aDay)
	require.Equal(t, stripe.SubscriptionStatusPastDue, b.get(t, sub.ID).Status)
	b.sim.Advance(5 * aDay)
	require.Equal(t, stripe.SubscriptionStatusActive, b.get(t, sub.ID).Status)
	inv := b.billed(t, sub.ID)[0]
	require.Equal(t, int64(3), inv.AttemptCount)
	require.Equal(t, int64(1900), inv.AmountPaid)
	require.Len(t, b.do(t, "GET", "/v1/charges?customer="+sub.Customer.ID, "").body["data"], 4)
}

func TestUnpaidIsPaidByHand(t *testing.T) {
	t.Parallel()
	b := setup(t)
	sub := b.subscribe(t, "starter")
	require.NoError(t, b.sim.SetDunning(stripesim.Dunning{End: "unpaid"}))
	require.NoError(t, b.sim.SetCard(sub.Customer.ID, stripesim.Card{Outcome: stripesim.Declines}))
	b.clock.Set(time.Unix(sub.CurrentPeriodEnd, 0))
	b.sim.Advance(2 * time.Hour)
	require.Equal(t, stripe.SubscriptionStatusUnpaid, b.get(t, sub.ID).Status)
	b.sim.Advance(31 * aDay)
	next := b.billed(t, sub.ID)[0]
	require.Equal(t, stripe.InvoiceStatusDraft, next.Status, "what an unpaid subscription is billed stays a draft")
	require.False(t, next.AutoAdvance)

	_, err := b.api.Invoices.Pay(next.ID, nil)
	require.ErrorContains(t, err, "card_declined")
	require.NoError(t, b.sim.SetCard(sub.Customer.ID, stripesim.Card{Outcome: stripesim.Succeeds}))
	paid, err := b.api.Invoices.Pay(next.ID, nil)
	require.NoError(t, err)
	require.True(t, paid.Paid)
	require.Equal(t, stripe.SubscriptionStatusActive, b.get(t, sub.ID).Status)
}

func TestPausedCollection(t *testing.T) {
	t.Parallel()
	for behavior, want := range map[string]stripe.InvoiceStatus{
		"keep_as_draft": "draft", "void": "void", "mark_uncollectible": "uncollectible",
	} {
		b := setup(t)
		sub := b.subscribe(t, "starter")
		paused, err := b.api.Subscriptions.Update(sub.ID, &stripe.SubscriptionParams{
			PauseCollection: &stripe.SubscriptionPauseCollectionParams{Behavior: stripe.String(behavior)},
		})
		require.NoError(t, err)
		require.Equal(t, behavior, string(paused.PauseCollection.Behavior))
		b.sim.Advance(32 * aDay)
		require.Equal(t, want, b.billed(t, sub.ID)[0].Status)
		require.Equal(t, stripe.SubscriptionStatusActive, b.get(t, sub.ID).Status)
		require.Equal(t, 200, b.do(t, "POST", "/v1/subscriptions/"+sub.ID, "pause_collection=").status)
		require.Nil(t, b.get(t, sub.ID).PauseCollection)
	}
}

func TestOnlyTheLatestInvoiceDecides(t *testing.T) {
	t.Parallel()
	b := setup(t)
	sub := b.subscribe(t, "starter")
	require.NoError(t, b.sim.SetDunning(stripesim.Dunning{End: "past_due"}))
	require.NoError(t, b.sim.SetCard(sub.Customer.ID, stripesim.Card{Outcome: stripesim.Declines}))
	b.sim.Advance(64 * aDay)
	bills := b.billed(t, sub.ID)
	require.Equal(t, []stripe.InvoiceStatus{"open", "open", "paid"}, []stripe.InvoiceStatus{bills[0].Status, bills[1].Status, bills[2].Status})
	_, err := b.api.Invoices.Pay(bills[0].ID, nil)
	require.Error(t, err)
	require.Equal(t, int64(1), b.billed(t, sub.ID)[0].AttemptCount, "a try by hand does not count")
	require.NoError(t, b.sim.SetCard(sub.Customer.ID, stripesim.Card{Outcome: stripesim.Succeeds}))
	_, err = b.api.Invoices.Pay(bills[1].ID, nil)
	require.NoError(t, err)
	require.Equal(t, stripe.SubscriptionStatusPastDue, b.get(t, sub.ID).Status)
	_, err = b.api.Invoices.Pay(bills[0].ID, nil)
	require.NoError(t, err)
	require.Equal(t, stripe.SubscriptionStatusActive, b.get(t, sub.ID).Status)
}

func TestACancelledSubscriptionIsNotCollectedFor(t *testing.T) {
	t.Parallel()
	b := setup(t)
	sub := b.subscribe(t, "starter")
	require.NoError(t, b.sim.SetCard(sub.Customer.ID, stripesim.Card{Outcome: stripesim.Declines}))
	b.clock.Set(time.Unix(sub.CurrentPeriodEnd, 0).Add(time.Hour))
	require.NoError(t, b.sim.CancelSubscription(sub.ID, false))
	before := len(b.sim.Events())
	b.sim.Advance(30 * aDay)
	require.Empty(t, b.eventTypes(before))
	require.Equal(t, stripe.InvoiceStatusOpen, b.billed(t, sub.ID)[0].Status)
}
