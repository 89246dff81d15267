package stripesim_test

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"github.com/stripe/stripe-go/v76"

	"github.com/keymeter/keymeter/internal/stripesim"
)

// change moves a subscription to another price.
func (b *bundle) change(t *testing.T, sub *stripe.Subscription, to, proration, payment string) (*stripe.Subscription, error) {
	t.Helper()
	return b.api.Subscriptions.Update(sub.ID, &stripe.SubscriptionParams{
		Items:             []*stripe.SubscriptionItemsParams{{ID: stripe.String(sub.Items.Data[0].ID), Price: stripe.String(b.price(t, to).ID)}},
		ProrationBehavior: stripe.String(proration), PaymentBehavior: stripe.String(payment),
	})
}

// tenDaysIn is a subscription of 31 days from which 10 are gone.
func (b *bundle) tenDaysIn(t *testing.T, lookupKey string) *stripe.Subscription {
	t.Helper()
	b.clock.Set(day(2026, 3, 1))
	sub := b.subscribe(t, lookupKey)
	b.sim.Advance(10 * aDay)
	return sub
}

func TestProrationAtOnce(t *testing.T) {
	t.Parallel()
	b := setup(t)
	sub := b.tenDaysIn(t, "starter")
	before := len(b.sim.Events())
	changed, err := b.change(t, sub, "pro", "always_invoice", "allow_incomplete")
	require.NoError(t, err)
	require.Equal(t, changeStory, b.eventTypes(before))
	require.Equal(t, sub.CurrentPeriodEnd, changed.CurrentPeriodEnd, "the period stays")

	inv := b.billed(t, sub.ID)[0]
	require.Equal(t, changed.LatestInvoice.ID, inv.ID)
	require.Equal(t, stripe.InvoiceBillingReasonSubscriptionUpdate, inv.BillingReason)
	require.True(t, inv.Paid)
	// 21 of 31 days are left: 1900 × 21/31 = 1287.1 and 9900 × 21/31 = 6706.5.
	require.Equal(t, int64(6706-1287), inv.Total)
	remaining, unused := inv.Lines.Data[0], inv.Lines.Data[1]
	require.Equal(t, int64(6706), remaining.Amount)
	require.Equal(t, "Remaining time on Pro after 11 Mar 2026", remaining.Description)
	require.Equal(t, int64(-1287), unused.Amount)
	require.Equal(t, "Unused time on Starter after 11 Mar 2026", unused.Description)
	for _, l := range inv.Lines.Data {
		require.True(t, l.Proration)
		require.Equal(t, stripe.InvoiceLineItemTypeInvoiceItem, l.Type)
		require.Equal(t, b.sim.Now().Unix(), l.Period.Start)
		require.Equal(t, sub.CurrentPeriodEnd, l.Period.End)
		require.Equal(t, sub.Items.Data[0].ID, l.SubscriptionItem.ID)
	}
	b.sim.Advance(30 * aDay)
	require.Equal(t, int64(9900), b.billed(t, sub.ID)[0].Total)
}

func TestProrationLater(t *testing.T) {
	t.Parallel()
	b := setup(t)
	sub := b.tenDaysIn(t, "pro")
	_, err := b.change(t, sub, "starter", "create_prorations", "allow_incomplete")
	require.NoError(t, err)
	require.Len(t, b.billed(t, sub.ID), 1)
	b.sim.Advance(30 * aDay)
	inv := b.billed(t, sub.ID)[0]
	require.Equal(t, int64(1900+1287-6706), inv.Total)
	require.Zero(t, inv.AmountDue, "what is owed stays on the balance")
	require.True(t, inv.Paid)
	require.Nil(t, inv.Charge)
	cust, err := b.api.Customers.Get(sub.Customer.ID, nil)
	require.NoError(t, err)
	require.Equal(t, int64(1900+1287-6706), cust.Balance)
	b.sim.Advance(30 * aDay)
	next := b.billed(t, sub.ID)[0]
	require.Zero(t, next.AmountDue)
	require.Equal(t, int64(-3519), next.StartingBalance)
	require.Equal(t, int64(-1619), next.EndingBalance)
}

func TestNoProration(t *testing.T) {
	t.Parallel()
	b := setup(t)
	sub := b.tenDaysIn(t, "starter")
	before := len(b.sim.Events())
	_, err := b.change(t, sub, "pro", "none", "allow_incomplete")
	require.NoError(t, err)
	require.Equal(t, []string{"customer.subscription.updated"}, b.eventTypes(before))
	b.sim.Advance(30 * aDay)
	require.Equal(t, int64(9900), b.billed(t, sub.ID)[0].Total)
}

func TestUpgradeThatIsNotPaid(t *testing.T) {
	t.Parallel()
	decline := func(t *testing.T) (*bundle, *stripe.Subscription) {
		b := setup(t)
		sub := b.tenDaysIn(t, "starter")
		require.NoError(t, b.sim.SetCard(sub.Customer.ID, stripesim.Card{Outcome: stripesim.Declines}))
		return b, sub
	}
	t.Run("allow_incomplete changes all the same", func(t *testing.T) {
		t.Parallel()
		b, sub := decline(t)
		changed, err := b.change(t, sub, "pro", "always_invoice", "allow_incomplete")
		require.NoError(t, err)
		require.Equal(t, stripe.SubscriptionStatusPastDue, changed.Status)
		require.Equal(t, "pro", changed.Items.Data[0].Price.LookupKey)
	})
	t.Run("error_if_incomplete changes nothing", func(t *testing.T) {
		t.Parallel()
		b, sub := decline(t)
		before := len(b.sim.Events())
		_, err := b.change(t, sub, "pro", "always_invoice", "error_if_incomplete")
		b.refused(t, err, 402, "card_declined")
		require.Empty(t, b.eventTypes(before))
		require.Equal(t, "starter", b.get(t, sub.ID).Items.Data[0].Price.LookupKey)
	})
	t.Run("the portal changes nothing", func(t *testing.T) {
		t.Parallel()
		b, sub := decline(t)
		path := b.portal(t, sub, b.updateFlow(t, sub, "pro"))
		require.Equal(t, 402, b.do(t, "POST", path+"/confirm", "").status)
		require.Equal(t, "starter", b.get(t, sub.ID).Items.Data[0].Price.LookupKey)
		require.NoError(t, b.sim.SetCard(sub.Customer.ID, stripesim.Card{Outcome: stripesim.Succeeds}))
		require.Equal(t, 303, b.do(t, "POST", path+"/confirm", "").status)
		require.Equal(t, "pro", b.get(t, sub.ID).Items.Data[0].Price.LookupKey)
	})
	t.Run("pending_if_incomplete waits for the payment", func(t *testing.T) {
		t.Parallel()
		b, sub := decline(t)
		changed, err := b.change(t, sub, "pro", "always_invoice", "pending_if_incomplete")
		require.NoError(t, err)
		require.Equal(t, stripe.SubscriptionStatusActive, changed.Status)
		require.Equal(t, "starter", changed.Items.Data[0].Price.LookupKey)
		require.Equal(t, "pro", changed.PendingUpdate.SubscriptionItems[0].Price.LookupKey)
		require.NoError(t, b.sim.SetCard(sub.Customer.ID, stripesim.Card{Outcome: stripesim.Succeeds}))
		_, err = b.api.Invoices.Pay(changed.LatestInvoice.ID, nil)
		require.NoError(t, err)
		require.Equal(t, "pro", b.get(t, sub.ID).Items.Data[0].Price.LookupKey)
		require.Nil(t, b.get(t, sub.ID).PendingUpdate)
	})
	t.Run("pending_if_incomplete does not wait for ever", func(t *testing.T) {
		t.Parallel()
		b, sub := decline(t)
		_, err := b.change(t, sub, "pro", "always_invoice", "pending_if_incomplete")
		require.NoError(t, err)
		b.sim.Advance(23 * time.Hour)
		left := b.get(t, sub.ID)
		require.Nil(t, left.PendingUpdate)
		require.Equal(t, "starter", left.Items.Data[0].Price.LookupKey)
		require.Equal(t, stripe.InvoiceStatusVoid, b.billed(t, sub.ID)[0].Status)
	})
}

func TestCancelWithProration(t *testing.T) {
	t.Parallel()
	b := setup(t)
	sub := b.tenDaysIn(t, "pro")
	_, err := b.api.Subscriptions.Cancel(sub.ID, &stripe.SubscriptionCancelParams{
		Prorate: stripe.Bool(true), InvoiceNow: stripe.Bool(true),
	})
	require.NoError(t, err)
	require.Equal(t, int64(-6706), b.billed(t, sub.ID)[0].Total)
	require.Equal(t, stripe.SubscriptionStatusCanceled, b.get(t, sub.ID).Status)
}
