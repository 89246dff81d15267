package stripesim_test

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"github.com/stripe/stripe-go/v76"

	"github.com/keymeter/keymeter/internal/stripesim"
)

// topUp is a checkout session in payment mode.
func (b *bundle) topUp(t *testing.T, cust *stripe.Customer, amount int64) *stripe.CheckoutSession {
	t.Helper()
	params := &stripe.CheckoutSessionParams{
		Mode: stripe.String("payment"), SuccessURL: stripe.String("http://app.test/done"), ClientReferenceID: stripe.String("acct_1"),
		Metadata: map[string]string{"credits": "1000"},
		PaymentIntentData: &stripe.CheckoutSessionPaymentIntentDataParams{
			Metadata: map[string]string{"top_up": "tu_1"}, Description: stripe.String("1,000 credits"),
		},
		LineItems: []*stripe.CheckoutSessionLineItemParams{{
			Quantity: stripe.Int64(1), PriceData: &stripe.CheckoutSessionLineItemPriceDataParams{
				Currency: stripe.String("usd"), UnitAmount: stripe.Int64(amount),
				ProductData: &stripe.CheckoutSessionLineItemPriceDataProductDataParams{Name: stripe.String("Credits")},
			},
		}},
	}
	if cust != nil {
		params.Customer = stripe.String(cust.ID)
	}
	cs, err := b.api.CheckoutSessions.New(params)
	require.NoError(t, err)
	require.Equal(t, amount, cs.AmountTotal)
	return cs
}

func TestCheckoutInPaymentMode(t *testing.T) {
	t.Parallel()
	b := setup(t)
	cust := b.customer(t)
	cs := b.topUp(t, cust, 5000)
	before := len(b.sim.Events())
	require.ErrorContains(t, b.sim.CompleteCheckoutWith(cs.ID, stripesim.Card{Outcome: stripesim.Declines}), "declined")
	require.Equal(t, []string{"payment_intent.created", "charge.failed", "payment_intent.payment_failed"}, b.eventTypes(before))
	before = len(b.sim.Events())
	require.NoError(t, b.sim.CompleteCheckout(cs.ID), "the card that declined is not the customer's")
	require.Equal(t, []string{"charge.succeeded", "payment_intent.succeeded", "checkout.session.completed"}, b.eventTypes(before))

	done, err := b.api.CheckoutSessions.Get(cs.ID, nil)
	require.NoError(t, err)
	require.Equal(t, stripe.CheckoutSessionPaymentStatusPaid, done.PaymentStatus)
	require.Equal(t, stripe.CheckoutSessionModePayment, done.Mode)
	require.Equal(t, "1000", done.Metadata["credits"])
	require.Nil(t, done.Subscription)
	pi, err := b.api.PaymentIntents.Get(done.PaymentIntent.ID, nil)
	require.NoError(t, err)
	require.Equal(t, map[string]string{"top_up": "tu_1"}, pi.Metadata)
	require.Equal(t, cust.ID, pi.Customer.ID)
	require.Equal(t, int64(5000), pi.AmountReceived)
	found := b.api.CheckoutSessions.List(&stripe.CheckoutSessionListParams{PaymentIntent: stripe.String(pi.ID)})
	require.True(t, found.Next())
	require.Equal(t, cs.ID, found.CheckoutSession().ID)
	require.False(t, found.Next())

	open := b.topUp(t, cust, 100)
	before = len(b.sim.Events())
	b.sim.Advance(aDay)
	require.Equal(t, []string{"checkout.session.expired"}, b.eventTypes(before))
	require.Error(t, b.sim.CompleteCheckout(open.ID))
}

func TestAGuestPays(t *testing.T) {
	t.Parallel()
	b := setup(t)
	cs := b.topUp(t, nil, 700)
	require.NoError(t, b.sim.CompleteCheckout(cs.ID))
	done, err := b.api.CheckoutSessions.Get(cs.ID, nil)
	require.NoError(t, err)
	require.Nil(t, done.Customer)
	require.Equal(t, "payer@example.com", done.CustomerDetails.Email)
	require.NotContains(t, b.eventTypes(0), "customer.created")
}

func TestCheckoutRefusesWhatIsOfTheOtherMode(t *testing.T) {
	t.Parallel()
	b := setup(t)
	recurring := "&line_items[0][quantity]=1&line_items[0][price]=" + b.price(t, "pro").ID
	for form, param := range map[string]string{
		"mode=payment" + recurring: "line_items[0][price]",
		"mode=payment&subscription_data[metadata][a]=b&line_items[0][quantity]=1&line_items[0][price_data][currency]=usd&line_items[0][price_data][unit_amount]=1&line_items[0][price_data][product_data][name]=A": "subscription_data",
		"mode=subscription&payment_intent_data[metadata][a]=b" + recurring:                                                        "payment_intent_data",
		"mode=subscription&customer_creation=always" + recurring:                                                                  "customer_creation",
		"mode=payment&line_items[0][quantity]=1&line_items[0][price_data][currency]=usd&line_items[0][price_data][unit_amount]=1": "line_items[0][price_data][product_data][name]",
	} {
		a := b.do(t, "POST", "/v1/checkout/sessions", "success_url=http://a.test/&"+form)
		require.Equal(t, 400, a.status, a.raw)
		require.Equal(t, param, a.error("param"), a.raw)
	}
}

func TestASubscriptionCheckoutThatIsDeclined(t *testing.T) {
	t.Parallel()
	b := setup(t)
	cs := b.checkout(t, nil, "pro")
	before := len(b.sim.Events())
	declined := b.do(t, "POST", page(t, cs.URL)+"/complete", "card=declines&email=a@example.com")
	require.Equal(t, 402, declined.status)
	require.Contains(t, declined.raw, "Your card was declined")
	require.Contains(t, declined.raw, page(t, cs.URL)+"/complete", "the page stays")
	require.Empty(t, b.eventTypes(before))
	require.Equal(t, 303, b.do(t, "POST", page(t, cs.URL)+"/complete", "card=requires_authentication").status)
	subs := b.do(t, "GET", "/v1/subscriptions", "").body["data"].([]any)
	require.Len(t, subs, 1)
	b.sim.Advance(32 * aDay)
	require.Equal(t, "past_due", b.do(t, "GET", "/v1/subscriptions", "").body["data"].([]any)[0].(map[string]any)["status"],
		"nobody is there to authenticate the renewal")
}

func TestRefunds(t *testing.T) {
	t.Parallel()
	b := setup(t)
	sub := b.subscribe(t, "pro")
	inv := b.billed(t, sub.ID)[0]
	before := len(b.sim.Events())
	part, err := b.api.Refunds.New(&stripe.RefundParams{Charge: stripe.String(inv.Charge.ID), Amount: stripe.Int64(900), Reason: stripe.String("requested_by_customer")})
	require.NoError(t, err)
	require.Equal(t, int64(900), part.Amount)
	require.Equal(t, []string{"charge.refunded"}, b.eventTypes(before))
	_, data := b.lastOf(t, "charge.refunded")
	require.Equal(t, map[string]any{"amount_refunded": float64(0)}, data["previous_attributes"])
	require.Equal(t, float64(900), data["object"].(map[string]any)["amount_refunded"])
	require.Equal(t, false, data["object"].(map[string]any)["refunded"])

	_, err = b.api.Refunds.New(&stripe.RefundParams{PaymentIntent: stripe.String(inv.PaymentIntent.ID), Amount: stripe.Int64(9001)})
	b.refused(t, err, 400, "")
	_, err = b.sim.Refund(inv.ID, 0)
	require.NoError(t, err)
	ch, err := b.api.Charges.Get(inv.Charge.ID, nil)
	require.NoError(t, err)
	require.True(t, ch.Refunded)
	require.Equal(t, int64(9900), ch.AmountRefunded)
	_, err = b.api.Refunds.New(&stripe.RefundParams{Charge: stripe.String(ch.ID)})
	b.refused(t, err, 400, "charge_already_refunded")
	_, err = b.sim.Refund("ch_x", 0)
	require.Error(t, err)
	it, n := b.api.Refunds.List(&stripe.RefundListParams{Charge: stripe.String(ch.ID)}), 0
	for ; it.Next(); n++ {
		_, err := b.api.Refunds.Get(it.Refund().ID, nil)
		require.NoError(t, err)
	}
	require.Equal(t, 2, n)
	require.Equal(t, stripe.SubscriptionStatusActive, b.get(t, sub.ID).Status, "a refund ends nothing")
}

func TestDisputes(t *testing.T) {
	t.Parallel()
	for won, want := range map[bool][]string{
		true:  {"charge.dispute.closed", "charge.dispute.funds_reinstated"},
		false: {"charge.dispute.closed"},
	} {
		b := setup(t)
		inv := b.billed(t, b.subscribe(t, "pro").ID)[0]
		before := len(b.sim.Events())
		id, err := b.sim.OpenDispute(inv.PaymentIntent.ID)
		require.NoError(t, err)
		require.Equal(t, []string{"charge.dispute.created", "charge.dispute.funds_withdrawn"}, b.eventTypes(before))
		_, err = b.sim.OpenDispute(inv.ID)
		require.Error(t, err)
		_, err = b.api.Refunds.New(&stripe.RefundParams{Charge: stripe.String(inv.Charge.ID)})
		b.refused(t, err, 400, "charge_disputed")
		dp, err := b.api.Disputes.Get(id, nil)
		require.NoError(t, err)
		require.Equal(t, int64(9900), dp.Amount)
		require.True(t, b.api.Disputes.List(&stripe.DisputeListParams{Charge: stripe.String(inv.Charge.ID)}).Next())
		before = len(b.sim.Events())
		require.NoError(t, b.sim.CloseDispute(id, won))
		require.Equal(t, want, b.eventTypes(before))
		require.Error(t, b.sim.CloseDispute(id, won))
	}
}

func TestDeletedCustomer(t *testing.T) {
	t.Parallel()
	b := setup(t)
	sub := b.subscribe(t, "pro")
	before := len(b.sim.Events())
	gone, err := b.api.Customers.Del(sub.Customer.ID, nil)
	require.NoError(t, err)
	require.True(t, gone.Deleted)
	require.Equal(t, []string{"customer.subscription.deleted", "customer.deleted"}, b.eventTypes(before))
	again, err := b.api.Customers.Get(sub.Customer.ID, nil)
	require.NoError(t, err)
	require.True(t, again.Deleted)
	require.Empty(t, b.do(t, "GET", "/v1/customers", "").body["data"])
	require.Len(t, b.do(t, "GET", "/v1/subscriptions?status=all&customer="+sub.Customer.ID, "").body["data"], 1)
	require.Equal(t, 404, b.do(t, "POST", "/v1/customers/"+sub.Customer.ID, "name=A").status)
	require.Equal(t, 400, b.do(t, "POST", "/v1/billing_portal/sessions", "customer="+sub.Customer.ID).status)
}

func TestSubscriptionMadeByHand(t *testing.T) {
	t.Parallel()
	b := setup(t)
	cust := b.customer(t)
	b.clock.Set(day(2026, 5, 10))
	made, err := b.api.Subscriptions.New(&stripe.SubscriptionParams{
		Customer: stripe.String(cust.ID), TrialPeriodDays: stripe.Int64(14), Metadata: map[string]string{"account_id": "acct_1"},
		Items: []*stripe.SubscriptionItemsParams{{Price: stripe.String(b.price(t, "pro").ID)}},
	})
	require.NoError(t, err)
	require.Equal(t, stripe.SubscriptionStatusTrialing, made.Status)
	require.Equal(t, day(2026, 5, 24).Unix(), made.TrialEnd)
	require.Zero(t, b.billed(t, made.ID)[0].Total)
	before := len(b.sim.Events())
	b.sim.Advance(14*aDay + time.Hour)
	require.Equal(t, append([]string{"customer.subscription.trial_will_end", "invoice.created", "customer.subscription.updated"}, paidStory...), b.eventTypes(before))
	billed := b.get(t, made.ID)
	require.Equal(t, stripe.SubscriptionStatusActive, billed.Status)
	require.Equal(t, day(2026, 6, 24).Unix(), billed.CurrentPeriodEnd)
	require.Equal(t, day(2026, 5, 24).Unix(), billed.BillingCycleAnchor)
	require.Equal(t, int64(9900), b.billed(t, made.ID)[0].AmountPaid)
}

func TestFirstPaymentThatFails(t *testing.T) {
	t.Parallel()
	b := setup(t)
	cust := b.customer(t)
	require.NoError(t, b.sim.SetCard(cust.ID, stripesim.Card{Outcome: stripesim.Declines}))
	form := "customer=" + cust.ID + "&items[0][price]=" + b.price(t, "pro").ID
	require.Equal(t, 402, b.do(t, "POST", "/v1/subscriptions", form+"&payment_behavior=error_if_incomplete").status)
	late := b.do(t, "POST", "/v1/subscriptions", form)
	require.Equal(t, "incomplete", late.body["status"])
	rescued := b.do(t, "POST", "/v1/subscriptions", form)
	require.NoError(t, b.sim.SetCard(cust.ID, stripesim.Card{Outcome: stripesim.Succeeds}))
	require.Equal(t, 200, b.do(t, "POST", "/v1/invoices/"+rescued.body["latest_invoice"].(string)+"/pay", "").status)
	b.sim.Advance(23 * time.Hour)
	require.Equal(t, stripe.SubscriptionStatusIncompleteExpired, b.get(t, late.body["id"].(string)).Status)
	require.Equal(t, stripe.SubscriptionStatusActive, b.get(t, rescued.body["id"].(string)).Status)
	require.Equal(t, stripe.InvoiceStatusVoid, b.billed(t, late.body["id"].(string))[0].Status)
	require.Equal(t, "incomplete", b.do(t, "POST", "/v1/subscriptions", form+"&payment_behavior=default_incomplete").body["status"])
}

func TestTrialWithoutACard(t *testing.T) {
	t.Parallel()
	for behavior, want := range map[string]string{"pause": "paused", "cancel": "canceled", "create_invoice": "past_due"} {
		b := setup(t)
		cust := b.customer(t)
		require.NoError(t, b.sim.SetCard(cust.ID, stripesim.Card{Outcome: stripesim.NoCard}))
		form := "customer=" + cust.ID + "&items[0][price]=" + b.price(t, "pro").ID
		require.Equal(t, 400, b.do(t, "POST", "/v1/subscriptions", form).status)
		made := b.do(t, "POST", "/v1/subscriptions", form+"&trial_period_days=2&trial_settings[end_behavior][missing_payment_method]="+behavior)
		id := made.body["id"].(string)
		b.sim.Advance(2*aDay + time.Hour)
		require.Equal(t, want, string(b.get(t, id).Status))
		if behavior != "pause" {
			continue
		}
		require.Contains(t, b.eventTypes(0), "customer.subscription.paused")
		require.NoError(t, b.sim.SetCard(cust.ID, stripesim.Card{Outcome: stripesim.Succeeds}))
		resumed, err := b.api.Subscriptions.Resume(id, &stripe.SubscriptionResumeParams{BillingCycleAnchor: stripe.String("now")})
		require.NoError(t, err)
		require.Equal(t, stripe.SubscriptionStatusActive, resumed.Status)
		require.Equal(t, int64(9900), b.billed(t, id)[0].AmountPaid)
	}
}
