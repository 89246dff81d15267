package stripesim

import (
	"fmt"
	"time"
)

type invoice struct {
	id       string
	lineID   string
	number   string
	customer *customer
	created  time.Time
	reason   string

	// What was sold, as it was: a later plan change must not rewrite an invoice.
	sold        subscription
	periodStart time.Time
	periodEnd   time.Time

	status      string
	finalizedAt time.Time
	paidAt      time.Time
}

// newInvoice drafts the invoice for the subscription's present period. The
// invoice's own period lies behind it and is empty for the first one; the line
// carries the period that is paid for.
func (s *Sim) newInvoice(cust *customer, sub *subscription, reason string, at time.Time) *invoice {
	cust.invoices++
	inv := &invoice{
		id: s.ids.next("in_1", 23), lineID: s.ids.next("il_1", 23), customer: cust, created: at, reason: reason,
		number: fmt.Sprintf("%s-%04d", cust.invoicePrefix, cust.invoices), status: "draft",
		periodStart: addMonths(sub.created, max(0, sub.cycle-1)), periodEnd: sub.periodStart,
	}
	sub.latestInvoice = inv.id
	inv.sold = *sub
	s.invoices.add(inv.id, inv)
	return inv
}

// settleInvoice takes a draft to paid; every payment succeeds here.
func (s *Sim) settleInvoice(inv *invoice) {
	s.emit(cause{}, "invoice.created", renderInvoice(inv), nil)
	inv.status, inv.finalizedAt = "open", inv.created
	s.emit(cause{}, "invoice.finalized", renderInvoice(inv), nil)
	inv.status, inv.paidAt = "paid", inv.created
	s.emit(cause{}, "invoice.paid", renderInvoice(inv), nil)
	s.emit(cause{}, "invoice.payment_succeeded", renderInvoice(inv), nil)
}

func (inv *invoice) total() int64 { return inv.sold.price.unitAmount * inv.sold.quantity }

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
	if inv.status == "paid" {
		paid, attempts = total, 1
	}
	var number any
	if inv.status != "draft" {
		number = inv.number
	}
	return object{
		"id": inv.id, "object": "invoice", "account_country": "US", "account_name": nil, "account_tax_ids": nil,
		"amount_due": total, "amount_overpaid": 0, "amount_paid": paid, "amount_paid_off_stripe": 0,
		"amount_remaining": total - paid, "amount_shipping": 0, "application": nil, "application_fee_amount": nil,
		"attempt_count": attempts, "attempted": attempts > 0, "auto_advance": inv.status != "paid",
		"automatic_tax":  object{"enabled": false, "liability": nil, "status": nil},
		"billing_reason": inv.reason, "charge": nil, "collection_method": "charge_automatically",
		"created": inv.created.Unix(), "currency": currency, "custom_fields": nil, "customer": inv.customer.id,
		"customer_address": nil, "customer_email": orNull(inv.customer.email), "customer_name": orNull(inv.customer.name),
		"customer_phone": orNull(inv.customer.phone), "customer_shipping": nil, "customer_tax_exempt": "none",
		"customer_tax_ids": []any{}, "default_payment_method": nil, "default_source": nil, "default_tax_rates": []any{},
		"description": nil, "discount": nil, "discounts": []any{}, "due_date": nil,
		"effective_at": unixOrNull(inv.finalizedAt), "ending_balance": 0, "footer": nil, "from_invoice": nil,
		"hosted_invoice_url": nil, "invoice_pdf": nil, "issuer": object{"type": "self"}, "last_finalization_error": nil,
		"latest_revision": nil, "lines": listOf("/v1/invoices/"+inv.id+"/lines", renderLine(inv)), "livemode": false,
		"metadata": object{}, "next_payment_attempt": nil, "number": number, "on_behalf_of": nil,
		"paid": inv.status == "paid", "paid_out_of_band": false, "payment_intent": nil,
		"payment_settings": object{
			"default_mandate": nil, "payment_method_options": nil, "payment_method_types": nil,
		},
		"period_end": inv.periodEnd.Unix(), "period_start": inv.periodStart.Unix(),
		"post_payment_credit_notes_amount": 0, "pre_payment_credit_notes_amount": 0, "quote": nil, "receipt_number": nil,
		"rendering": nil, "shipping_cost": nil, "shipping_details": nil, "starting_balance": 0,
		"statement_descriptor": nil, "status": inv.status,
		"status_transitions": object{
			"finalized_at": unixOrNull(inv.finalizedAt), "marked_uncollectible_at": nil,
			"paid_at": unixOrNull(inv.paidAt), "voided_at": nil,
		},
		"subscription":         inv.sold.id,
		"subscription_details": object{"metadata": renderMetadata(inv.sold.metadata)},
		"subtotal":             total, "subtotal_excluding_tax": total, "tax": nil, "test_clock": nil, "total": total,
		"total_discount_amounts": []any{}, "total_excluding_tax": total, "total_tax_amounts": []any{},
		"transfer_data": nil, "webhooks_delivered_at": nil,
	}
}

func renderLine(inv *invoice) object {
	sold := inv.sold
	return object{
		"id": inv.lineID, "object": "line_item", "amount": inv.total(), "amount_excluding_tax": inv.total(),
		"currency":         currency,
		"description":      fmt.Sprintf("%d × %s (at %s / month)", sold.quantity, sold.price.product.name, dollars(sold.price.unitAmount)),
		"discount_amounts": []any{}, "discountable": true, "discounts": []any{}, "livemode": false,
		"metadata": renderMetadata(sold.metadata),
		"period":   object{"start": sold.periodStart.Unix(), "end": sold.periodEnd.Unix()},
		"price":    renderPrice(sold.price), "proration": false,
		"proration_details": object{"credited_items": nil}, "quantity": sold.quantity,
		"subscription": sold.id, "subscription_item": sold.itemID, "subtotal": inv.total(), "tax_amounts": []any{},
		"tax_rates": []any{}, "type": "subscription",
		"unit_amount_excluding_tax": renderPrice(sold.price)["unit_amount_decimal"],
	}
}
