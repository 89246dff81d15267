package stripesim_test

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"github.com/stripe/stripe-go/v76"
)

// TestWalk goes once through everything with the client of 2023-10-16. Each
// answer is checked against Stripe's description on its way.
func TestWalk(t *testing.T) {
	t.Parallel()
	b := setup(t)
	b.run(t)

	cust := b.customer(t)
	_, err := b.api.Customers.Update(cust.ID, &stripe.CustomerParams{Email: stripe.String("a@example.com")})
	require.NoError(t, err)
	cust, err = b.api.Customers.Get(cust.ID, nil)
	require.NoError(t, err)
	require.Equal(t, "a@example.com", cust.Email)
	require.Equal(t, "acct_1", cust.Metadata["account_id"])
	require.True(t, b.api.Customers.List(&stripe.CustomerListParams{Email: stripe.String("a@example.com")}).Next())

	starter, pro := b.price(t, "starter"), b.price(t, "pro")
	require.Equal(t, int64(1900), starter.UnitAmount)
	require.Equal(t, map[string]string{"tier": "starter"}, starter.Metadata)
	_, err = b.api.Prices.Get(starter.ID, nil)
	require.NoError(t, err)
	prod, err := b.api.Products.Get(starter.Product.ID, nil)
	require.NoError(t, err)
	require.Equal(t, "Starter", prod.Name)

	cs := b.checkout(t, cust, "starter")
	require.Equal(t, stripe.CheckoutSessionStatusOpen, cs.Status)
	require.Equal(t, b.url+"/c/pay/"+cs.ID, cs.URL)
	require.NoError(t, b.sim.CompleteCheckout(cs.ID))
	get := &stripe.CheckoutSessionParams{}
	for _, path := range []string{"subscription", "customer", "invoice", "line_items"} {
		get.AddExpand(path)
	}
	cs, err = b.api.CheckoutSessions.Get(cs.ID, get)
	require.NoError(t, err)
	require.Equal(t, stripe.CheckoutSessionStatusComplete, cs.Status)
	require.Equal(t, stripe.CheckoutSessionPaymentStatusPaid, cs.PaymentStatus)
	require.Equal(t, "acct_1", cs.Subscription.Metadata["account_id"])
	require.Equal(t, "a@example.com", cs.Customer.Email)
	require.Equal(t, starter.ID, cs.LineItems.Data[0].Price.ID)
	require.True(t, b.api.CheckoutSessions.List(&stripe.CheckoutSessionListParams{Status: stripe.String("complete")}).Next())

	walkSubscription(t, b, cs.Subscription.ID, pro)
	walkPortal(t, b, cust)

	n := 0
	for it := b.api.Events.List(&stripe.EventListParams{ListParams: stripe.ListParams{Limit: stripe.Int64(3)}}); it.Next(); n++ {
		ev, err := b.api.Events.Get(it.Event().ID, nil)
		require.NoError(t, err)
		require.Equal(t, "2023-10-16", ev.APIVersion)
	}
	require.Len(t, b.sim.Events(), n)
}

func walkSubscription(t *testing.T, b *bundle, id string, pro *stripe.Price) {
	t.Helper()
	get := &stripe.SubscriptionParams{}
	for _, path := range []string{"items.data.price.product", "latest_invoice", "customer"} {
		get.AddExpand(path)
	}
	sub, err := b.api.Subscriptions.Get(id, get)
	require.NoError(t, err)
	item := sub.Items.Data[0]
	require.Equal(t, "Starter", item.Price.Product.Name)
	require.Equal(t, stripe.SubscriptionStatusActive, sub.Status)
	require.Equal(t, sub.CurrentPeriodStart, b.clock.Now().Unix())
	require.Greater(t, sub.CurrentPeriodEnd, b.clock.Now().Add(27*24*time.Hour).Unix())

	inv, err := b.api.Invoices.Get(sub.LatestInvoice.ID, nil)
	require.NoError(t, err)
	require.True(t, inv.Paid)
	require.Equal(t, int64(1900), inv.AmountPaid)
	require.Equal(t, stripe.InvoiceBillingReasonSubscriptionCreate, inv.BillingReason)
	require.Equal(t, sub.ID, inv.Subscription.ID)
	require.Equal(t, sub.CurrentPeriodEnd, inv.Lines.Data[0].Period.End)

	sub, err = b.api.Subscriptions.Update(id, &stripe.SubscriptionParams{
		Items:             []*stripe.SubscriptionItemsParams{{ID: stripe.String(item.ID), Price: stripe.String(pro.ID)}},
		ProrationBehavior: stripe.String("always_invoice"),
		Metadata:          map[string]string{"seen": "yes"},
	})
	require.NoError(t, err)
	require.Equal(t, pro.ID, sub.Items.Data[0].Price.ID)
	require.Equal(t, item.ID, sub.Items.Data[0].ID, "a plan change keeps its item")
	require.Equal(t, map[string]string{"account_id": "acct_1", "seen": "yes"}, sub.Metadata)
	inv, err = b.api.Invoices.Get(inv.ID, nil)
	require.NoError(t, err)
	require.Equal(t, int64(1900), inv.AmountPaid, "an invoice keeps what it was for")

	sub, err = b.api.Subscriptions.Update(id, &stripe.SubscriptionParams{CancelAtPeriodEnd: stripe.Bool(true)})
	require.NoError(t, err)
	require.Equal(t, sub.CurrentPeriodEnd, sub.CancelAt)

	list := &stripe.SubscriptionListParams{Customer: stripe.String(sub.Customer.ID), Status: stripe.String("all")}
	list.AddExpand("data.latest_invoice")
	it := b.api.Subscriptions.List(list)
	require.True(t, it.Next())
	require.Equal(t, stripe.InvoiceBillingReasonSubscriptionUpdate, it.Subscription().LatestInvoice.BillingReason)

	sub, err = b.api.Subscriptions.Cancel(id, nil)
	require.NoError(t, err)
	require.Equal(t, stripe.SubscriptionStatusCanceled, sub.Status)
	require.NotZero(t, sub.EndedAt)
	list.Status = nil
	require.False(t, b.api.Subscriptions.List(list).Next(), "without a filter the cancelled are left out")
}

func walkPortal(t *testing.T, b *bundle, cust *stripe.Customer) {
	t.Helper()
	sub := b.subscribe(t, "starter")
	plain, err := b.api.BillingPortalSessions.New(&stripe.BillingPortalSessionParams{
		Customer: stripe.String(cust.ID), ReturnURL: stripe.String("http://app.test/"),
	})
	require.NoError(t, err)
	require.Equal(t, b.url+"/p/session/"+plain.ID, plain.URL)
	for _, flow := range []*stripe.BillingPortalSessionFlowDataParams{
		{Type: stripe.String("payment_method_update")},
		{
			Type:               stripe.String("subscription_cancel"),
			SubscriptionCancel: &stripe.BillingPortalSessionFlowDataSubscriptionCancelParams{Subscription: stripe.String(sub.ID)},
		},
		b.updateFlow(t, sub, "pro"),
	} {
		ps, err := b.api.BillingPortalSessions.New(&stripe.BillingPortalSessionParams{
			Customer: stripe.String(sub.Customer.ID), FlowData: flow,
		})
		require.NoError(t, err)
		require.Equal(t, *flow.Type, string(ps.Flow.Type))
	}
}

func (b *bundle) updateFlow(t *testing.T, sub *stripe.Subscription, lookupKey string) *stripe.BillingPortalSessionFlowDataParams {
	t.Helper()
	return &stripe.BillingPortalSessionFlowDataParams{
		Type: stripe.String("subscription_update_confirm"),
		SubscriptionUpdateConfirm: &stripe.BillingPortalSessionFlowDataSubscriptionUpdateConfirmParams{
			Subscription: stripe.String(sub.ID),
			Items: []*stripe.BillingPortalSessionFlowDataSubscriptionUpdateConfirmItemParams{
				{ID: stripe.String(sub.Items.Data[0].ID), Price: stripe.String(b.price(t, lookupKey).ID)},
			},
		},
		AfterCompletion: &stripe.BillingPortalSessionFlowDataAfterCompletionParams{
			Type:     stripe.String("redirect"),
			Redirect: &stripe.BillingPortalSessionFlowDataAfterCompletionRedirectParams{ReturnURL: stripe.String("http://app.test/changed")},
		},
	}
}
