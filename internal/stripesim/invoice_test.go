package stripesim_test

import (
	"fmt"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"github.com/stripe/stripe-go/v76"

	"github.com/keymeter/keymeter/internal/stripesim"
)

// renewing is a subscription whose renewal invoice is a draft.
func (b *bundle) renewing(t *testing.T) (*stripe.Subscription, *stripe.Invoice) {
	t.Helper()
	sub := b.subscribe(t, "starter")
	b.clock.Set(time.Unix(sub.CurrentPeriodEnd, 0))
	inv := b.billed(t, sub.ID)[0]
	require.Equal(t, stripe.InvoiceStatusDraft, inv.Status)
	return sub, inv
}

func (b *bundle) refused(t *testing.T, err error, status int, code string) {
	t.Helper()
	var refusal *stripe.Error
	require.ErrorAs(t, err, &refusal)
	require.Equal(t, status, refusal.HTTPStatusCode, refusal.Msg)
	require.Equal(t, code, string(refusal.Code), refusal.Msg)
}

// TestOverageOnADraft adds a line to the renewal invoice within its hour, as a
// product does that bills usage behind the month.
func TestOverageOnADraft(t *testing.T) {
	t.Parallel()
	b := setup(t)
	sub, draft := b.renewing(t)
	require.Empty(t, draft.Number)
	require.Equal(t, b.sim.Now().Add(time.Hour).Unix(), draft.NextPaymentAttempt)
	params := &stripe.InvoiceItemParams{
		Customer: stripe.String(sub.Customer.ID), Invoice: stripe.String(draft.ID), Subscription: stripe.String(sub.ID),
		Currency: stripe.String("usd"), UnitAmountDecimal: stripe.Float64(0.75), Quantity: stripe.Int64(1001),
		Description: stripe.String("1,001 credits of overage"), Metadata: map[string]string{"period": "1"},
		Period: &stripe.InvoiceItemPeriodParams{Start: stripe.Int64(sub.CurrentPeriodStart), End: stripe.Int64(sub.CurrentPeriodEnd)},
	}
	item, err := b.api.InvoiceItems.New(params)
	require.NoError(t, err)
	require.Equal(t, int64(751), item.Amount, "750.75 rounded")
	require.Equal(t, draft.ID, item.Invoice.ID)

	b.sim.Advance(time.Hour)
	inv, err := b.api.Invoices.Get(draft.ID, nil)
	require.NoError(t, err)
	require.True(t, inv.Paid)
	require.Equal(t, int64(1900+751), inv.AmountPaid)
	require.NotEmpty(t, inv.Number)
	require.Len(t, inv.Lines.Data, 2)
	over := inv.Lines.Data[1]
	require.Equal(t, item.ID, over.InvoiceItem.ID)
	require.Equal(t, stripe.InvoiceLineItemTypeInvoiceItem, over.Type)
	require.Equal(t, "1,001 credits of overage", over.Description)
	require.Equal(t, sub.CurrentPeriodStart, over.Period.Start)
	require.Equal(t, map[string]string{"period": "1"}, over.Metadata)
	ch, err := b.api.Charges.Get(inv.Charge.ID, nil)
	require.NoError(t, err)
	require.Equal(t, int64(2651), ch.Amount)
	pi, err := b.api.PaymentIntents.Get(inv.PaymentIntent.ID, nil)
	require.NoError(t, err)
	require.Equal(t, ch.ID, pi.LatestCharge.ID)
	require.Equal(t, inv.ID, pi.Invoice.ID)

	_, err = b.api.InvoiceItems.New(params)
	b.refused(t, err, 400, "invoice_not_editable")
	_, err = b.api.InvoiceItems.Del(item.ID, nil)
	b.refused(t, err, 400, "invoice_not_editable")
	_, err = b.api.InvoiceItems.Update(item.ID, &stripe.InvoiceItemParams{Amount: stripe.Int64(1)})
	b.refused(t, err, 400, "invoice_not_editable")
}

func TestPendingItemsGoToTheNextInvoice(t *testing.T) {
	t.Parallel()
	b := setup(t)
	sub := b.subscribe(t, "starter")
	other := b.subscribe(t, "pro")
	add := func(amount int64, cust, subscription string) *stripe.InvoiceItem {
		t.Helper()
		p := &stripe.InvoiceItemParams{Customer: stripe.String(cust), Amount: stripe.Int64(amount), Currency: stripe.String("usd")}
		if subscription != "" {
			p.Subscription = stripe.String(subscription)
		}
		item, err := b.api.InvoiceItems.New(p)
		require.NoError(t, err)
		return item
	}
	add(100, sub.Customer.ID, "")
	add(200, sub.Customer.ID, sub.ID)
	add(400, other.Customer.ID, other.ID)
	dropped := add(800, sub.Customer.ID, "")
	changed := add(1600, sub.Customer.ID, "")
	_, err := b.api.InvoiceItems.Del(dropped.ID, nil)
	require.NoError(t, err)
	_, err = b.api.InvoiceItems.Update(changed.ID, &stripe.InvoiceItemParams{Amount: stripe.Int64(3200)})
	require.NoError(t, err)
	pending := &stripe.InvoiceItemListParams{Customer: stripe.String(sub.Customer.ID), Pending: stripe.Bool(true)}
	it, n := b.api.InvoiceItems.List(pending), 0
	for ; it.Next(); n++ {
		require.Nil(t, it.InvoiceItem().Invoice)
	}
	require.Equal(t, 3, n)

	// An invoice for a customer takes what names no subscription.
	inv, err := b.api.Invoices.New(&stripe.InvoiceParams{
		Customer: stripe.String(sub.Customer.ID), PendingInvoiceItemsBehavior: stripe.String("include"),
		Description: stripe.String("Extras"), Metadata: map[string]string{"a": "b"},
	})
	require.NoError(t, err)
	require.Equal(t, int64(3300), inv.Total)
	require.False(t, inv.AutoAdvance)
	require.Equal(t, stripe.InvoiceBillingReasonManual, inv.BillingReason)
	b.sim.Advance(27 * aDay)
	b.clock.Set(time.Unix(sub.CurrentPeriodEnd, 0).Add(-27 * aDay))
	require.Equal(t, int64(2100), b.billed(t, sub.ID)[0].Total)
	require.Equal(t, int64(10300), b.billed(t, other.ID)[0].Total)

	final, err := b.api.Invoices.FinalizeInvoice(inv.ID, nil)
	require.NoError(t, err)
	require.Equal(t, stripe.InvoiceStatusOpen, final.Status)
	b.sim.Advance(aDay)
	again, err := b.api.Invoices.Get(inv.ID, nil)
	require.NoError(t, err)
	require.Equal(t, stripe.InvoiceStatusOpen, again.Status, "it does not advance by itself")
	paid, err := b.api.Invoices.Pay(inv.ID, nil)
	require.NoError(t, err)
	require.Equal(t, int64(3300), paid.AmountPaid)
	_, err = b.api.Invoices.Pay(inv.ID, nil)
	require.ErrorContains(t, err, "already paid")
}

func TestInvoiceOfManyLines(t *testing.T) {
	t.Parallel()
	b := setup(t)
	sub, draft := b.renewing(t)
	for i := range 11 {
		_, err := b.api.InvoiceItems.New(&stripe.InvoiceItemParams{
			Customer: stripe.String(sub.Customer.ID), Invoice: stripe.String(draft.ID), Amount: stripe.Int64(int64(i + 1)),
		})
		require.NoError(t, err)
	}
	inv, err := b.api.Invoices.Get(draft.ID, nil)
	require.NoError(t, err)
	require.Len(t, inv.Lines.Data, 10)
	require.True(t, inv.Lines.HasMore)
	it, sum := b.api.Invoices.ListLines(&stripe.InvoiceListLinesParams{Invoice: stripe.String(draft.ID)}), int64(0)
	for it.Next() {
		sum += it.InvoiceLineItem().Amount
	}
	require.NoError(t, it.Err())
	require.Equal(t, inv.Total, sum)
}

func TestInvoiceLifeByHand(t *testing.T) {
	t.Parallel()
	b := setup(t)
	cust := b.customer(t)
	make := func(form string) string {
		t.Helper()
		b.do(t, "POST", "/v1/invoiceitems", "customer="+cust.ID+"&amount=500&description=Work")
		return b.do(t, "POST", "/v1/invoices", "customer="+cust.ID+"&pending_invoice_items_behavior=include&"+form).body["id"].(string)
	}
	status := func(id string) any { return b.do(t, "GET", "/v1/invoices/"+id, "").body["status"] }
	advancing := make("auto_advance=true")
	b.sim.Advance(time.Hour)
	require.Equal(t, "paid", status(advancing))

	voided := make("")
	require.Equal(t, 400, b.do(t, "POST", "/v1/invoices/"+voided+"/void", "").status, "a draft can't be voided")
	require.Equal(t, 200, b.do(t, "POST", "/v1/invoices/"+voided+"/finalize", "").status)
	require.Equal(t, 400, b.do(t, "POST", "/v1/invoices/"+voided+"/finalize", "").status)
	require.Equal(t, 200, b.do(t, "POST", "/v1/invoices/"+voided+"/void", "").status)
	require.Equal(t, 400, b.do(t, "POST", "/v1/invoices/"+voided+"/pay", "").status)

	elsewhere := make("")
	require.Equal(t, true, b.do(t, "POST", "/v1/invoices/"+elsewhere+"/pay", "paid_out_of_band=true").body["paid_out_of_band"])
	given := make("")
	b.do(t, "POST", "/v1/invoices/"+given+"/finalize", "")
	b.do(t, "POST", "/v1/invoices/"+given+"/mark_uncollectible", "")
	require.Equal(t, "uncollectible", status(given))
	for query, n := range map[string]int{
		"": 4, "status=paid": 2, "status=void": 1, "created[gt]=" + fmt.Sprint(b.sim.Now().Unix()): 0,
		"created[gte]=" + fmt.Sprint(b.sim.Now().Unix()): 3, "limit=1": 1,
	} {
		require.Len(t, b.do(t, "GET", "/v1/invoices?customer="+cust.ID+"&"+query, "").body["data"], n, query)
	}

	require.NoError(t, b.sim.SetCard(cust.ID, stripesim.Card{Outcome: stripesim.RequiresAuthentication}))
	action := make("")
	refused := b.do(t, "POST", "/v1/invoices/"+action+"/pay", "")
	require.Equal(t, "invoice_payment_intent_requires_action", refused.error("code"), refused.raw)
	require.Contains(t, b.eventTypes(0), "invoice.payment_action_required")
	require.Equal(t, "b", b.do(t, "POST", "/v1/invoices/"+action, "metadata[a]=b").body["metadata"].(map[string]any)["a"])
}

func TestInvoiceRefusals(t *testing.T) {
	t.Parallel()
	b := setup(t)
	sub, draft := b.renewing(t)
	stranger := b.customer(t)
	cust := "customer=" + sub.Customer.ID + "&"
	for _, tt := range []struct {
		form, param string
		status      int
	}{
		{"amount=1", "customer", 400},
		{cust, "amount", 400},
		{cust + "amount=1&unit_amount=2", "unit_amount", 400},
		{cust + "amount=1&quantity=2", "quantity", 400},
		{cust + "amount=1&currency=eur", "currency", 501},
		{cust + "unit_amount_decimal=1e3", "unit_amount_decimal", 400},
		{cust + "unit_amount_decimal=0.0000000000001", "unit_amount_decimal", 400},
		{cust + "amount=100000000", "amount", 400},
		{cust + "unit_amount=1000000&quantity=1000", "unit_amount", 400},
		{cust + "amount=1&invoice=in_x", "invoice", 400},
		{"customer=" + stranger.ID + "&amount=1&invoice=" + draft.ID, "invoice", 400},
		{"customer=" + stranger.ID + "&amount=1&subscription=" + sub.ID, "subscription", 400},
		{cust + "amount=1&period[start]=5", "period[end]", 400},
		{cust + "amount=1&period[start]=5&period[end]=4", "period[end]", 400},
		{cust + "amount=1&tax_rates[0]=x", "tax_rates[0]", 501},
		{cust + "price=" + sub.Items.Data[0].Price.ID, "price", 400},
	} {
		a := b.do(t, "POST", "/v1/invoiceitems", tt.form)
		require.Equal(t, tt.status, a.status, a.raw)
		require.Equal(t, tt.param, a.error("param"), a.raw)
	}
	require.Equal(t, 404, b.do(t, "GET", "/v1/invoiceitems/ii_x", "").status)
	require.Equal(t, 501, b.do(t, "POST", "/v1/invoices", cust+"collection_method=send_invoice").status)
}

// TestFinalInvoice bills what is pending for a subscription that has ended.
func TestFinalInvoice(t *testing.T) {
	t.Parallel()
	b := setup(t)
	sub := b.subscribe(t, "starter")
	cust := "customer=" + sub.Customer.ID
	require.NoError(t, b.sim.CancelSubscription(sub.ID, true))
	b.sim.Advance(32 * aDay)
	b.do(t, "POST", "/v1/invoiceitems", cust+"&amount=700&subscription="+sub.ID)
	b.do(t, "POST", "/v1/invoiceitems", cust+"&amount=50")
	empty := b.do(t, "POST", "/v1/invoices", cust+"&subscription="+sub.ID)
	require.Zero(t, empty.body["total"], "pending items are left where they are unless asked for")
	last := b.do(t, "POST", "/v1/invoices", cust+"&pending_invoice_items_behavior=include&auto_advance=true&subscription="+sub.ID)
	require.Equal(t, float64(700), last.body["total"], "and nothing of the customer's other items")
	b.sim.Advance(time.Hour)
	paid, err := b.api.Invoices.Get(last.body["id"].(string), nil)
	require.NoError(t, err)
	require.Equal(t, int64(700), paid.AmountPaid)
	require.Equal(t, stripe.SubscriptionStatusCanceled, b.get(t, sub.ID).Status)
}
