package stripesim

import (
	"fmt"
	"time"
)

type invoice struct {
	ID       string
	LineID   string
	Number   string // shown from finalization on
	Customer *customer
	Created  time.Time
	Reason   string

	// What was sold, as it was: a later plan change must not rewrite an invoice.
	Sold        subscription
	PeriodStart time.Time
	PeriodEnd   time.Time

	Status      string
	FinalizedAt time.Time
	PaidAt      time.Time
}

func (inv *invoice) key() string { return inv.ID }

// newInvoice drafts the invoice for the subscription's present period. The
// invoice's own period lies behind it and is empty for the first one; the line
// carries the period that is paid for.
func (s *Sim) newInvoice(cust *customer, sub *subscription, reason string, at time.Time) *invoice {
	cust.Invoices++
	inv := &invoice{
		ID: s.ids.next("in_1", 23), LineID: s.ids.next("il_1", 23), Customer: cust, Created: at, Reason: reason,
		Number: fmt.Sprintf("%s-%04d", cust.InvoicePrefix, cust.Invoices), Status: "draft",
		PeriodStart: addMonths(sub.Created, max(0, sub.Cycle-1)), PeriodEnd: sub.PeriodStart,
	}
	sub.LatestInvoice = inv.ID
	inv.Sold = *sub
	s.invoices.add(inv)
	return inv
}

// settleInvoice takes a draft to paid; every payment succeeds here. Each event
// shows the status at its moment, and both invoice.paid and its older twin
// invoice.payment_succeeded are sent, as by Stripe.
func (s *Sim) settleInvoice(inv *invoice) {
	s.emit(cause{}, "invoice.created", renderInvoice(inv), nil)
	inv.Status, inv.FinalizedAt = "open", inv.Created
	s.emit(cause{}, "invoice.finalized", renderInvoice(inv), nil)
	inv.Status, inv.PaidAt = "paid", inv.Created
	s.emit(cause{}, "invoice.paid", renderInvoice(inv), nil)
	s.emit(cause{}, "invoice.payment_succeeded", renderInvoice(inv), nil)
}

func (inv *invoice) total() int64 { return inv.Sold.Price.UnitAmount * inv.Sold.Quantity }

func (s *Sim) getInvoice(c *call) (object, *apiError) {
	inv, ok := s.invoices.get(c.id)
	if !ok {
		return nil, notFound("invoice", c.id)
	}
	return renderInvoice(inv), nil
}

func renderInvoice(inv *invoice) object {
	total, paid := inv.total(), int64(0)
	attempts := 0
	if inv.Status == "paid" {
		paid, attempts = total, 1
	}
	var number any
	if inv.Status != "draft" {
		number = inv.Number
	}
	return object{
		"id": inv.ID, "object": "invoice", "account_country": "US", "account_name": nil, "account_tax_ids": nil,
		"amount_due": total, "amount_overpaid": 0, "amount_paid": paid, "amount_paid_off_stripe": 0,
		"amount_remaining": total - paid, "amount_shipping": 0, "application": nil, "application_fee_amount": nil,
		"attempt_count": attempts, "attempted": attempts > 0, "auto_advance": inv.Status != "paid",
		"automatic_tax":  object{"enabled": false, "liability": nil, "status": nil},
		"billing_reason": inv.Reason, "charge": nil, "collection_method": "charge_automatically",
		"created": inv.Created.Unix(), "currency": currency, "custom_fields": nil, "customer": inv.Customer.ID,
		"customer_address": nil, "customer_email": orNull(inv.Customer.Email), "customer_name": orNull(inv.Customer.Name),
		"customer_phone": orNull(inv.Customer.Phone), "customer_shipping": nil, "customer_tax_exempt": "none",
		"customer_tax_ids": []any{}, "default_payment_method": nil, "default_source": nil, "default_tax_rates": []any{},
		"description": nil, "discount": nil, "discounts": []any{}, "due_date": nil,
		"effective_at": unixOrNull(inv.FinalizedAt), "ending_balance": 0, "footer": nil, "from_invoice": nil,
		"hosted_invoice_url": nil, "invoice_pdf": nil, "issuer": object{"type": "self"}, "last_finalization_error": nil,
		"latest_revision": nil, "lines": listOf("/v1/invoices/"+inv.ID+"/lines", renderLine(inv)), "livemode": false,
		"metadata": object{}, "next_payment_attempt": nil, "number": number, "on_behalf_of": nil,
		"paid": inv.Status == "paid", "paid_out_of_band": false, "payment_intent": nil,
		"payment_settings": object{
			"default_mandate": nil, "payment_method_options": nil, "payment_method_types": nil,
		},
		"period_end": inv.PeriodEnd.Unix(), "period_start": inv.PeriodStart.Unix(),
		"post_payment_credit_notes_amount": 0, "pre_payment_credit_notes_amount": 0, "quote": nil, "receipt_number": nil,
		"rendering": nil, "shipping_cost": nil, "shipping_details": nil, "starting_balance": 0,
		"statement_descriptor": nil, "status": inv.Status,
		"status_transitions": object{
			"finalized_at": unixOrNull(inv.FinalizedAt), "marked_uncollectible_at": nil,
			"paid_at": unixOrNull(inv.PaidAt), "voided_at": nil,
		},
		"subscription":         inv.Sold.ID,
		"subscription_details": object{"metadata": renderMetadata(inv.Sold.Metadata)},
		"subtotal":             total, "subtotal_excluding_tax": total, "tax": nil, "test_clock": nil, "total": total,
		"total_discount_amounts": []any{}, "total_excluding_tax": total, "total_tax_amounts": []any{},
		"transfer_data": nil, "webhooks_delivered_at": nil,
	}
}

func renderLine(inv *invoice) object {
	sold := inv.Sold
	return object{
		"id": inv.LineID, "object": "line_item", "amount": inv.total(), "amount_excluding_tax": inv.total(),
		"currency":         currency,
		"description":      fmt.Sprintf("%d × %s (at %s / month)", sold.Quantity, sold.Price.Product.Name, dollars(sold.Price.UnitAmount)),
		"discount_amounts": []any{}, "discountable": true, "discounts": []any{}, "livemode": false,
		"metadata": renderMetadata(sold.Metadata),
		"period":   object{"start": sold.PeriodStart.Unix(), "end": sold.PeriodEnd.Unix()},
		"price":    renderPrice(sold.Price), "proration": false,
		"proration_details": object{"credited_items": nil}, "quantity": sold.Quantity,
		"subscription": sold.ID, "subscription_item": sold.ItemID, "subtotal": inv.total(), "tax_amounts": []any{},
		"tax_rates": []any{}, "type": "subscription",
		"unit_amount_excluding_tax": renderPrice(sold.Price)["unit_amount_decimal"],
	}
}
